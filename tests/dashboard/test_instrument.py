"""The view of one instrument: chart, book, tape and comparison, against simulated venues."""

from __future__ import annotations

from decimal import Decimal

from dashboard.desk import Desk
from dashboard.screens import WHILE_AWAY

from aggregator.model import State

AGE = "/^[0-9]+ s old$/"
INK = """(() => {
  const canvas = document.querySelector("#chart canvas");
  if (!canvas) return 0;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const seen = new Set();
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] > 200) seen.add((data[i] << 16) + (data[i + 1] << 8) + data[i + 2]);
  }
  return [...seen].includes(v[0]);
})()"""
"""Whether a colour is to be seen on the chart."""


async def colour(screen, name):
    """Return a colour of the theme as a number."""
    style = f"getComputedStyle(document.documentElement).getPropertyValue('--{name}')"
    return int((await screen.page.evaluate(style)).strip().removeprefix("#"), 16)


async def test_a_deep_link_shows_everything_of_an_instrument(rehearse, look):
    """Chart, book, tape and comparison fill themselves, from history and stream."""
    there = await rehearse()
    screen = await look(there.url, "BTC/USDT")
    screen.excused = "willReadFrequently"  # it is this test that reads the chart
    await screen.says("#instrument-name", "BTC/USDT")
    await screen.until("document.getElementById('instrument-price').dataset.known === 'yes'")
    await screen.until(INK, await colour(screen, "venue-0"))
    await screen.until("document.querySelectorAll('#compare tr').length === 2")
    await screen.says("#compare-said", "bp apart")
    await screen.says("#tape .side", "buy")
    await screen.says("#tape .venue", "binance")
    await screen.page.locator("#chart-kind").select_option("candles")
    await screen.page.locator("#chart-source").select_option("binance_trades")
    either = [await colour(screen, name) for name in ("up", "down")]
    await screen.until(f"{INK} || {INK.replace('v[0]', 'v[1]')}", *either)
    await screen.until("document.getElementById('chart').ariaLabel.includes('BTC/USDT: from ')")
    title = await screen.page.title()
    assert title.startswith("BTC/USDT")


async def test_the_ladder_is_the_book(desk, look):
    """
    Its levels are exactly those of the venue, best in the middle; what is lost is not shown.

    The channel has no connector that says what it brings: that is seen by what comes.
    """
    desk.channel("alpha_book", "alpha", ["BTC/USDT"])
    bids, asks = [("99.9", "1.50"), ("99.80", "2")], [("100.1", "3"), ("100.25", "0.5")]
    desk.book("alpha_book", "BTC/USDT", bids, asks, whole=True)
    screen = await look(desk.url, "BTC/USDT")
    levels = (
        "['asks', 'bids'].map((side) => [...document.querySelectorAll(`#ladder-${side} .rung`)]"
        ".map((r) => [...r.querySelectorAll('.price, .size')].map((e) => e.textContent).join(' '))"
        ".filter((t) => t !== ' ').join('; ')).join(' | ')"
    )
    first = "100.25 0.50; 100.10 3.00 | 99.90 1.50; 99.80 2.00"
    await screen.until(f"{levels} === v[0]", first)
    await screen.says("#compare .bid", "99.9")
    await screen.says("#ladder-middle", "Spread 20.0 bp")
    desk.book("alpha_book", "BTC/USDT", [("99.9", "0"), ("99.85", "7")], [], whole=False)
    await screen.until(f"{levels} === v[0]", "100.25 0.50; 100.10 3.00 | 99.85 7.00; 99.80 2.00")
    await screen.says("#compare .bid", "99.85")
    desk.gap("alpha_book", "BTC/USDT", "the venue skipped some")
    await screen.until("document.getElementById('ladder').hidden")
    await screen.says("#ladder-none", "The book is not known")
    await screen.says("#compare .bid", "\N{EN DASH}")
    desk.book("alpha_book", "BTC/USDT", bids, asks, whole=True)
    await screen.until(f"{levels} === v[0] && !document.getElementById('ladder').hidden", first)


async def test_the_ladder_follows_the_venue(rehearse, look):
    """The best bid is below the best ask, sorted, with depth bars; a broken book is not shown."""
    there = await rehearse()
    screen = await look(there.url, "BTC/USDT")
    await screen.until("!document.getElementById('ladder').hidden")
    await screen.until("document.querySelectorAll('#ladder-bids .price')[9].textContent !== ''")
    read = "(all) => all.map((e) => e.textContent.replace(/,/g, ''))"
    asks, bids = [
        list(map(Decimal, await screen.page.locator(f"#ladder-{side} .price").evaluate_all(read)))
        for side in ("asks", "bids")
    ]
    assert asks == sorted(asks, reverse=True)
    assert bids == sorted(bids, reverse=True)
    assert len(asks) == len(bids) == 10
    widths = "(all) => all.map((e) => e.getBoundingClientRect().width)"
    assert max(await screen.page.locator("#ladder .bar").evaluate_all(widths)) > 100
    await screen.says("#ladder-middle", "bp")
    # The venue goes away: the book that was is grey, and what is not known is not shown.
    await there.break_(venue="okx", kind="refuse")
    await there.break_(venue="okx", kind="close", code=1001)
    await screen.until(
        "document.getElementById('ladder').hidden"
        " || document.getElementById('ladder').classList.contains('stale')"
    )
    await there.mend()
    await screen.until(
        "!document.getElementById('ladder').hidden"
        " && !document.getElementById('ladder').classList.contains('stale')"
    )


async def test_books_that_are_polled_are_shown_too(rehearse, look):
    """Each message of them is the whole book; the ladder is that of the channel that is chosen."""
    there = await rehearse()
    screen = await look(there.url, "BTC/USDT")
    await screen.until("!document.getElementById('ladder').hidden")
    await screen.page.locator("#ladder-source").select_option("binance_orderbook")
    await screen.until(
        "[...document.querySelectorAll('#ladder-bids .price')].every((e) =>"
        " /^[0-9,]+[.][0-9]{8}$/.test(e.textContent))"
    )


async def test_a_venues_own_candles_are_shown(desk, look):
    """They come before those that would be made of prices, with their own interval."""
    desk.channel("alpha_minutes", "alpha", ["BTC/USDT"])
    minute_us = desk.hub.now_us() // 60_000_000 * 60_000_000
    for ago in (3, 2, 1, 0):
        prices = ("100", "110", "90", "105") if ago % 2 else ("105", "108", "95", "98")
        desk.candle("alpha_minutes", "BTC/USDT", minute_us - ago * 60_000_000, *prices)
    screen = await look(desk.url, "BTC/USDT")
    screen.excused = "willReadFrequently"
    await screen.page.locator("#chart-kind").select_option("candles")
    await screen.until("document.getElementById('chart-source').value === 'alpha_minutes'")
    await screen.until("document.getElementById('chart-step').disabled")
    up, down = [await colour(screen, name) for name in ("up", "down")]
    await screen.until(f"{INK} && {INK.replace('v[0]', 'v[1]')}", up, down)
    said = "document.getElementById('chart').ariaLabel"
    await screen.until(f"{said} === 'Chart of BTC/USDT: from 90 to 110'")


async def test_an_instrument_that_nobody_has(desk, look):
    """It is said so; nothing of another one is shown."""
    screen = await look(desk.url, "NO/SUCH")
    await screen.until("!document.getElementById('instrument-unknown').hidden")
    assert await screen.page.locator("#instrument-body").is_hidden()
    await screen.go("BTC/USDT")
    await screen.until("!document.getElementById('instrument-body').hidden")
    # A name is text, whatever is in it.
    await screen.go("%3Cimg src=x onerror=alert(1)%3E")
    await screen.says("#instrument-name", "<img")
    assert await screen.count("#instrument-name img") == 0


async def test_prices_make_the_tape_where_there_are_no_trades(desk, look):
    """Then its head says so, and those of the history come in, each once."""
    for price in ("100.5", "101.5", "102.5"):
        desk.price("alpha_prices", "ETH/USDT", price)
    screen = await look(desk.url, "ETH/USDT")
    await screen.says("#tape-title", "Prices")
    await screen.says("#tape-note", "no channel of trades")
    filled = (
        "[...document.querySelectorAll('#tape .price')]"
        ".map((e) => e.textContent).filter(Boolean).join()"
    )
    await screen.until(f"{filled} === '102.5,101.5,100.5'")
    desk.price("alpha_prices", "ETH/USDT", "99.5")
    await screen.until(f"{filled} === '99.5,102.5,101.5,100.5'")


async def test_venues_are_compared(desk, look):
    """Each with the lowest, and best bid with best ask; one that stopped with nothing."""
    desk.price("alpha_prices", "BTC/USDT", "100", bid="99.9", ask="100.1")
    desk.price("beta_prices", "BTC/USDT", "101", bid="100.9", ask="101.1")
    screen = await look(desk.url, "BTC/USDT")
    await screen.says("#compare-said", "alpha is lowest, beta highest: 99.5 bp apart.")
    await screen.says("#compare-said", "The best bid is 79.9 bp above the best ask.")
    await screen.says("#compare .apart", "+100.0")
    assert await screen.text("#compare .width") == "20.0"
    desk.state("beta_prices", State.DOWN, "it does not answer")
    await screen.says("#compare tr.stale", "beta")
    await screen.says("#compare-said", "nothing to compare")
    assert await screen.text("#compare tr.stale .apart") == "\N{EN DASH}"
    assert await screen.text("#compare tr.stale .bid") == "\N{EN DASH}"


async def test_the_book_says_how_old_it_is_and_why(desk, look):
    """Of a feed that stopped it is grey, with its age and the reason, as in the table."""
    desk.channel("alpha_book", "alpha", ["BTC/USDT"])
    desk.book("alpha_book", "BTC/USDT", [("99.9", "1")], [("100.1", "3")], whole=True)
    screen = await look(desk.url, "BTC/USDT")
    await screen.until("!document.getElementById('ladder').hidden")
    await screen.until(f"{AGE}.test(document.getElementById('ladder-age').textContent)")
    desk.state("alpha_book", State.STALE, "no data for 5 s")
    await screen.says("#ladder-age.reason", "s old: alpha_book is stale: no data for 5 s")
    await screen.until("document.getElementById('ladder').classList.contains('stale')")
    desk.state("alpha_book", State.LIVE, "data again")
    await screen.says("#ladder-age.reason", "nothing new since it was interrupted")
    desk.book("alpha_book", "BTC/USDT", [("99.9", "2")], [("100.1", "3")], whole=True)
    await screen.until(f"{AGE}.test(document.getElementById('ladder-age').textContent)")


async def test_the_tape_says_how_old_it_is_and_why(desk, look):
    """What came of a feed that stopped is grey; its reason stands there, and the newest's age."""
    desk.price("alpha_prices", "BTC/USDT", "100")
    desk.price("beta_prices", "BTC/USDT", "101")
    screen = await look(desk.url, "BTC/USDT")
    await screen.says("#tape .venue", "alpha")
    await screen.until(f"{AGE}.test(document.getElementById('tape-age').textContent)")
    desk.state("alpha_prices", State.DOWN, "it does not answer")
    await screen.says("#tape tr.stale .venue", "alpha")
    await screen.says("#tape tr:not(.stale) .venue", "beta")
    await screen.says("#tape-age.reason", "s old: alpha_prices is down: it does not answer")
    desk.state("alpha_prices", State.LIVE, "data again")
    await screen.until(f"{AGE}.test(document.getElementById('tape-age').textContent)")
    await screen.until("!document.querySelector('#tape tr.stale')")


async def test_book_and_tape_say_that_the_connection_is_lost(look):
    """They are grey then, with the reason and the age that goes on."""
    async with Desk().running() as desk:
        desk.channel("alpha_prices", "alpha", ["BTC/USDT"])
        desk.channel("alpha_book", "alpha", ["BTC/USDT"])
        desk.price("alpha_prices", "BTC/USDT", "100")
        desk.book("alpha_book", "BTC/USDT", [("99.9", "1")], [("100.1", "3")], whole=True)
        screen = await look(desk.url, "BTC/USDT")
        screen.excused = WHILE_AWAY
        await screen.says("#tape .venue", "alpha")
        await screen.until("!document.getElementById('ladder').hidden")
    for panel in ("ladder", "tape"):
        await screen.says(f"#{panel}-age.reason", " old: the connection to the daemon is lost")
    # Opened anew, nothing can be had; what is not there has no age.
    await screen.go("")
    await screen.go("BTC/USDT")
    await screen.until("document.getElementById('ladder').hidden")
    for panel in ("ladder", "tape"):
        alone = f"document.getElementById('{panel}-age').textContent === v[0]"
        await screen.until(alone, "the connection to the daemon is lost")
    await screen.page.get_by_text("None yet.").wait_for()
    nothing = "document.getElementById('tape-empty').getBoundingClientRect()"
    frame = "document.querySelector('.tape-panel .scroll').getBoundingClientRect()"
    assert await screen.page.evaluate(f"{nothing}.bottom <= {frame}.bottom")
