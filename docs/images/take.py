"""
Take the pictures of the dashboard, in both themes, from a daemon with simulated venues.

    .venv/bin/python docs/images/take.py [SECONDS]

It runs the daemon for so long before (default: 320 s), so that the charts are full.
"""  # noqa: INP001 - a program, no part of a package

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from playwright.async_api import async_playwright

HERE = Path(__file__).parent
BASES = (
    *("BTC", "ETH", "SOL", "BNB", "XRP", "DOGE", "ADA", "TRX", "AVAX", "LINK", "DOT", "LTC", "BCH"),
    *("UNI", "ATOM", "ETC", "XLM", "NEAR", "APT", "FIL", "ARB", "OP", "SUI", "INJ", "AAVE", "TON"),
)
MANY = json.dumps([f"{base}/USDT" for base in BASES])
CONFIG = f"""
[server]
port = 0
[feeds.binance_ticker]
connector = "binance.ticker"
instruments = {MANY}
[feeds.binance_trades]
connector = "binance.trades"
instruments = ["BTC/USDT", "ETH/USDT"]
[feeds.okx_ticker]
connector = "okx.ticker"
instruments = {MANY}
[feeds.okx_books]
connector = "okx.books"
instruments = ["BTC/USDT", "ETH/USDT"]
[feeds.okx_trades]
connector = "okx.trades"
instruments = ["BTC/USDT", "ETH/USDT"]
stale_after_s = 3
"""
DESK, PHONE = {"width": 1360, "height": 860}, {"width": 390, "height": 844}


def start(config: Path) -> tuple[subprocess.Popen[str], str, str]:
    """Start the daemon; return it, the address of its page, and that of its venues."""
    command = [sys.executable, "-m", "aggregator", "demo", "--config", str(config)]
    daemon = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own
    assert daemon.stderr is not None  # noqa: S101 - it is a pipe
    found = {}
    for line in daemon.stderr:
        found |= dict(re.findall(r'(simulated at|listening on) \w+://([^/"\s]+)', line))
        if len(found) == 2:
            break
    threading.Thread(target=daemon.stderr.read, daemon=True).start()
    return daemon, f"http://{found['listening on']}/", f"http://{found['simulated at']}/"


def break_(venues: str, **fault: object) -> None:
    """Switch a fault on."""
    request = urllib.request.Request(f"{venues}faults", json.dumps(fault).encode())  # noqa: S310
    urllib.request.urlopen(request).close()  # noqa: S310 - our own


async def take(page: Any, name: str, view: str, seconds: float = 3.0) -> None:
    """Take one picture, when what is shown has settled."""
    await page.evaluate("(view) => { location.hash = view; }", view)
    await asyncio.sleep(seconds)
    await page.screenshot(path=HERE / f"{name}.png")
    print(name)  # noqa: T201


async def pictures(url: str, venues: str) -> None:
    """Take all of them."""
    async with async_playwright() as started:
        browser = await started.chromium.launch(executable_path=shutil.which("chromium"))
        pages = {}
        for scheme in ("light", "dark"):
            context = await browser.new_context(color_scheme=scheme, viewport=DESK, locale="en-GB")
            page = pages[scheme] = await context.new_page()
            await page.goto(url)
            await take(page, f"market-{scheme}", "")
            await take(page, f"instrument-{scheme}", "BTC/USDT")
            await page.locator("#chart-kind").select_option("candles")
            await take(page, f"candles-{scheme}", "BTC/USDT")
        await pages["light"].set_viewport_size(PHONE)
        await take(pages["light"], "phone-light", "")
        await take(pages["light"], "phone-instrument-light", "BTC/USDT")
        await pages["light"].set_viewport_size(DESK)
        break_(venues, venue="okx", kind="mute", channel="trades")
        for scheme, page in pages.items():
            await take(page, f"status-{scheme}", "status", 12.0)
            await page.evaluate("location.hash = 'ops'")
            await page.locator("#broadcast-text").fill("Restart at 18:00 UTC. Clients come back.")
            await page.locator("#broadcast-send").click()
            await take(page, f"ops-{scheme}", "ops", 1.0)
        await browser.close()


def main() -> None:
    """Run the daemon, wait, and take them."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "aggregator.toml")
        config.write_text(CONFIG)
        daemon, url, venues = start(config)
        try:
            time.sleep(float(sys.argv[1]) if len(sys.argv) > 1 else 320.0)
            asyncio.run(pictures(url, venues))
        finally:
            daemon.terminate()
            daemon.wait()


if __name__ == "__main__":
    main()
