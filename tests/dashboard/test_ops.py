"""The operators' view: a message to every client, and who may send one."""

from __future__ import annotations

import pytest
from aiohttp import web
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
        await screen.says("#broadcast-result", "Not sent: a token of operators is needed.")
        await screen.page.locator("#ops-token").fill("a wrong one")
        await screen.page.locator("#broadcast-send").click()
        await screen.says("#broadcast-result", "Not sent: the token is not that of an operator")
        await screen.page.locator("#ops-token").fill("Ключ")
        await screen.page.locator("#broadcast-send").click()
        await screen.says("#broadcast-result", "characters that a browser can't send")
        assert await screen.count(".toast") == 0
        await screen.page.locator("#ops-token").fill("Bearer the right one")
        await screen.page.locator("#broadcast-send").click()
        await screen.says("#broadcast-result", "Sent to 1 client.")
        await screen.says(".toast", "Hello")
        # It is not shown to the daemon as a reader's: the page would not be let in.
        await screen.page.reload()
        await screen.says("#connection-text", "Connected")
        assert "right" not in screen.page.url
        # It is kept in the tab, as it says there: nobody gives it twice.
        await send(screen, "Hello again")
        await screen.says("#broadcast-result", "Sent to 1 client.")


async def test_toasts_do_not_pile_up(desk, look):
    """Of many the newest are shown."""
    screen = await look(desk.url)
    await screen.says("#connection-text", "Connected")
    for number in range(9):
        desk.daemon.sessions.broadcast(f"number {number}")
    await screen.says(".toast", "number 8")
    assert await screen.count(".toast") <= 4


async def test_a_message_that_is_too_long_is_refused_in_words(desk, look):
    """Nothing of it is cut off, and it says how long it may be; a shorter one goes out."""
    screen = await look(desk.url)
    await screen.says("#connection-text", "Connected")
    await send(screen, "x" * 2_001)
    await screen.says("#broadcast-result", "Not sent: 2,001 characters, at most 2,000 can be.")
    assert len(await screen.page.locator("#broadcast-text").input_value()) == 2_001
    await send(screen, "x" * 2_000)
    await screen.says("#broadcast-result", "Sent to 1 client.")


async def test_a_daemon_that_is_gone_is_told(look):
    """It says so in words, and the form can be used again."""
    async with Desk().running() as desk:
        screen = await look(desk.url)
        screen.excused = WHILE_AWAY
        await screen.says("#connection-text", "Connected")
    await send(screen, "Hello")
    await screen.says("#broadcast-result", "Not sent: the daemon can't be reached.")
    assert await screen.page.locator("#broadcast-send").is_enabled()


@pytest.mark.parametrize(
    ("status", "message", "told"),
    [
        (403, "this needs the role ops", "Not sent: not allowed, this needs the role ops."),
        (413, "Maximum request body size", "Not sent: the message is too long for the daemon."),
        (429, "too many wrong tokens", "Not sent: too many wrong tokens came from here."),
        (500, None, "Not sent: HTTP 500."),
    ],
)
async def test_every_refusal_is_told_in_words(desk, look, status, message, told):
    """Whatever the daemon, or a proxy before it, answers."""
    screen = await look(desk.url)
    screen.excused = WHILE_AWAY
    await screen.says("#connection-text", "Connected")
    answer = web.json_response({"message": message}).text if message else "<p>broken</p>"
    await screen.page.route("**/ws/test", lambda r: r.fulfill(status=status, body=answer))
    await send(screen, "Hello")
    await screen.says("#broadcast-result", told)


async def test_a_daemon_that_does_not_answer_is_not_waited_for(desk, look):
    """After a while it says that it can't tell whether the message went out."""
    screen = await look(desk.url)
    await screen.says("#connection-text", "Connected")
    screen.excused = WHILE_AWAY
    await screen.page.evaluate(
        "AbortSignal.timeout = () => AbortSignal.abort(new DOMException('', 'TimeoutError'))"
    )
    await send(screen, "Hello")
    await screen.says("#broadcast-result", "No answer from the daemon in 10 s")
