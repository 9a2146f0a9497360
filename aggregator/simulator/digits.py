"""Integers of ticks or lots to the decimal text each venue writes."""


def eight(units: int, decimals: int) -> str:
    """Binance's form, always 8 decimals: `eight(12, 1)` is `1.20000000`."""
    sign = "-" if units < 0 else ""
    if decimals > 8:
        whole, fraction = divmod(abs(units) // 10 ** (decimals - 8), 100_000_000)
    else:
        whole, fraction = divmod(abs(units) * 10 ** (8 - decimals), 100_000_000)
    return f"{sign}{whole}.{fraction:08d}"


def short(units: int, decimals: int) -> str:
    """OKX's form, without trailing zeros: `short(12500, 2)` is `125`."""
    if decimals == 0:
        return str(units)
    digits = str(units).rjust(decimals + 1, "0")
    fraction = digits[-decimals:].rstrip("0")
    return f"{digits[:-decimals]}.{fraction}" if fraction else digits[:-decimals]
