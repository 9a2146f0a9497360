import ast
import asyncio
from pathlib import Path

import aiohttp
import pytest

import aggregator.simulator
from aggregator.simulator import Simulator, serve


async def test_stops_at_once_whatever_is_open(client):
    """Open sockets, half-open ones, held requests and delays do not hold up the stop."""
    before = asyncio.all_tasks()
    async with asyncio.timeout(5):
        async with Simulator(ticks_per_s=50) as simulator:
            sockets = [
                await client.ws_connect(url)
                for url in (simulator.okx_url, f"{simulator.binance_ws_url}/ws/btcusdt@trade")
            ]
            simulator.faults.add(venue="okx", kind="halfopen", for_s=100)
            simulator.faults.add(venue="binance", kind="delay", seconds=100)
            waiting = []
            for venue, url in (
                ("okx", f"{simulator.okx_rest_url}/api/v5/public/time"),
                ("binance", f"{simulator.binance_url}/api/v3/ping"),
            ):
                arrived = asyncio.create_task(simulator.wait_for_request(venue, "/api"))
                waiting.append(asyncio.create_task(client.get(url)))
                await arrived
        await asyncio.gather(*waiting, return_exceptions=True)
        for socket in sockets:
            await socket.close()
    left = {task for task in asyncio.all_tasks() - before if "simulator" in task.get_name()}
    assert not left


async def test_it_walks_by_itself(client):
    """With `ticks_per_s` data comes without anybody's doing."""
    async with (
        Simulator(ticks_per_s=100) as simulator,
        client.ws_connect(f"{simulator.binance_ws_url}/ws/btcusdt@trade") as socket,
    ):
        assert (await socket.receive_json())["e"] == "trade"


async def test_requests_commands_and_connections_are_recorded(simulator, client):
    """What clients did can be read and waited for; closed connections no longer count."""
    waiting = asyncio.create_task(simulator.wait_for_connection("okx"))
    async with client.ws_connect(simulator.okx_url) as socket:
        assert (await waiting).venue == "okx"
        assert simulator.connections("okx") == 1
        assert simulator.connections("binance") == 0
        await socket.send_str("ping")
        await socket.receive()
    async with client.get(f"{simulator.binance_url}/api/v3/depth?symbol=BTCUSDT") as response:
        assert response.status == 200
    seen = [(one.venue, one.method, one.path_qs) for one in simulator.requests]
    assert seen == [
        ("okx", "GET", "/ws/v5/public"),
        ("binance", "GET", "/api/v3/depth?symbol=BTCUSDT"),
    ]
    assert [command.text for command in simulator.commands] == ["ping"]
    assert simulator.connections("okx") == 0


async def test_serve_runs_until_cancelled():
    """`serve` calls back once it listens and frees the port when cancelled."""
    ready = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve("127.0.0.1", 0, on_ready=ready.set_result, ticks_per_s=10))
    simulator = await ready
    url = simulator.okx_url.replace("ws://", "http://")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.get(url)


async def test_a_walk_that_fails_is_no_quiet_market(monkeypatch):
    """An error in the walk ends `serve` with that error."""

    def broken(self):
        raise RuntimeError("broken walk")

    monkeypatch.setattr("aggregator.simulator.market.Market.step", lambda self: None)
    ready = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve("127.0.0.1", 0, on_ready=ready.set_result, ticks_per_s=100))
    await ready
    monkeypatch.setattr("aggregator.simulator.market.Market.step", broken)
    with pytest.raises(RuntimeError, match="broken walk"):
        await task


async def test_a_port_in_use_is_an_error(simulator):
    """Starting on a taken port raises, and leaves nothing behind."""
    with pytest.raises(OSError, match="in use"):
        async with Simulator(port=simulator.port):
            pass


def test_options_are_checked():
    """Unknown and negative options are errors."""
    with pytest.raises(TypeError, match="tick_per_s"):
        Simulator(tick_per_s=1)
    with pytest.raises(ValueError, match="cache_s"):
        Simulator(cache_s=-1)


def test_it_imports_nothing_else_of_the_aggregator():
    """The simulator stands alone: the product cannot share its mistakes with it."""
    for file in Path(aggregator.simulator.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert not name.startswith("aggregator") or name.startswith("aggregator.simulator")
