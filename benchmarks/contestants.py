"""Who takes part in benchmarks/fanout.py, and what each needs to be installed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers import prices

from aggregator.wire import PriceEncoder, payload_of

HERE = Path(__file__).parent
WINDOW_S = 0.001


def template() -> tuple[tuple[str, str, str, str], int]:
    """Return the message of all contestants, around its number and its times, and its size."""
    numbers = (1_111_111_111, 2_222_222_222_222_222, 3_333_333_333_333_333)
    encoder = PriceEncoder(prices.CHANNEL, prices.EXCHANGE, prices.instrument(0))
    frame = encoder.encode(prices.price(0), *numbers)
    assert frame is not None
    text = payload_of(frame).decode()
    head, rest = text.split(str(numbers[0]))
    received, rest = rest.split(str(numbers[1]))
    published, tail = rest.split(str(numbers[2]))
    return (head, received, published, tail), len(text)


PARTS, MESSAGE_BYTES = template()


@dataclass(frozen=True, slots=True)
class Contestant:
    """
    A server.

    `needs` says what is missing, if anything; `burst` is how many messages it gets at once where
    they are published as fast as possible; with `deflate` all its clients ask for compression.
    """

    name: str
    command: Callable[[Path, dict[str, Any]], list[str]]
    burst: int = 1
    window_s: float = 0.0
    raw: bool = False
    speak: str = ""
    deflate: bool = False
    needs: Callable[[], str | None] = lambda: None
    environ: dict[str, str] = field(default_factory=dict)


def broker(kind: str) -> Callable[[Path, dict[str, Any]], list[str]]:
    """Return how to start a broker with its publisher."""
    script = str(HERE / "peers" / "broker.py")
    return lambda _, orders: [sys.executable, script, json.dumps(orders), kind]


def missing_broker(kind: str) -> str | None:
    """Return what is missing for a broker."""
    here = Path(sys.executable).with_name(BROKERS[kind])
    program = shutil.which(BROKERS[kind], path=f"{here.parent}:{os.environ['PATH']}:/usr/sbin")
    if kind == "nchan" and program and not NCHAN.exists():
        return f"there is no {NCHAN}"
    return None if program else f"there is no {BROKERS[kind]}"


BROKERS = {"nats": "nats-server", "mosquitto": "mosquitto", "nchan": "nginx"}
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")


def python(script: str) -> Callable[[Path, dict[str, Any]], list[str]]:
    """Return how to start a server in Python."""
    return lambda _, orders: [sys.executable, str(HERE / "peers" / script), json.dumps(orders)]


def limit(folder: Path, orders: dict[str, Any]) -> list[str]:
    """Return how to start `limit.c`."""
    numbers = (orders["clients"], orders["burst"], orders["rate"])
    return [str(folder / "limit"), *map(str, numbers), *orders["parts"]]


def module(name: str) -> Callable[[], str | None]:
    """Return a check for a module."""
    return lambda: None if importlib.util.find_spec(name) else f"pip install {name}"


NODE = Path(sys.prefix) / "node" / "node_modules"


def node_ws(_: Path, orders: dict[str, Any]) -> list[str]:
    """Return how to start Node."""
    return ["node", str(HERE / "peers" / "node_ws.js"), json.dumps(orders)]


def needs_node() -> str | None:
    """Return what Node's contestant is missing."""
    if not shutil.which("node"):
        return "there is no node"
    return None if (NODE / "ws").exists() else f"npm install --prefix {NODE.parent} ws"


OURS, OURS_ONE = "ours, 16 joined", "ours, one at a time"
LIMIT1, LIMIT16 = "limit1", "limit16"
AIOHTTP, WEBSOCKETS = "aiohttp, send_str", "websockets, broadcast"
UWS1, UWS16 = "uWebSockets, 1 per tick", "uWebSockets, 16 per tick"
SLOW, NOT_SLOW = "ours, with a slow reader", "ours, without"
EACH_HIS_OWN, ALL_THE_SAME = "ours, 5 random of 500 each", "ours, the same 5 of 500"
OURS_DEFLATED, AIOHTTP_DEFLATED = "ours, 16 joined, deflated", "aiohttp, send_str, deflated"
WEBSOCKETS_DEFLATED = "websockets, broadcast, deflated"
UWS16_DEFLATED = "uWebSockets, 16 per tick, deflated"
CONTESTANTS = {
    each.name: each
    for each in (
        Contestant(OURS, python("ours.py"), 16, WINDOW_S),
        Contestant(OURS_ONE, python("ours.py")),
        Contestant(SLOW, python("ours.py"), window_s=WINDOW_S),
        Contestant(NOT_SLOW, python("ours.py"), window_s=WINDOW_S),
        Contestant(EACH_HIS_OWN, python("ours.py"), window_s=WINDOW_S),
        Contestant(ALL_THE_SAME, python("ours.py"), window_s=WINDOW_S),
        Contestant(LIMIT1, limit, raw=True),
        Contestant(LIMIT16, limit, 16, raw=True),
        Contestant(AIOHTTP, python("aiohttp_loop.py")),
        Contestant(WEBSOCKETS, python("websockets_broadcast.py"), needs=module("websockets")),
        Contestant("picows", python("picows_loop.py"), needs=module("picows")),
        Contestant(UWS1, python("socketify_topic.py"), needs=module("socketify")),
        Contestant(UWS16, python("socketify_topic.py"), 16, needs=module("socketify")),
        Contestant(
            "NATS, 16", broker("nats"), 16, speak="nats", needs=lambda: missing_broker("nats")
        ),
        Contestant(
            "mosquitto, 16",
            broker("mosquitto"),
            16,
            speak="mqtt",
            needs=lambda: missing_broker("mosquitto"),
        ),
        Contestant("nchan", broker("nchan"), speak="silent", needs=lambda: missing_broker("nchan")),
        Contestant("Node ws", node_ws, needs=needs_node, environ={"NODE_PATH": str(NODE)}),
        Contestant(OURS_DEFLATED, python("ours.py"), 16, WINDOW_S, deflate=True),
        Contestant(AIOHTTP_DEFLATED, python("aiohttp_loop.py"), deflate=True),
        Contestant(
            WEBSOCKETS_DEFLATED,
            python("websockets_broadcast.py"),
            deflate=True,
            needs=module("websockets"),
        ),
        Contestant(
            UWS16_DEFLATED,
            python("socketify_topic.py"),
            16,
            deflate=True,
            needs=module("socketify"),
        ),
    )
}
PEERS_ONE = (AIOHTTP, WEBSOCKETS, "picows", UWS1, "Node ws")
BROKERS_16 = ("NATS, 16", "mosquitto, 16", "nchan")
EVERYBODY = (OURS, LIMIT1, LIMIT16, *PEERS_ONE, UWS16, *BROKERS_16)
