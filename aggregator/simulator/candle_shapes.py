"""Candles in JSON: Binance's `klines` and `kline`, OKX's `candles` of both kinds."""

from typing import Any

from aggregator.simulator.binance_shapes import now_ms
from aggregator.simulator.candles import Candle
from aggregator.simulator.digits import eight, short
from aggregator.simulator.market import Instrument

_LETTERS = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B")


def kline_row(one: Instrument, candle: Candle, interval_ms: int, scale: int = 1) -> list[Any]:
    """Return a row of REST `klines`; `scale` is 1000 when the client asked for microseconds."""
    lots, money = one.lot_decimals, one.decimals + one.lot_decimals
    return [
        candle.start_ms * scale,
        *(eight(ticks, one.decimals) for ticks in _prices(candle)),
        eight(candle.volume, lots),
        (candle.start_ms + interval_ms) * scale - 1,
        eight(candle.turnover, money),
        candle.last_id - candle.first_id + 1,
        eight(candle.bought, lots),
        eight(candle.bought_turnover, money),
        "0",
    ]


def kline(
    one: Instrument, candle: Candle, name: str, interval_ms: int, *, closed: bool
) -> dict[str, Any]:
    """`kline`."""
    row = dict(zip(_LETTERS, kline_row(one, candle, interval_ms), strict=True))
    ids = {"s": one.symbol, "i": name, "f": candle.first_id, "L": candle.last_id, "x": closed}
    return {"e": "kline", "E": now_ms(), "s": one.symbol, "k": row | ids}


def okx_row(one: Instrument, candle: Candle, *, closed: bool) -> list[str]:
    """Return a row of the channels `candle...` and of REST `market/candles`."""
    turnover = short(candle.turnover, one.decimals + one.lot_decimals)
    return [
        str(candle.start_ms),
        *(short(ticks + one.okx_offset, one.decimals) for ticks in _prices(candle)),
        short(candle.volume, one.lot_decimals),
        turnover,
        turnover,
        "1" if closed else "0",
    ]


def _prices(candle: Candle) -> tuple[int, int, int, int]:
    return candle.open, candle.high, candle.low, candle.close
