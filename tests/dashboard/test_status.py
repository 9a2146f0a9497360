"""The status against simulated venues that break."""

from __future__ import annotations

import pytest


async def test_every_feed_has_its_state_and_the_reason(rehearse, look):
    """State, age, latency, rate and budget, and the sentence of `aggregator why`."""
    there = await rehearse()
    screen = await look(there.url, "status")
    for feed in ("binance_24hr", "binance_trades", "coingecko_top", "okx_ticker", "okx_books"):
        await screen.says(".feed-name", feed)
    await screen.says(".verdict", "okx_ticker is live")
    await screen.says(".of-budget", "/min")
    await screen.says(".of-rate", "/s")
    await screen.says(".of-latency", "ms")
    await screen.until("document.getElementById('tile-sessions').textContent === '1'")
    await screen.until("document.getElementById('tile-deliveries').textContent.endsWith('/s')")
    await screen.until("document.getElementById('tile-lag').textContent.endsWith('ms')")


async def test_a_feed_that_stops_is_seen_everywhere(rehearse, look):
    """Its state, its reason and its error; its prices are grey with their age, until it is back."""
    there = await rehearse()
    screen = await look(there.url, "status")
    await screen.says(".verdict", "okx_ticker is live")
    await there.break_(venue="okx", kind="mute")
    await screen.says(".feed .state.stale", "stale")
    await screen.says("#events", "no data for")
    await screen.says(".verdict", "okx_ticker is stale")
    await screen.says("#stale", "feeds not live")
    await screen.go("")
    await screen.page.locator("#filter").fill("SOL/USDT")
    cell = await screen.cell("SOL/USDT", "okx")
    await screen.page.locator(f"{cell} >> xpath=self::*[contains(@class, 'stale')]").wait_for()
    old = await screen.text(f"{cell} >> .price")
    await screen.page.locator(f"{cell} >> .age:text-matches('^[2-9] s$')").wait_for()
    assert await screen.text(f"{cell} >> .price") == old
    await there.mend()
    await screen.page.locator(f"{cell} >> xpath=self::*[not(contains(@class, 'stale'))]").wait_for()


async def test_errors_of_a_venue_are_told(rehearse, look):
    """A venue that answers with errors is down, with the last error."""
    there = await rehearse()
    screen = await look(there.url, "status")
    await screen.says(".verdict", "binance_24hr is live")
    await there.break_(venue="binance", kind="status", status=500, path="/api")
    await screen.says(".feed .state.down", "down")
    await screen.says(".of-error", "ago")
    await screen.says(".verdict", "HTTP 500")


async def test_a_book_that_breaks_is_a_gap(rehearse, look):
    """Lost changes of a book are told as they happen, with the cause."""
    there = await rehearse()
    screen = await look(there.url, "BTC/USDT")
    await screen.until("!document.getElementById('ladder').hidden")
    await there.break_(venue="okx", kind="drop", fraction=0.5, channel="books")
    await screen.says("#gaps", "okx_books")
    await screen.until("!document.getElementById('gap').hidden")


READINGS = """async ([readings]) => {
  const { Readings, Pace } = await import("/dashboard/metrics.js");
  const [all, pace] = [new Readings(), new Pace(9_000, 36_000)];
  return readings.map(([at, count, started]) => {
    all.take(`n_total ${count}\nprocess_start_time_seconds ${started}`, at);
    pace.take(count, String(started), at);
    return [all.rate("n_total") ?? null, pace.rate ?? null];
  });
}"""


@pytest.mark.parametrize(
    ("readings", "rates"),
    [
        ([(0, 0, 1)], [None, None]),
        ([(0, 0, 1), (20, 50, 1)], [None, None]),
        ([(0, 0, 1), (20, 50, 1), (3_000, 300, 1)], [100.0, None]),
        ([(at, at // 10, 1) for at in range(0, 12_001, 3_000)], [100.0, 100.0]),
        ([(0, 0, 1), (3_000, 300, 1), (600_000, 900, 1)], [None, None]),
        ([(0, 0, 1), (3_000, 300, 1), (6_000, 900, 2)], [None, None]),
    ],
)
async def test_rates_are_those_of_the_last_seconds(desk, look, readings, rates):
    """
    None before there are two readings, that are apart enough, of the same run.

    Nor over the time for which the view was not looked at.
    """
    screen = await look(desk.url)
    found = await screen.page.evaluate(READINGS, [readings])
    assert found[-1] == rates
