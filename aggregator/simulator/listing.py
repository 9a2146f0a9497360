"""What is listed: instruments with a starting price, tick size and lot size.

Prices are made up, near what the market once paid; only their magnitudes matter.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listing:
    """One instrument before the first step; price in ticks, sizes as numbers of decimals."""

    base: str
    quote: str
    ticks: int
    decimals: int
    lot_decimals: int
    on_okx: bool = True
    trading: bool = True


# base, quote, price text (its decimals are the tick size), decimals of a lot.
_SPOT = """
BTC USDT 67012.50 5
ETH USDT 3481.27 4
SOL USDT 162.43 3
BNB USDT 601.35 3
XRP USDT 0.6214 1
DOGE USDT 0.14213 0
ADA USDT 0.4417 1
TRX USDT 0.1312 1
AVAX USDT 31.250 2
LINK USDT 14.620 2
DOT USDT 6.410 2
MATIC USDT 0.5520 1
LTC USDT 73.180 3
BCH USDT 382.60 3
UNI USDT 8.412 2
ATOM USDT 6.913 2
ETC USDT 22.310 2
XLM USDT 0.09731 0
NEAR USDT 5.214 1
APT USDT 7.152 2
FIL USDT 4.618 2
ARB USDT 0.7821 1
OP USDT 1.8240 2
SUI USDT 0.91350 1
INJ USDT 24.310 2
AAVE USDT 95.120 3
TON USDT 7.0150 2
SHIB USDT 0.00001742 0
PEPE USDT 0.00001121 0
BONK USDT 0.00002534 0
ETH BTC 0.05194 4
SOL BTC 0.0024240 2
BTC USDC 67010.20 5
ETH USDC 3481.05 4
"""


def _parse(line: str) -> Listing:
    base, quote, price, lot_decimals = line.split()
    whole, _, fraction = price.partition(".")
    return Listing(base, quote, int(whole + fraction), len(fraction), int(lot_decimals))


LISTED = tuple(_parse(line) for line in _SPOT.split("\n") if line)

# Binance alone: a halted pair, and a name outside ASCII, which the venue really has.
BINANCE_ONLY = (
    Listing("WAVES", "USDT", 9830, 4, 2, on_okx=False, trading=False),
    Listing("币安人生", "USDT", 18120, 5, 0, on_okx=False),
)

MAX_EXTRA = 3_500


def extra_listings(count: int) -> tuple[Listing, ...]:
    """`count` more instruments (X0001/USDT, ...) for load tests, at most MAX_EXTRA."""
    if not 0 <= count <= MAX_EXTRA:
        raise ValueError(f"extra_instruments: {count} is not within 0 and {MAX_EXTRA}")
    return tuple(
        Listing(f"X{number:04d}", "USDT", 2_000 + number * 37 % 90_000, number % 5 + 1, number % 4)
        for number in range(1, count + 1)
    )
