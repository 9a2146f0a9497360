"""Everything that belongs to somebody: the accounts of both venues and the ways to them."""

from aiohttp import web

from aggregator.simulator.account_pages import AccountPages
from aggregator.simulator.accounts import Accounts, now_ms
from aggregator.simulator.binance_account import BinanceAccount
from aggregator.simulator.binance_account_rest import BinanceAccountRest
from aggregator.simulator.binance_api import BinanceApi
from aggregator.simulator.binance_rest import BinanceRest
from aggregator.simulator.depth import Books
from aggregator.simulator.faults import Faults
from aggregator.simulator.keys import Key
from aggregator.simulator.market import Market
from aggregator.simulator.matching import Engine
from aggregator.simulator.okx_account_rest import OkxAccountRest
from aggregator.simulator.okx_private import OkxPrivate
from aggregator.simulator.okx_trade import OkxTrade


class Private:
    """The engine, and what speaks of it: `okx` and `binance` are the WebSockets."""

    def __init__(
        self,
        market: Market,
        books: dict[str, Books],
        faults: Faults,
        rest: BinanceRest,
        *,
        seed: int,
        okx_idle_s: float,
        okx_requests_per_hour: int,
        okx_account_push_s: float,
        okx_connections_per_channel: int,
        binance_weight_limit: int,
        binance_ping_s: float,
        binance_pong_timeout_s: float,
    ) -> None:
        self.engine = engine = Engine(market, books, Accounts(), seed, now_ms())
        self._rest = rest
        self._account = BinanceAccount(market, engine)
        self._trade = OkxTrade(market, engine)
        self.okx = OkxPrivate(
            market,
            engine,
            faults,
            idle_s=okx_idle_s,
            requests_per_hour=okx_requests_per_hour,
            account_push_s=okx_account_push_s,
            connections_per_channel=okx_connections_per_channel,
        )
        self.binance = BinanceApi(
            self._account,
            engine,
            faults,
            rest.charge,
            weight_limit=binance_weight_limit,
            ping_s=binance_ping_s,
            pong_timeout_s=binance_pong_timeout_s,
        )

    def routes(self) -> list[web.RouteDef]:
        """Return the routes that need a signature, and the simulator's own pages."""
        signed = BinanceAccountRest(self._account, self.engine, self._rest)
        pages = AccountPages(self.engine, self._revoked)
        okx = OkxAccountRest(self._trade, self.engine)
        return [*pages.routes(), *signed.routes("/binance"), *okx.routes()]

    def _revoked(self, key: Key) -> None:
        (self.okx if key.venue == "okx" else self.binance).revoke(key)
