"""The price updates of benchmarks/fanout.py; as messages they have 300 bytes."""

from __future__ import annotations

from aggregator.model import PriceUpdate

CHANNEL = "prices"
EXCHANGE = "binance"


def instrument(number: int) -> str:
    """Return the name of an instrument; all are of one length."""
    return f"C{number:03d}/USDT"


def price(number: int) -> PriceUpdate:
    """Return a new price."""
    return PriceUpdate(
        instrument=instrument(number), price="67123.5000", data=b'{"price":"67123.50000"}'
    )
