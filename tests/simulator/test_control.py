import asyncio

import pytest


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"venue": "nasdaq", "kind": "mute"}, "unknown venue"),
        ({"venue": "okx", "kind": "explode"}, "unknown kind"),
        ({"venue": "okx", "kind": "mute", "seconds": 1}, "unknown parameter"),
        ({"venue": "okx", "kind": "delay", "seconds": "1"}, "wrong type"),
        ({"venue": "okx", "kind": "delay", "seconds": True}, "wrong type"),
        ({"venue": "okx", "kind": "delay", "seconds": -1}, "negative"),
        ({"venue": "okx", "kind": "drop", "fraction": 2}, "fraction"),
        ({"venue": "okx", "kind": "status"}, "status"),
        ({"venue": "okx", "kind": "close", "code": 1}, "close code"),
        ({"venue": "okx", "kind": "mute", "count": 0}, "count"),
        ({"venue": "okx", "kind": "mute", "count": 1.5}, "count"),
        ({"venue": "okx", "kind": "mute", "for_s": 0}, "for_s"),
        ({"venue": "okx", "kind": "mute", "for_s": "1"}, "for_s"),
        ({"venue": "okx", "kind": "mute", "instrument": 1}, "text"),
        ({"venue": "okx", "kind": "close", "instrument": "BTC-USDT"}, "whole connections"),
        ({"venue": "binance", "kind": "notice"}, "okx alone"),
        ({"venue": "okx"}, "kind"),
        ({"venue": 1, "kind": "mute"}, "venue"),
        ([], "object"),
    ],
)
async def test_wrong_orders_are_refused_with_the_reason(simulator, client, wrong, why):
    """`POST /faults` answers 400 and says what is wrong; nothing is added."""
    async with client.post(f"http://127.0.0.1:{simulator.port}/faults", json=wrong) as response:
        assert response.status == 400
        assert why in (await response.json())["error"]
    assert len(simulator.faults) == 0


async def test_control_over_http(simulator, client):
    """Faults are added, listed and removed over HTTP; the first page says what is there."""
    url = f"http://127.0.0.1:{simulator.port}"
    wanted = {"venue": "okx", "kind": "delay", "seconds": 2, "instrument": "btc/usdt", "count": 3}
    async with client.post(f"{url}/faults", json=wanted) as response:
        assert response.status == 201
        made = await response.json()
    assert made == {
        "id": 1, "venue": "okx", "kind": "delay", "instrument": "BTCUSDT", "channel": None,
        "path": None, "count": 3, "for_s": None, "remaining": 3, "seconds": 2,
    }  # fmt: skip
    async with client.get(f"{url}/faults") as response:
        assert await response.json() == [made]
    for status in (204, 404):
        async with client.delete(f"{url}/faults/1") as response:
            assert response.status == status
    async with client.post(f"{url}/faults", data=b"{") as response:
        assert response.status == 400
    simulator.faults.add(venue="okx", kind="mute")
    async with client.delete(f"{url}/faults") as response:
        assert response.status == 204
    assert len(simulator.faults) == 0
    async with client.get(url) as response:
        assert (await response.json())["urls"]["okx_url"] == simulator.okx_url


async def test_a_fault_ends_by_itself(simulator):
    """`for_s` ends a fault without anybody's doing."""
    ended = asyncio.get_running_loop().create_future()
    simulator.faults.listen(lambda _fault: None, ended.set_result)
    fault = simulator.faults.add(venue="okx", kind="mute", for_s=0.01)
    assert await ended is fault
    assert len(simulator.faults) == 0
