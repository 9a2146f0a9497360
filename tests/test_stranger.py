"""A connector in a distribution of its own: found, configured, run, without a change here."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

CONNECTORS = '''
"""Connectors for a venue that the project has never heard of."""

import msgspec

from aggregator.api import (
    Acknowledged,
    PollConnector,
    PollOptions,
    PriceUpdate,
    Request,
    Send,
    StreamConnector,
    Unhandled,
)


class QuoteOptions(PollOptions):
    base_url: str = "https://venue.example"
    instrument: str
    """Which one to ask for."""


class Quote(msgspec.Struct):
    last: str
    time_ms: int


class Quotes(PollConnector):
    """The last price, by polling."""

    exchange = "bazaar"
    options_type = QuoteOptions

    def requests(self):
        return [Request("/quote", {"pair": self.options.instrument.replace("/", "")})]

    def on_response(self, request, body):
        quote = msgspec.json.decode(body, type=Quote)
        yield PriceUpdate(self.options.instrument, quote.last, body, quote.time_ms * 1000)


class Message(msgspec.Struct):
    pair: str = ""
    last: str = ""
    ok: bool = False


class Trades(StreamConnector):
    """Each trade, as it happens."""

    exchange = "bazaar"

    def on_open(self):
        for instrument in self.options.instruments:
            yield Send(f"JOIN {instrument}", key=instrument)

    def on_frame(self, frame):
        message = msgspec.json.decode(frame, type=Message)
        if message.ok:
            return [Acknowledged(message.pair)]
        if not message.last:
            return [Unhandled("greeting")]
        return [PriceUpdate(message.pair, message.last, frame)]
'''
POINTS = {"bazaar.quotes": "bazaar_connectors:Quotes", "bazaar.trades": "bazaar_connectors:Trades"}
CONFIG = """
[server]
port = 0
[feeds.bazaar_quotes]
connector = "bazaar.quotes"
instrument = "TEA/COIN"
base_url = "http://127.0.0.1:{port}"
interval_s = 0.2
[feeds.bazaar_trades]
connector = "bazaar.trades"
instruments = ["TEA/COIN", "SILK/COIN"]
urls = ["ws://127.0.0.1:{port}/trades"]
"""


@pytest.fixture
async def venue():
    """Run the stranger's venue; returns its port."""

    async def quote(request):
        assert request.query["pair"] == "TEACOIN"
        return web.Response(text='{"last": "3.140", "time_ms": 1765211445123, "more": 1}')

    async def trades(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str('{"hello": true}')
        async for message in socket:
            pair = message.data.removeprefix("JOIN ")
            await socket.send_json({"pair": pair, "ok": True})
            await socket.send_str(f'{{"pair":"{pair}","last":"0.00000010"}}')
        return socket

    application = web.Application()
    application.router.add_get("/quote", quote)
    application.router.add_get("/trades", trades)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_a_strangers_connectors_run(venue, start, connect, add_distribution, tmp_path):
    """One polled, one streamed, found by entry point alone; clients receive what they say."""
    site = add_distribution("bazaar", {"bazaar_connectors": CONNECTORS}, POINTS)
    path = tmp_path / "bazaar.toml"
    path.write_text(CONFIG.format(port=venue))
    daemon = await start("run", "--config", path, environ={"PYTHONPATH": str(site)})
    url = await daemon.url()
    await daemon.logged(r"feed bazaar_\w+ live", times=2)
    client = await connect(url)
    await client.send(type="subscribe", channels=["bazaar_quotes", "bazaar_trades:SILK/COIN"])
    ack = await client.receive()
    assert ack["type"] == "subscribed"
    quote = await client.until(lambda message: message["channel"] == "bazaar_quotes")
    assert (quote["type"], quote["price"]) == ("price_update", "3.140")
    assert (quote["exchange"], quote["instrument"]) == ("bazaar", "TEA/COIN")
    assert quote["exchange_us"] == 1_765_211_445_123_000
    assert quote["data"] == {"last": "3.140", "time_ms": 1765211445123, "more": 1}
    await client.until(lambda m: m["channel"] == "bazaar_quotes" and m["seq"] > quote["seq"])
    await client.send(type="subscribe", channels=["bazaar_trades:SILK/COIN"])
    trade = await client.until(lambda message: message.get("channel") == "bazaar_trades")
    assert (trade["price"], trade["exchange_us"]) == ("0.00000010", None)
    assert trade["data"] == {"pair": "SILK/COIN", "last": "0.00000010"}
    address = url.replace("ws://", "http://").replace("/ws", "/channels")
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        listed = {c["channel"]: c for c in (await answer.json())["channels"]}
    assert listed["bazaar_trades"]["connector"] == "bazaar.trades"
    assert listed["bazaar_trades"]["instruments"] == ["SILK/COIN", "TEA/COIN"]


async def test_a_broken_one_is_down_and_the_others_run(
    venue, start, connect, add_distribution, tmp_path
):
    """Why is said on the `system` channel."""
    modules = {"bazaar_connectors": CONNECTORS, "broken": "raise RuntimeError('no such library')"}
    site = add_distribution("bazaar", modules, POINTS | {"bazaar.broken": "broken:X"})
    path = tmp_path / "bazaar.toml"
    path.write_text(CONFIG.format(port=venue) + '[feeds.odd]\nconnector = "bazaar.broken"\n')
    daemon = await start("run", "--config", path, environ={"PYTHONPATH": str(site)})
    client = await connect(await daemon.url())
    await daemon.logged(r"feed bazaar_\w+ live", times=2)
    await client.send(type="subscribe", channels=["system"])
    status = await client.until(lambda m: m.get("data", {}).get("feed") == "odd")
    assert status["data"]["state"] == "down"
    assert "no such library" in status["data"]["reason"]


async def test_the_command_line_shows_them(run_cli, add_distribution):
    """As it shows ours."""
    site = add_distribution("bazaar", {"bazaar_connectors": CONNECTORS}, POINTS)
    result = await asyncio.to_thread(run_cli, "connectors", environ={"PYTHONPATH": str(site)})
    rows = [line.split(None, 5) for line in result.stdout.splitlines() if "bazaar" in line]
    assert rows == [
        ["bazaar.quotes", "bazaar", "polled", "bazaar", "1.2", "The last price, by polling."],
        ["bazaar.trades", "bazaar", "streamed", "bazaar", "1.2", "Each trade, as it happens."],
    ]
    assert result.stderr == ""
