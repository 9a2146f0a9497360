"""What the page says of its connection, and what it does without one."""

from __future__ import annotations

import contextlib

from dashboard.desk import Desk
from dashboard.screens import WHILE_AWAY

BACK = "document.body.dataset.connection === 'open' || document.getElementById('retry').click()"
"""It comes back by itself; the button makes it sooner."""


def laid_out(desk):
    desk.channel("alpha_prices", "alpha", ["BTC/USDT"])


async def test_it_resumes_after_a_restart_of_the_daemon(look):
    """Numbers are grey while it is away; then it goes on, and says how much it has missed."""
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(Desk().running())
        laid_out(first)
        first.price("alpha_prices", "BTC/USDT", "100.5")
        screen = await look(first.url)
        screen.excused = WHILE_AWAY
        await screen.says(".price", "100.5")
        await screen.says("#connection-text", "Connected")
        first.price("alpha_prices", "BTC/USDT", "100.7")
        await screen.says(".price", "100.7")
        live = "getComputedStyle(document.querySelector('.cell.venue .price')).color"
        colour = await screen.page.evaluate(live)
        await stack.aclose()
        await screen.until("document.body.dataset.connection === 'lost'")
        await screen.until(f"{live} !== v[0]", colour)
        assert "100.7" in await screen.text(".cell.venue .price")
        port = int(first.url.rpartition(":")[2])
        second = await stack.enter_async_context(Desk(port).running())
        laid_out(second)
        second.price("alpha_prices", "BTC/USDT", "101.5")
        second.price("alpha_prices", "BTC/USDT", "102.5")
        await screen.until(BACK)
        await screen.says(".price", "102.5")
        await screen.says("#gap", "Gap of 2 messages")
        await screen.go("status")
        await screen.says("#gaps", "alpha_prices")
        await screen.says("#gaps", "another run of the daemon")
        second.price("alpha_prices", "BTC/USDT", "103.5")
        await screen.go("")
        await screen.says(".price", "103.5")


async def test_it_misses_nothing_over_a_short_break(desk, look):
    """What was published while the connection was lost comes afterwards; there is no gap."""
    desk.price("alpha_prices", "BTC/USDT", "1.5")
    screen = await look(desk.url)
    screen.excused = WHILE_AWAY
    await screen.says(".price", "1.5")
    # From what comes behind the snapshot on there is something to go on from.
    desk.price("alpha_prices", "BTC/USDT", "1.75")
    await screen.says(".price", "1.75")
    await screen.page.evaluate(
        "globalThis.states = [];"
        "new MutationObserver(() => states.push(document.body.dataset.connection))"
        ".observe(document.body, { attributes: true })"
    )
    for session in tuple(desk.daemon.sessions):
        session.transport.abort()
    await screen.until("document.body.dataset.connection === 'lost'")
    desk.price("alpha_prices", "BTC/USDT", "2.5")
    await screen.until(BACK)
    await screen.says(".price", "2.50")
    assert await screen.page.locator("#gap").is_hidden(), await screen.text("#gaps")
    assert "lost" in await screen.page.evaluate("states")


async def test_a_gap_of_a_venue_is_told(desk, look):
    """It stands in the head, and with its cause in the status."""
    desk.price("alpha_prices", "BTC/USDT", "1.5")
    screen = await look(desk.url, "status")
    await screen.says("#feeds", "alpha_prices")
    await screen.until("document.body.dataset.connection === 'open'")
    await screen.until("document.getElementById('tile-sessions').textContent === '1'")
    desk.gap("alpha_prices", "BTC/USDT", "the venue <b>skipped</b> some")
    await screen.says("#gaps", "upstream: the venue <b>skipped</b> some")
    await screen.says("#gap", "at a venue")


async def test_a_token_is_asked_for_and_kept_out_of_the_address(rehearse, run_cli, look):
    """Where nobody may come without one: it is asked for, kept in the tab, and used everywhere."""
    made = run_cli("token", "create", "--user", "7", "--role", "ops")
    token = made.stdout.strip()
    section = made.stderr[made.stderr.index("[tokens") :]
    there = await rehearse(f"anonymous = false\n{section}")
    screen = await look(there.url)
    screen.excused = WHILE_AWAY
    await screen.until("document.getElementById('token-dialog').open")
    await screen.says("#connection-text", "Token needed")
    field = screen.page.locator("#token")
    await field.fill("agg_00000000_wrong")
    await field.press("Enter")
    await screen.says("#token-said", "not good")
    await field.fill(token)
    await field.press("Enter")
    await screen.says("#connection-text", "Connected")
    await screen.says(".row a", "BTC/USDT")
    assert token not in screen.page.url
    assert await screen.page.evaluate("JSON.stringify(localStorage) + document.cookie") == "{}"
    assert await screen.page.evaluate("sessionStorage.getItem('token')") == token
    await screen.go("status")
    await screen.says(".verdict", "is live")
    await screen.go("ops")
    await screen.page.locator("#broadcast-text").fill("with a token")
    await screen.page.locator("#broadcast-send").click()
    await screen.says("#broadcast-result", "Sent to 1 client")
    # It is good for as long as the tab is open, and for no other tab.
    await screen.page.reload()
    await screen.says("#connection-text", "Connected")
    other = await look(there.url)
    other.excused = WHILE_AWAY
    await other.says("#connection-text", "Token needed")


async def test_only_a_page_of_the_daemon_can_be_looked_at(desk, look):
    """Another page can't put this one into a frame of its own."""
    screen = await look(desk.url)
    await screen.says(".row a", "BTC/USDT")
    response = await screen.page.request.get(desk.url)
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
