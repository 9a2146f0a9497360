"""
CoinGecko: the global market, the top coins and the trending ones over REST.

https://docs.coingecko.com/reference/crypto-global, `coins-markets` and `trending-search`

Numbers are JSON numbers, some with an exponent, and any of them may be null. Volumes are in USD,
not in the base, so they stay in `data`. Symbols are not unique: the best ranked coin has the name
of the symbol, another one that of its id. The source itself changes every 1 to 10 minutes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Raw, Struct, json

from aggregator.api import (
    Budget,
    Field,
    HttpAddress,
    KnownInstruments,
    Options,
    Output,
    PayloadError,
    PollConnector,
    PollOptions,
    PriceUpdate,
    Request,
    Row,
    SecretStr,
    Unhandled,
)


class GeckoOptions(PollOptions):
    """What the section of a CoinGecko feed may contain."""

    base_url: HttpAddress = "https://api.coingecko.com/api/v3"
    """Where the venue's REST interface is; the paths are appended."""
    api_key: SecretStr | None = None
    """The key of a Demo plan, or of a paid one if the host begins with "pro-api."."""


class TopOptions(GeckoOptions):
    """What the section of a `coingecko.top` feed may contain."""

    limit: Annotated[int, Field(ge=1, le=250)] = 100
    """How many coins, from the largest market capitalisation down."""


PRO = "://pro-api."
"""In the address of the paid plans."""
NULL = Raw(b"null")
NUMBER = re.compile(r'("?)(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)\1')
NAME = re.compile(r'[^\s,:*"\\/]+')
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Usd(Struct, gc=False):
    """A number in many currencies, of which one counts."""

    usd: Raw = NULL


class Market(Struct, gc=False):
    """The `data` of `/global`."""

    total_market_cap: Usd
    market_cap_change_percentage_24h_usd: Raw = NULL
    updated_at: Annotated[int, Meta(ge=0, lt=10**10)] | None = None


class Details(Struct, gc=False):
    """The `data` of an item of `/search/trending`; answers of old have none."""

    price: Raw = NULL
    price_change_percentage_24h: Usd | None = None


class Coin(Struct, gc=False):
    """A row of `/coins/markets`, or an item of `/search/trending`, which has `data`."""

    id: str
    symbol: str
    market_cap_rank: int | None = None
    current_price: Raw = NULL
    price_change_percentage_24h: Raw = NULL
    last_updated: Annotated[datetime, Meta(tz=True)] | None = None
    data: Details | None = None


DOCUMENTED = MappingProxyType(
    {
        "global": Row(
            "active_cryptocurrencies:int upcoming_icos:int0 ongoing_icos:int0 ended_icos:int0 "
            "markets:int total_market_cap:object total_volume:object market_cap_percentage:object "
            "market_cap_change_percentage_24h_usd:float0 volume_change_percentage_24h_usd:float0? "
            "updated_at:int"
        ),
        "coins/markets": Row(
            "id:text symbol:text name:text image:text current_price:float? market_cap:float0? "
            "market_cap_rank:int0? market_cap_rank_with_rehypothecated:int0? "
            "fully_diluted_valuation:float0? total_volume:float0? high_24h:float0? "
            "low_24h:float0? price_change_24h:float0? price_change_percentage_24h:float0? "
            "total_supply:float0? market_cap_change_24h:float0? "
            "market_cap_change_percentage_24h:float0? circulating_supply:float0? "
            "max_supply:float0? ath:float? ath_change_percentage:float0? ath_date:text? "
            "atl:float0? atl_change_percentage:float0? atl_date:text? roi:object? "
            "last_updated:text?"
        ),
        "search/trending": Row(
            "id:text coin_id:int name:text symbol:text market_cap_rank:int0? thumb:text "
            "small:text large:text slug:text price_btc:float0 score:int0 data:object?"
        ),
    }
)


class _Gecko(PollConnector):
    """What the three share: one request, with the key if there is one."""

    exchange = "coingecko"
    documented = DOCUMENTED
    options_type: ClassVar[type[GeckoOptions]] = GeckoOptions
    options: GeckoOptions
    budget = Budget(per_minute=30)
    path: ClassVar[str]

    @classmethod
    def budget_for(cls, options: Options) -> Budget:
        """Return the Demo plan's month as well, where there is a key of it."""
        demo = getattr(options, "api_key", None) and PRO not in getattr(options, "base_url", "")
        return Budget(per_minute=30, per_month=10_000) if demo else cls.budget

    def requests(self) -> Iterable[Request]:
        """Ask for everything at once."""
        key = self.options.api_key
        plan = "pro" if PRO in self.options.base_url else "demo"
        headers = {f"x-cg-{plan}-api-key": key.get_secret_value()} if key else {}
        return [Request(self.path, self._params(), headers)]

    def rows(self, payload: Any) -> Iterable[tuple[str, object]]:
        """Yield the coins of an answer, or the market."""
        if isinstance(payload, list):
            return [("coins/markets", row) for row in payload]
        if "coins" in payload:
            return [("search/trending", row["item"]) for row in payload["coins"]]
        return [("global", payload["data"])]

    def _params(self) -> dict[str, str]:
        return {}


class Global(_Gecko):
    """The market capitalisation of all coins together."""

    path = "/global"

    @classmethod
    def instruments_of(cls, options: object) -> frozenset[str]:
        """There is one."""
        del options
        return frozenset({"GLOBAL/USD"})

    def on_response(self, request: Request, body: bytes) -> Iterator[PriceUpdate]:
        """Translate one answer."""
        del request
        raw = json.decode(body, type=dict[str, Raw])["data"]
        market = json.decode(raw, type=Market)
        price, at = _number(market.total_market_cap.usd) or "", market.updated_at
        time = at * 1_000_000 if at is not None else None
        change = _number(market.market_cap_change_percentage_24h_usd)
        yield PriceUpdate("GLOBAL/USD", price, raw, time, change_24h_pct=change)


class Top(_Gecko):
    """The coins of the largest market capitalisation."""

    options_type = TopOptions
    options: TopOptions
    path = "/coins/markets"

    def on_response(self, request: Request, body: bytes) -> Iterator[Output]:
        """Translate one answer."""
        del request
        yield from _coins(json.decode(body, type=list[Raw]))

    def _params(self) -> dict[str, str]:
        limit = str(self.options.limit)
        return {"vs_currency": "usd", "order": "market_cap_desc", "per_page": limit, "page": "1"}


class Trending(_Gecko):
    """The coins that people search for."""

    path = "/search/trending"

    def on_response(self, request: Request, body: bytes) -> Iterator[Output]:
        """Translate one answer."""
        del request
        coins = json.decode(body, type=dict[str, Raw])["coins"]
        yield from _coins([row["item"] for row in json.decode(coins, type=list[dict[str, Raw]])])


def _coins(rows: list[Raw]) -> Iterator[Output]:
    coins = [json.decode(raw, type=Coin) for raw in rows]
    names = _names(coins)
    if not names:
        raise PayloadError("an answer without coins")
    # A coin that is no longer among them has no price here any more.
    yield KnownInstruments(frozenset(names.values()))
    for n, (raw, coin) in enumerate(zip(rows, coins, strict=True)):
        details = coin.data or Details(coin.current_price, Usd(coin.price_change_percentage_24h))
        change, at = details.price_change_percentage_24h or Usd(), coin.last_updated
        price, percent = _number(details.price) or "", _number(change.usd)
        time = (at - EPOCH) // timedelta(microseconds=1) if at is not None else None
        if n in names:
            yield PriceUpdate(names[n], price, raw, time, change_24h_pct=percent)
        else:
            yield Unhandled("coin without a name of its own")


def _names(coins: list[Coin]) -> dict[int, str]:
    """Return the instruments by the coins' places; a coin with no usable name left has none."""
    places: dict[str, int] = {}
    for n in sorted(range(len(coins)), key=lambda n: (coins[n].market_cap_rank or 10**9, n)):
        texts = (coins[n].symbol.upper(), coins[n].id)
        usable = [t for t in texts if t.isprintable() and NAME.fullmatch(t) and t not in places]
        places.update(dict.fromkeys(usable[:1], n))
    return {n: f"{text}/USD" for text, n in places.items()}


def _number(raw: Raw) -> str | None:
    """Return the digits of a number, or of a text that is one."""
    match = NUMBER.fullmatch(str(raw, "utf-8"))
    return match[2] if match else None
