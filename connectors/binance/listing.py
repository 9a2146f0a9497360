"""
Binance: which symbols there are, what the venue allows, and what a request weighs.

https://developers.binance.com/docs/binance-spot-api-docs/rest-api/general-endpoints
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from msgspec import Raw, Struct, json

from aggregator import api

BASE_URL = "https://data-api.binance.vision"
"""Market data alone, without a key, and where the main host is refused."""
BUDGET = api.Budget(per_minute=6000, used_header="X-MBX-USED-WEIGHT-1M")
NAMES = "names"
"""The key of the request for the names; symbols are in upper case."""
MAX_NAMED = 100
"""To name more symbols than this weighs as much as to ask for all."""
INSTRUMENT = re.compile(r'[^\s,:*"\\/]+/[^\s,:*"\\/]+')


class Market(Struct, gc=False):
    """A row of `exchangeInfo`."""

    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str


class Listing(NamedTuple):
    """`trading`: the instruments by symbol; `unknown`: those asked for that do not trade."""

    trading: dict[str, str]
    unknown: list[api.UnknownInstrument]


def names_request(max_age_s: float) -> api.Request:
    """Return the request for the names, to be left out for `max_age_s` seconds afterwards."""
    params = {"showPermissionSets": "false"}
    return api.Request("/api/v3/exchangeInfo", params, key=NAMES, weight=20, max_age_s=max_age_s)


def read_names(body: bytes, listed: Sequence[str]) -> Listing:
    """Read the answer to `names_request`; without anything listed, all that trade are wanted."""
    markets = json.decode(json.decode(body, type=dict[str, Raw])["symbols"], type=list[Market])
    known = {f"{m.baseAsset}/{m.quoteAsset}".upper(): m for m in markets}
    wanted = listed or [n for n in known if n.isprintable() and INSTRUMENT.fullmatch(n)]
    trading, unknown = {}, []
    for name in wanted:
        market = known.get(name)
        if market is not None and market.status == "TRADING":
            trading[market.symbol] = name
        elif listed:
            status = f"status {market.status}" if market else "not listed by the venue"
            unknown.append(api.UnknownInstrument(name, api.excerpt(status.encode())))
    return Listing(trading, unknown)


def day_request(symbols: Collection[str] | None, key: str = "") -> api.Request:
    """Return the request for the 24 h tickers of these symbols, `None` for all."""
    if symbols is None or len(symbols) > MAX_NAMED:
        return api.Request("/api/v3/ticker/24hr", key=key, weight=80)
    params = {"symbols": json.encode(list(symbols)).decode()}
    weight = 2 if len(symbols) <= 20 else 40
    return api.Request("/api/v3/ticker/24hr", params, key=key, weight=weight)


def depth_request(symbol: str, limit: int) -> api.Request:
    """Return the request for a book of so many levels; its key is the symbol."""
    weight = 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1000 else 250
    params = {"symbol": symbol, "limit": str(limit)}
    return api.Request("/api/v3/depth", params, key=symbol, weight=weight)
