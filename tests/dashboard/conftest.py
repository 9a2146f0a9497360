"""A browser, pages in it, and daemons to look at: one without feeds, one with simulated venues."""

from __future__ import annotations

import re

import aiohttp
import pytest
from dashboard.desk import Desk
from dashboard.screens import Screen

VENUES = """
[server]
port = {port}
{server}
[feeds.binance_24hr]
connector = "binance.24hr"
instruments = ["BTC/USDT", "ETH/USDT"]
interval_s = 1
[feeds.binance_orderbook]
connector = "binance.orderbook"
instruments = ["BTC/USDT"]
interval_s = 1
[feeds.binance_trades]
connector = "binance.trades"
instruments = ["BTC/USDT"]
[feeds.coingecko_top]
connector = "coingecko.top"
[feeds.okx_ticker]
connector = "okx.ticker"
instruments = ["BTC/USDT", "SOL/USDT"]
stale_after_s = 1
max_backoff_s = 0.5
[feeds.okx_books]
connector = "okx.books"
instruments = ["BTC/USDT"]
stale_after_s = 2
max_backoff_s = 0.5
"""


@pytest.fixture
async def look(browser):
    """Return a function that opens a page; at the end none may have done anything wrong."""
    screens: list[Screen] = []

    async def look(url: str, view: str = "", **context) -> Screen:
        options = {"viewport": {"width": 1280, "height": 800}, "locale": "en-GB", **context}
        page = await (await browser.new_context(**options)).new_page()
        screens.append(Screen(page, url))
        await screens[-1].open(view)
        return screens[-1]

    yield look
    for screen in screens:
        assert await screen.clean() == []


@pytest.fixture
async def desk():
    """Yield a daemon whose prices the test publishes; two venues have BTC/USDT."""
    async with Desk().running() as desk:
        desk.channel("alpha_prices", "alpha", ["BTC/USDT", "ETH/USDT"])
        desk.channel("beta_prices", "beta", ["BTC/USDT"])
        yield desk


class Rehearsal:
    """A daemon with simulated venues, in a process of its own."""

    def __init__(self, process, url: str, venues: str) -> None:
        self.process = process
        self.url = url
        self._venues = venues

    async def break_(self, **fault: object) -> None:
        """Switch a fault of the venues on."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self._venues}faults", json=fault) as response,
        ):
            assert response.status < 300, await response.text()

    async def mend(self) -> None:
        """Switch all of them off."""
        async with aiohttp.ClientSession() as session:
            await session.delete(f"{self._venues}faults")


@pytest.fixture
def rehearse(start, tmp_path):
    """Return a function that starts one, with more of `[server]` if need be."""

    async def rehearse(server: str = "", port: int = 0) -> Rehearsal:
        path = tmp_path / "aggregator.toml"
        path.write_text(VENUES.format(server=server, port=port))
        process = await start("demo", "--config", path)
        [line] = await process.logged("venues simulated at")
        venues = re.search(r"simulated at (http://[^\"\s]+)", line)[1]
        url = (await process.url()).replace("ws://", "http://").removesuffix("/ws")
        return Rehearsal(process, url, venues)

    return rehearse
