"""What Binance's REST interface accepts as parameters, and how it refuses the rest."""

import re

import orjson
from aiohttp import web

from aggregator.simulator.market import Instrument, Market

# Upper case, but any alphabet: the venue has symbols outside ASCII.
_SYMBOL = r"(?:[^\Wa-z]|[-.]){1,50}"
_ONE = re.compile(_SYMBOL)
# No space after the comma: the venue refuses that too.
_MANY = re.compile(rf'\[("{_SYMBOL}"(,"{_SYMBOL}")*)?\]')


class Refusal(Exception):  # noqa: N818 -- an answer, not a fault of ours
    """HTTP 400 with Binance's code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def illegal(name: str, legal: str) -> Refusal:
    """Return the refusal of a value of another form."""
    return Refusal(
        -1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."
    )


def instruments(market: Market, request: web.Request) -> list[Instrument] | None:
    """Return the instruments asked for by `symbol` or `symbols`; None = all."""
    query = request.query
    if "symbol" in query and "symbols" in query:
        raise Refusal(-1128, "Combination of optional parameters invalid.")
    if "symbol" in query:
        if not query["symbol"]:
            raise Refusal(-1105, "Parameter 'symbol' was empty.")
        if not _ONE.fullmatch(query["symbol"]):
            raise illegal("symbol", r"^[\w\-._&&[^a-z]]{1,50}$")
        names = [query["symbol"]]
    elif "symbols" in query:
        if not _MANY.fullmatch(query["symbols"]):
            raise illegal(
                "symbols",
                r'^\[("[\w\-._&&[^a-z]]{1,50}"(,"[\w\-._&&[^a-z]]{1,50}"){0,}){0,1}\]$',
            )
        names = orjson.loads(query["symbols"])
    else:
        return None
    if not names:
        raise Refusal(-1105, "Parameter 'symbols' was empty.")
    if len(set(names)) < len(names):
        raise Refusal(-1151, "Symbol is present multiple times in the list.")
    found = [market.by_symbol.get(name) for name in names]
    if None in found:
        raise Refusal(-1121, "Invalid symbol.")
    return [one for one in found if one is not None]


def instrument(market: Market, request: web.Request) -> Instrument:
    """Return the one asked for by `symbol`, which there has to be."""
    chosen = instruments(market, request)
    if not chosen:
        raise Refusal(
            -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."
        )
    return chosen[0]


def limit(request: web.Request, default: int, most: int) -> int:
    """Return `limit`, cut to the most that there can be."""
    wanted = min(whole(request, "limit", default), most)
    if wanted == 0:
        raise Refusal(-1130, "Data sent for parameter 'limit' is not valid.")
    return wanted


def whole(request: web.Request, name: str, default: int) -> int:
    """Return a parameter that is a whole number."""
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise illegal(name, "^[0-9]{1,20}$")
    return int(text)


def scale(request: web.Request) -> int:
    """Return 1000 where the client wants its times in microseconds, else 1."""
    unit = request.headers.get("X-MBX-TIME-UNIT", "").upper()
    return 1000 if unit == "MICROSECOND" else 1
