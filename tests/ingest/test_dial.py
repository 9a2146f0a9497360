from __future__ import annotations

import asyncio

from aggregator.ingest.dial import ATTEMPTS, WINDOW_S, DialLimiter


async def test_three_attempts_a_second(clock):
    """However many feeds dial one host at once, no window has more than three of them."""
    waits = []

    async def sleep(seconds):
        waits.append(round(seconds, 6))

    dial = DialLimiter(clock, sleep)
    await asyncio.gather(*(dial.turn("okx") for _ in range(3 * ATTEMPTS)))
    await dial.turn("another host")

    assert waits == [WINDOW_S] * ATTEMPTS + [2 * WINDOW_S] * ATTEMPTS
    clock.advance(10)
    await dial.turn("okx")
    assert len(waits) == 2 * ATTEMPTS
