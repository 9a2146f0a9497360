"""The table of the market in a real browser, against a daemon whose prices the test publishes."""

from __future__ import annotations

from dashboard.screens import WHILE_AWAY

from aggregator.model import State


async def test_numbers_have_the_venues_digits_and_the_readers_locale(desk, look):
    """All digits are there, more than a double keeps; separators are those of the reader."""
    desk.price("alpha_prices", "BTC/USDT", "67010.15000000", bid="67010.0300", ask="67010.15")
    desk.price("alpha_prices", "ETH/USDT", "12345678901234567.123456789")
    screen = await look(desk.url)
    await screen.says(".price", "67,010.15000000")
    await screen.says(".price", "12,345,678,901,234,567.123456789")
    sides = await screen.cell("BTC/USDT", "alpha", ".sides")
    assert await screen.text(sides) == "67,010.03 / 67,010.15"
    german = await look(desk.url, locale="de-DE")
    await german.says(".price", "67.010,15000000")


async def test_a_change_flashes(desk, look):
    """Up and down are told apart, for a moment."""
    desk.price("alpha_prices", "BTC/USDT", "100.0")
    screen = await look(desk.url)
    await screen.says(".price", "100.0")
    desk.price("alpha_prices", "BTC/USDT", "101.0")
    await screen.until("document.querySelector('.cell.rose')")
    desk.price("alpha_prices", "BTC/USDT", "99.0")
    await screen.until("document.querySelector('.cell.fell')")
    await screen.until("!document.querySelector('.cell.rose, .cell.fell')")


async def test_change_volume_and_age(desk, look):
    """A cell has them where the venue gives them; the age is that of the venue's own time."""
    ago_us = desk.hub.now_us() - 125_000_000
    more = {"volume_24h": "1598.65", "change_24h_pct": "-0.25", "exchange_us": ago_us}
    desk.price("alpha_prices", "BTC/USDT", "100", **more)
    screen = await look(desk.url)
    await screen.says(".age", "2 min")
    assert await screen.text(await screen.cell("BTC/USDT", "alpha", ".change")) == "-0.25%"
    assert await screen.text(await screen.cell("BTC/USDT", "alpha", ".volume")) == "1.599k"


async def test_venues_that_are_apart_are_marked(desk, look):
    """The spread is that between the venues, in basis points; lowest and highest are marked."""
    desk.price("alpha_prices", "BTC/USDT", "100.00")
    desk.price("beta_prices", "BTC/USDT", "101.00")
    screen = await look(desk.url)
    await screen.says(".cell.spread.wide", "99.5")
    assert await screen.count(f"{await screen.cell('BTC/USDT', 'alpha')}.lowest") == 0
    await screen.until("document.querySelectorAll('.cell.lowest, .cell.highest').length === 2")


async def test_prices_of_different_times_are_not_marked_as_apart(desk, look):
    """Seconds between them explain the distance: it is told so, and marked with the next price."""
    old_us = desk.hub.now_us() - 30_000_000
    desk.price("alpha_prices", "BTC/USDT", "100.00", exchange_us=old_us)
    desk.price("beta_prices", "BTC/USDT", "101.00")
    screen = await look(desk.url)
    await screen.says(".cell.spread", "99.5")
    assert await screen.count(".cell.wide, .cell.lowest, .cell.highest") == 0
    title = await screen.page.locator(".cell.spread[title]").get_attribute("title")
    assert title == "alpha and beta: 30 s apart in time, not both can be had"
    desk.price("alpha_prices", "BTC/USDT", "100.00")
    desk.price("beta_prices", "BTC/USDT", "101.00")
    await screen.says(".cell.spread.wide", "99.5")
    assert await screen.count(".cell.spread[title]") == 0


async def test_filter_and_order(desk, look):
    """Rows are filtered by name and venue, and sorted by what a head says."""
    desk.price("alpha_prices", "BTC/USDT", "100")
    desk.price("alpha_prices", "ETH/USDT", "200")
    desk.price("beta_prices", "BTC/USDT", "100")
    screen = await look(desk.url)
    names = (
        "[...document.querySelectorAll('.row:not([hidden])')]"
        ".sort((a, b) => a.ariaRowIndex - b.ariaRowIndex)"
        ".map((r) => r.querySelector('a').textContent).join()"
    )
    await screen.until(f"{names} === 'BTC/USDT,ETH/USDT'")
    await screen.page.get_by_role("button", name="Sort by alpha: Price").click()
    await screen.until(f"{names} === 'ETH/USDT,BTC/USDT'")
    assert await screen.count('[aria-sort="descending"]') == 1
    await screen.page.get_by_role("button", name="Sort by alpha: Price").click()
    await screen.until(f"{names} === 'BTC/USDT,ETH/USDT'")
    await screen.page.get_by_label("Filter instruments").fill("eth")
    await screen.until(f"{names} === 'ETH/USDT'")
    await screen.page.get_by_label("Filter instruments").fill("")
    await screen.page.locator("#venue").select_option("beta")
    await screen.until(f"{names} === 'BTC/USDT'")


async def test_keys_lead_through_the_table(desk, look):
    """Arrows choose a row, Enter opens it, Escape comes back, Ctrl+K goes to the filter."""
    desk.price("alpha_prices", "BTC/USDT", "100")
    desk.price("alpha_prices", "ETH/USDT", "200")
    screen = await look(desk.url)
    await screen.says(".price", "200")
    await screen.page.locator("#grid").focus()
    await screen.page.keyboard.press("ArrowDown")
    await screen.until(
        "document.querySelector('.row[aria-selected=true] a')?.textContent === 'ETH/USDT'"
    )
    active = await screen.page.locator("#grid").get_attribute("aria-activedescendant")
    assert await screen.text(f"#{active} a") == "ETH/USDT"
    await screen.page.keyboard.press("Enter")
    await screen.says("#instrument-name", "ETH/USDT")
    assert screen.page.url.endswith("/#ETH/USDT")
    await screen.page.keyboard.press("Escape")
    await screen.until("!document.getElementById('market').hidden")
    await screen.page.keyboard.press("Control+k")
    await screen.until("document.activeElement.id === 'filter'")


async def test_few_rows_stand_for_many(desk, look):
    """Of 500 instruments those in sight are in the document, also after scrolling to the end."""
    names = [f"X{number:03d}/USDT" for number in range(500)]
    desk.channel("many", "gamma", names)
    for number, name in enumerate(names):
        desk.price("many", name, f"{number}.5")
    screen = await look(desk.url)
    await screen.says("#market-count", "502 of 502")
    assert await screen.count(".row") < 40
    await screen.page.locator("#grid").focus()
    await screen.page.keyboard.press("End")
    await screen.says(".row[aria-selected=true]", "X499/USDT")
    assert await screen.count(".row") < 40
    desk.price("many", "X499/USDT", "7.25")
    await screen.says(".row[aria-selected=true] .price", "7.25")


async def test_each_frame_has_one_paint(desk, look):
    """Hundreds of messages at once are written to the document once."""
    desk.price("alpha_prices", "BTC/USDT", "1")
    screen = await look(desk.url)
    await screen.says(".price", "1")
    await screen.page.evaluate(
        """() => {
          globalThis.writes = 0;
          const count = (all) => { for (const e of all) globalThis.writes += e.addedNodes.length; };
          new MutationObserver(count).observe(document.querySelector(".cell.venue .price"),
            { subtree: true, childList: true, characterData: true });
        }"""
    )
    for number in range(500):
        desk.price("alpha_prices", "BTC/USDT", f"{number + 2}")
    await screen.says(".price", "501")
    assert await screen.page.evaluate("globalThis.writes") < 50


async def test_an_instrument_that_nobody_knew_gets_a_row(desk, look):
    """A channel that is new to the page is asked for, and its instruments come in."""
    desk.price("alpha_prices", "BTC/USDT", "100")
    screen = await look(desk.url)
    await screen.says(".price", "100")
    desk.channel("later", "gamma", ["NEW/USDT"])
    desk.price("later", "NEW/USDT", "5")
    desk.state("later", State.LIVE, "data are coming")
    await screen.says(".venue-name", "gamma")
    await screen.says(".row a", "NEW/USDT")


async def test_what_is_stale_is_grey_with_its_age(desk, look):
    """A feed that stopped has its numbers greyed, with the reason; new ones are as before."""
    desk.price("alpha_prices", "BTC/USDT", "100.0", change_24h_pct="1")
    screen = await look(desk.url)
    await screen.says(".price", "100.0")
    desk.state("alpha_prices", State.STALE, "quiet")
    cell = await screen.cell("BTC/USDT", "alpha")
    await screen.until("document.querySelector('.cell.stale .price')")
    title = await screen.page.locator(cell).get_attribute("title")
    assert title == "alpha_prices is stale: quiet"
    assert await screen.text(f"{cell} >> .why") == title
    assert await screen.text(f"{cell} >> .change") == ""
    await screen.says("#stale", "1 of 2 feeds not live")
    # Live again: what came before the break is not known to be still good.
    desk.state("alpha_prices", State.LIVE, "data again")
    await screen.until("document.getElementById('stale').hidden")
    assert await screen.count(".cell.stale .price") == 1
    desk.price("alpha_prices", "BTC/USDT", "100.0")
    await screen.until("!document.querySelector('.cell.stale')")
    assert await screen.text(f"{cell} >> .why") == ""


async def test_what_is_no_longer_listed_leaves_the_table(desk, look):
    """With the next answer of the daemon about its channels, rows and columns go that are gone."""
    desk.price("alpha_prices", "BTC/USDT", "1.5")
    desk.price("beta_prices", "BTC/USDT", "2.5")
    screen = await look(desk.url)
    screen.excused = WHILE_AWAY
    await screen.says(".price", "2.5")
    assert await screen.count(".venue-name") == 2
    desk.hub.remove_channel("beta_prices")
    for session in tuple(desk.daemon.sessions):
        session.transport.abort()
    await screen.until("document.getElementById('retry').click() || true")
    await screen.until("document.querySelectorAll('.venue-name').length === 1")
    await screen.says(".price", "1.5")


WRITTEN = [
    ("price", ["67010.15000000"], ["67,010.15", "000000"]),
    ("price", ["0.62400000"], ["0.624", "00000"]),
    ("price", ["100.00"], ["100.00", ""]),
    ("price", ["66989.9", 3], ["66,989.90", "0"]),
    ("price", ["42150"], ["42,150", ""]),
    ("price", ["1E-8"], ["0.00000001", ""]),
    ("price", ["1.5e3"], ["1,500", ""]),
    ("price", ["6.40e-5"], ["0.000064", "0"]),
    ("price", ["-0.10"], ["-0.10", ""]),
    ("price", ["0"], ["0", ""]),
    ("price", [None], ["\N{EN DASH}", ""]),
    ("number", ["123456789012345678.123456789012"], "123,456,789,012,345,678.123456789012"),
    ("alike", ["1.500", "2.25"], ["1.50", "2.25"]),
    ("alike", ["3", "2.5"], ["3.0", "2.5"]),
    ("change", [-0.254], "-0.25%"),
    ("points", [12.345], "12.3"),
    ("points", [0.018], "0.02"),
    ("duration", [-5], "0 s"),
    ("duration", [59_999], "59 s"),
    ("duration", [3_600_000], "1 h"),
    ("duration", [49 * 3_600_000], "2 d"),
    ("latency", [0.0021], "2.1 ms"),
    ("latency", [2.5], "2.5 s"),
]
"""Functions of format.js, what they are given, and what they return."""


async def test_how_numbers_are_written(desk, look):
    """Exactly, in the reader's locale, whatever form the venue has given them."""
    screen = await look(desk.url)
    for function, given, written in WRITTEN:
        found = await screen.page.evaluate(
            "async ([name, values]) => (await import('/dashboard/format.js'))[name]"
            "(...values.map((value) => value ?? undefined))",
            [function, given],
        )
        assert found == written, (function, given)
