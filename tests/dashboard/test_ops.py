"""The operators' view: a message to every client, and who may send one."""

from __future__ import annotations

from dashboard.desk import Desk
from dashboard.screens import WHILE_AWAY
from pydantic import SecretStr


async def send(screen, text):
    await screen.go("ops")
    await screen.page.locator("#broadcast-text").fill(text)
    await screen.page.locator("#broadcast-send").click()


async def test_a_broadcast_arrives_at_every_page(desk, look):
    """Each page that is open shows it, whatever view it is in; the sender sees how long it took."""
    one, other = await look(desk.url), await look(desk.url, "BTC/USDT")
    for screen in (one, other):
        await screen.says("#connection-text", "Connected")
    await send(one, "Maintenance at <b>nine</b>")
    await one.says("#broadcast-result", "Sent to 2 clients.")
    await one.says("#broadcasts", "back after")
    for screen in (one, other):
        await screen.says(".toast", "Maintenance at <b>nine</b>")
    await other.page.get_by_role("button", name="Dismiss").click()
    await other.until("!document.querySelector('.toast')")


async def test_the_token_of_operators(look):
    """Without the right one it is refused, with the reason; with it the message goes out."""
    async with Desk(ops_token=SecretStr("the right one")).running() as desk:
        screen = await look(desk.url)
        screen.excused = WHILE_AWAY
        await screen.says("#connection-text", "Connected")
        await send(screen, "Hello")
        await screen.says("#broadcast-result", "Not sent: Authorization")
        assert await screen.count(".toast") == 0
        await screen.page.locator("#ops-token").fill("the right one")
        await screen.page.locator("#broadcast-send").click()
        await screen.says("#broadcast-result", "Sent to 1 client.")
        await screen.says(".toast", "Hello")
        # It is not shown to the daemon as a reader's: the page would not be let in.
        await screen.page.reload()
        await screen.says("#connection-text", "Connected")
        assert "right" not in screen.page.url


async def test_toasts_do_not_pile_up(desk, look):
    """Of many the newest are shown."""
    screen = await look(desk.url)
    await screen.says("#connection-text", "Connected")
    for number in range(9):
        desk.daemon.sessions.broadcast(f"number {number}")
    await screen.says(".toast", "number 8")
    assert await screen.count(".toast") <= 4
