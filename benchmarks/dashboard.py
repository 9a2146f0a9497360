"""
The dashboard in Chromium: first paint with data, frames a second, and what its heap grows by.

    .venv-bench/bin/python benchmarks/dashboard.py [--seconds 3600]

A daemon in a process of its own publishes 100 prices a second of 500 instruments at three venues.
Frames are those of the browser's own trace. A mark of one pixel moves with each of them, so that
each has something to draw; frames that were late are missing from the count. The heap is looked at
after a full collection, at the start of the measurement and at its end. What it grows by is told as
measured, and as it would be after an hour: a line through two points, which an hour alone can show.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import report

INSTRUMENTS = 500
VENUES = ("alpha", "beta", "gamma")
RATE = 100
OPENINGS = 7
WARM_S = 30.0
"""Until then caches fill: formats, the small charts, the code that the browser has compiled."""
TRACED_S = 20.0
"""At the end of the measurement; a trace of all of it would be gigabytes."""
CATEGORIES = "devtools.timeline,disabled-by-default-devtools.timeline.frame"
HOUR_S = 3600
MARK = """() => {
  const mark = document.createElement("i");
  mark.style.cssText =
    "position:fixed;left:0;top:0;width:1px;height:1px;background:#888;will-change:transform";
  document.body.append(mark);
  let number = 0;
  const step = () => {
    mark.style.transform = `translateX(${(number += 1) % 2}px)`;
    requestAnimationFrame(step);
  };
  step();
}"""
SCROLL = "(top) => { document.getElementById('grid').scrollTop = top; }"


def serve() -> None:
    """Be the daemon: publish for ever, and say on standard output where."""
    from aggregator.app import Daemon
    from aggregator.config import Config, Server
    from aggregator.model import PriceUpdate

    async def publish() -> None:
        daemon = Daemon(Config("benchmarks/dashboard.py", Server(port=0), ()))
        names = [f"C{number:03d}/USDT" for number in range(INSTRUMENTS)]
        for venue in VENUES:
            daemon.hub.add_channel(f"{venue}_prices", venue, names)
        places = itertools.cycle((venue, name) for name in names for venue in VENUES)

        def one(number: int) -> None:
            venue, name = next(places)
            now_us = daemon.hub.now_us()
            price = f"{1000 + number % 997}.{number % 90 + 10}00"
            more = {"bid": price, "ask": price, "volume_24h": "1598.25", "change_24h_pct": "0.25"}
            update = PriceUpdate(name, price, b'{"made":"up"}', now_us, **more)
            daemon.hub.publish(daemon.hub.channels[f"{venue}_prices"], update, now_us)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(daemon.run(asyncio.Event()))
            for number in range(INSTRUMENTS * len(VENUES)):
                one(number)
            while not daemon.server.port:  # noqa: ASYNC110 - it does not say when
                await asyncio.sleep(0.01)
            print(daemon.server.port, flush=True)
            start = time.monotonic()
            for number in itertools.count():
                await asyncio.sleep(max(0.0, start + number / RATE - time.monotonic()))
                one(number)

    asyncio.run(publish())


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """Run the browser, without a window."""
    from playwright.async_api import async_playwright

    async with async_playwright() as started:
        browser = await started.chromium.launch(executable_path=shutil.which("chromium"))
        yield browser
        await browser.close()


async def first_paint_s(browser: Any, url: str) -> float:
    """Open the page, with empty caches; return when the first prices are painted."""
    context = await browser.new_context(viewport={"width": 1360, "height": 900})
    page = await context.new_page()
    await page.goto(url, wait_until="commit")
    mark = "performance.getEntriesByName('data')[0]"
    painted = f"() => {mark} && document.querySelector('.cell.venue .price').textContent"
    await page.wait_for_function(painted)
    at: float = await page.evaluate(f"{mark}.startTime")
    await context.close()
    return at / 1000


async def heap_mb(session: Any) -> float:
    """Return what is left of the page's heap after a collection."""
    for _ in range(3):
        await session.send("HeapProfiler.collectGarbage")
    used = await session.send("Runtime.getHeapUsage")
    return float(used["usedSize"]) / 1e6


async def frames(session: Any, seconds: float) -> list[float]:
    """Trace; return when each frame was drawn, in seconds."""
    drawn: list[float] = []
    done = asyncio.Event()

    def collected(event: dict[str, Any]) -> None:
        drawn.extend(e["ts"] / 1e6 for e in event["value"] if e["name"] == "DrawFrame")

    session.on("Tracing.dataCollected", collected)
    session.on("Tracing.tracingComplete", lambda _: done.set())
    await session.send("Tracing.start", {"categories": CATEGORIES})
    await asyncio.sleep(seconds)
    await session.send("Tracing.end")
    await done.wait()
    return sorted(drawn)


async def measure(url: str, seconds: float) -> dict[str, float]:
    """Return the figures."""
    async with chromium() as browser:
        paints = [await first_paint_s(browser, url) for _ in range(OPENINGS)]
        page = await browser.new_page(viewport={"width": 1360, "height": 900})
        session = await page.context.new_cdp_session(page)
        whole = await browser.new_browser_cdp_session()
        await page.goto(url)
        await page.wait_for_function("() => performance.getEntriesByName('data').length")
        await page.evaluate(MARK)
        await asyncio.sleep(WARM_S)
        before, start = await heap_mb(session), time.monotonic()
        nodes = (await session.send("Memory.getDOMCounters"))["nodes"]
        # A reader scrolls now and then: rows stand for others, small charts are drawn anew.
        while (left := start + seconds - TRACED_S - time.monotonic()) > 0:
            await asyncio.sleep(min(10.0, left))
            await page.evaluate(SCROLL, int(left * 37) % 20_000)
        drawn = await frames(whole, TRACED_S)
        grown = await heap_mb(session) - before
        took = time.monotonic() - start
        more_nodes = (await session.send("Memory.getDOMCounters"))["nodes"] - nodes
    gaps = sorted(b - a for a, b in itertools.pairwise(drawn))
    return {
        "first_paint_s": report.median(paints),
        "slowest_paint_s": max(paints),
        "fps": (len(drawn) - 1) / (drawn[-1] - drawn[0]),
        "gap_p99_ms": 1000 * gaps[int(len(gaps) * 0.99)],
        "measured_s": took,
        "heap_mb": before,
        "grown_mb": grown,
        "grown_hour_mb": grown * HOUR_S / took,
        "grown_nodes": more_nodes,
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="The dashboard in Chromium.")
    parser.add_argument("--seconds", type=float, default=180.0, help="how long to measure")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve()
        return
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        try:
            port = int(daemon.stdout.readline())
            found = asyncio.run(measure(f"http://127.0.0.1:{port}/", given.seconds))
        finally:
            daemon.terminate()
    hours = "as measured" if found["measured_s"] >= HOUR_S else "by a line through two points"
    rows = [
        ["first paint with data, median", f"{found['first_paint_s']:.2f} s", "1 s"],
        ["the slowest of them", f"{found['slowest_paint_s']:.2f} s", ""],
        ["frames a second", f"{found['fps']:.1f}", "55"],
        ["between two frames, p99", f"{found['gap_p99_ms']:.1f} ms", ""],
        ["measured for", f"{found['measured_s']:.0f} s", ""],
        ["heap at the start", f"{found['heap_mb']:.1f} MB", ""],
        ["it has grown by", f"{found['grown_mb']:.2f} MB", ""],
        [f"in an hour, {hours}", f"{found['grown_hour_mb']:.1f} MB", "10 MB"],
        ["elements that have come", f"{found['grown_nodes']:.0f}", "0"],
    ]
    report.show("dashboard", ["what", "found", "to reach"], rows, **found)


if __name__ == "__main__":
    main()
