"""The small charts of the market's table."""

from __future__ import annotations

import pytest

from aggregator.model import State

INKED = """(() => {
  const canvas = document.querySelector(".cell.spark canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, 96, 30);
  const columns = new Set();
  for (let i = 3; i < data.length; i += 4) if (data[i]) columns.add(((i - 3) / 4) % 96);
  return [...columns];
})()"""
"""The columns of pixels of the first small chart in which something is drawn."""


async def test_small_charts_begin_with_what_the_daemon_has_kept(desk, look):
    """They are there for all the last minutes, and not only from the opening of the page on."""
    now_us = desk.hub.now_us()
    for ago_s in range(280, 0, -2):
        price = f"{100 + ago_s % 7}"
        desk.price("alpha_prices", "BTC/USDT", price, exchange_us=now_us - ago_s * 1_000_000)
    screen = await look(desk.url)
    screen.excused = "willReadFrequently"  # it is this test that reads it
    await screen.until(f"{INKED}.length > 80")


async def test_small_charts_break_where_a_feed_had_stopped(desk, look):
    """No line is drawn over an outage that the daemon tells of, and none where a price is rare."""
    now_us = desk.hub.now_us()
    for ago_s in [*range(280, 150, -2), *range(60, 0, -2)]:
        price = f"{100 + ago_s % 7}"
        desk.price("alpha_prices", "BTC/USDT", price, exchange_us=now_us - ago_s * 1_000_000)
    desk.state("alpha_prices", State.STALE, "quiet", 150)
    desk.state("alpha_prices", State.LIVE, "data again", 60)
    desk.price("alpha_prices", "BTC/USDT", "100")
    screen = await look(desk.url)
    screen.excused = "willReadFrequently"
    # Of 96 columns 92 are five minutes: about 47 to 75 is the time of the outage.
    await screen.until(f"{INKED}.some((x) => x < 40) && !{INKED}.some((x) => x > 52 && x < 70)")
    assert await screen.page.evaluate(f"{INKED}.filter((x) => x < 44).length") > 30
    assert await screen.page.evaluate(f"{INKED}.filter((x) => x > 80).length") > 8


SPARKS = """async ([during]) => {
  const { Store } = await import("/dashboard/store.js");
  const store = new Store();
  const now = 1_800_000_000_000;
  const channel = { channel: "a", exchange: "alpha", connector: "x.ticker", instruments: ["X"] };
  const status = (state, at) =>
    store.status({ feed: "a", instrument: null, state, reason: "", since_us: at * 1000 }, at);
  const price = (at) => store.market(
    { type: "price_update", channel: "a", instrument: "X", price: 1, received_us: at * 1000 }, at);
  store.channels([{ ...channel, state: "live" }], now);
  for (let s = 0; s <= 100; s += 25) price(now + s * 1000);
  if (during === "stale") {
    status("stale", now + 110_000);
    status("live", now + 190_000);
  }
  if (during === "lost") store.interrupt(now + 110_000);
  for (let s = 200; s <= 300; s += 25) price(now + s * 1000);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [96, 30];
  store.rows.get("X").spark.draw(canvas, now + 300_000, "#000");
  const { data } = canvas.getContext("2d").getImageData(50, 0, 1, 30);
  return data.some((value) => value > 0);
}"""
"""Whether the line of a price that comes each 25 s goes over a minute and a half without one."""


@pytest.mark.parametrize(("during", "joined"), [("quiet", True), ("stale", False), ("lost", False)])
async def test_small_charts_break_while_they_are_watched(desk, look, during, joined):
    """Where the feed stopped or the page lost its connection; a feed that is only quiet goes on."""
    screen = await look(desk.url)
    screen.excused = "willReadFrequently"
    assert await screen.page.evaluate(SPARKS, [during]) is joined
