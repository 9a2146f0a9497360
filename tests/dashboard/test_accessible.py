"""Whether everybody can use it: axe on each view, keyboard, narrow screens, other themes."""

from __future__ import annotations

import re

import pytest

from aggregator.model import State

VIEWS = ["", "BTC/USDT", "status", "ops"]
READY = {
    "": "document.querySelectorAll('.row:not([hidden]) .price').length > 20",
    "BTC/USDT": "document.querySelector('#tape .price').textContent"
    " && !document.getElementById('ladder').hidden",
    "status": "document.querySelector('.verdict')?.textContent",
    "ops": "document.body.dataset.connection === 'open'",
}


async def violations(screen):
    """Return what axe has against the page."""
    axe = pytest.importorskip("axe_playwright_python.async_playwright", reason="no axe")
    results = await axe.Axe().run(screen.page)
    return [
        (each["id"], node["html"], node["failureSummary"])
        for each in results.response["violations"]
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing(rehearse, look, scheme):
    """No view breaks a rule, in either theme, on a wide and on a narrow screen."""
    there = await rehearse()
    screen = await look(there.url, color_scheme=scheme)
    for view in VIEWS:
        for size in ((1280, 800), (390, 844)):
            await screen.page.set_viewport_size({"width": size[0], "height": size[1]})
            await screen.go(view)
            await screen.until(READY[view])
            assert await violations(screen) == [], (view, size)


async def test_what_is_stale_or_lost_can_still_be_read(rehearse, look):
    """The greys of old numbers and the notices have enough contrast as well."""
    there = await rehearse()
    screen = await look(there.url)
    screen.excused = "WebSocket connection to|Failed to load"
    price = await screen.cell("BTC/USDT", "okx", ".price >> text=/[0-9]/ >> nth=0")
    await screen.page.locator(price).wait_for()
    await there.break_(venue="okx", kind="mute")
    await screen.until("document.querySelector('.cell.stale')")
    assert await violations(screen) == []
    there.process.signal(9)
    await screen.until("document.body.dataset.connection === 'lost'")
    assert await violations(screen) == []


async def test_nothing_is_wider_than_a_phone(rehearse, look):
    """What does not fit scrolls in its own frame; the page itself never does sideways."""
    there = await rehearse()
    screen = await look(there.url, viewport={"width": 360, "height": 740})
    for view in VIEWS:
        await screen.go(view)
        await screen.until(READY[view])
        assert await screen.page.evaluate("document.documentElement.scrollWidth") <= 360, view
        spare = "(main) => main.clientWidth - main.scrollWidth"
        assert await screen.page.locator("#main").evaluate(spare) >= 0, view


SIDEWAYS = """[...document.querySelectorAll("html, main, .grid, .scroll, td")]
  .filter((e) => e.getClientRects().length && e.scrollWidth > e.clientWidth)
  .map((e) => `${e.id} ${e.className}: ${e.scrollWidth} > ${e.clientWidth}`)"""
"""What is seen and wider than its place."""
COVERED = """[...document.querySelectorAll("td[data-head]")].filter((e) => {
  const { left, top, height } = e.getBoundingClientRect();
  const over = (other) => {
    const box = other.getBoundingClientRect();
    return other !== e && box.left === left && Math.abs(box.top - top) < height - 1;
  };
  return height > 0 && [...e.parentElement.children].some(over);
}).map((e) => e.className)"""
"""Cells of a table that lie over others."""


async def test_nothing_scrolls_sideways_on_a_phone(rehearse, look):
    """No view, table or list of it is wider than the screen, a feed that broke included."""
    there = await rehearse()
    screen = await look(there.url, viewport={"width": 390, "height": 844})
    for view in VIEWS:
        await screen.go(view)
        await screen.until(READY[view])
        assert await screen.page.evaluate(SIDEWAYS) == [], view
        assert await screen.page.evaluate(COVERED) == [], view
        assert await screen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await there.break_(venue="okx", kind="drop", fraction=0.5, channel="books")
    await there.break_(venue="okx", kind="mute", channel="tickers")
    await screen.go("status")
    await screen.says("#gaps", "okx_books")
    await screen.says("#events", "okx_ticker")
    await screen.until("document.querySelector('.of-error').textContent")
    assert await screen.page.evaluate(SIDEWAYS) == []
    await screen.go("")
    await screen.until("document.querySelector('.cell.stale .price')")
    assert await screen.page.evaluate(SIDEWAYS) == []


async def test_a_row_on_a_phone_has_price_age_and_reason(desk, look):
    """Of each venue, within the screen; no row covers another, however many venues there are."""
    for channel, price in (("alpha_prices", "67010.15"), ("beta_prices", "67011.25")):
        desk.price(channel, "BTC/USDT", price, bid=price, ask=price)
    desk.price("alpha_prices", "ETH/USDT", "200")
    screen = await look(desk.url, viewport={"width": 390, "height": 844})
    await screen.says(".row .price", "67,011.25")
    desk.state("beta_prices", State.STALE, "no data for 5 s")
    await screen.says(".cell.stale .why", "beta_prices is stale: no data for 5 s")
    for part in ("a", ".price", ".age", ".cell.stale .price", ".cell.stale .age", ".cell .why"):
        box = await screen.page.locator(f".row:not([hidden]) >> {part} >> nth=0").bounding_box()
        assert box["x"] >= 0, part
        assert box["x"] + box["width"] <= 390, part
        assert box["y"] + box["height"] <= 844, part
    assert re.fullmatch("[0-9]+ s", await screen.text(".cell.stale .age"))
    await no_row_covers_another(screen)
    tall = await screen.page.locator(".row >> nth=0").bounding_box()
    # Fewer venues need less; a wide screen has them beside each other.
    await screen.page.locator("#venue").select_option("alpha")
    await screen.until("document.querySelector('.row').offsetHeight < v[0]", tall["height"])
    await no_row_covers_another(screen)
    await screen.page.set_viewport_size({"width": 1280, "height": 800})
    await screen.until("document.querySelector('.row').offsetHeight === 52")
    await no_row_covers_another(screen)


async def no_row_covers_another(screen):
    """Each begins where the one before it ends, and holds all that is in it."""
    await screen.until(
        """(() => {
          const rows = [...document.querySelectorAll(".row:not([hidden])")];
          const boxes = rows.map((row) => row.getBoundingClientRect()).sort((a, b) => a.y - b.y);
          return boxes.length === 2 && Math.abs(boxes[0].bottom - boxes[1].top) < 1
            && rows.every((row) => row.scrollHeight <= row.clientHeight);
        })()"""
    )


async def test_a_theme_can_be_chosen_and_stays(desk, look):
    """The choice holds over a reload, from the first paint on."""
    screen = await look(desk.url, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    await screen.says(".row a", "BTC/USDT")
    dark = await screen.page.evaluate(background)
    await screen.page.get_by_label("Theme").select_option("light")
    await screen.until(f"{background} !== v[0]", dark)
    light = await screen.page.evaluate(background)
    await screen.page.reload(wait_until="commit")
    await screen.until(f"{background} === v[0]", light)
    await screen.says(".row a", "BTC/USDT")


async def test_every_control_is_reached_by_the_keyboard(desk, look):
    """Tab goes from the way past the head to the table, and each stop can be seen."""
    desk.price("alpha_prices", "BTC/USDT", "1.5")
    screen = await look(desk.url)
    await screen.says(".price", "1.5")
    stops = []
    for _ in range(40):
        await screen.page.keyboard.press("Tab")
        stop = await screen.page.evaluate(
            "(() => { const e = document.activeElement; const s = getComputedStyle(e);"
            " return [e.id || e.textContent.trim(), s.outlineStyle !== 'none']; })()"
        )
        stops.append(stop[0])
        assert stop[1], stop
        if stop[0] == "grid":
            break
    assert stops[0] == "skip"
    await screen.page.locator("#skip").focus()
    await screen.page.keyboard.press("Enter")
    await screen.until("document.activeElement.id === 'main'")
    assert await screen.page.locator("#market").is_visible()
    for name in ("Market", "Status", "Ops", "theme", "filter", "venue", "grid"):
        assert name in stops


async def test_changes_of_the_connection_are_announced(desk, look):
    """Once each, in a region that screen readers follow, without the seconds that count down."""
    screen = await look(desk.url)
    screen.excused = "WebSocket connection to|Failed to load"
    await screen.says("#announcer", "Connected")
    for session in tuple(desk.daemon.sessions):
        session.transport.abort()
    await screen.says("#announcer", "Connection lost")
    assert not any(c.isdigit() for c in await screen.text("#announcer"))
