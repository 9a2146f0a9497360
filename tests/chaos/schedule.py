"""What goes wrong, and when: all of it drawn from one seed."""

from __future__ import annotations

import asyncio
import copy
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

from chaos.clients import Actor
from chaos.plant import Plant
from chaos.sdk_clients import Python
from chaos.venues import BOOKS, TWO, Sections, Venues

VENUES = ("okx", "binance", "coingecko", "*")
STREAMS = ("okx", "binance")
SMALL = (0.1, 1.5)
LONG = (0.5, 4.0)
"""Seconds: beyond `stale_after_s` and all other limits of the feeds."""
NETWORK = ("halfopen", "refuse", "noack", "nopong")
PAUSE_S = (0.02, 0.4)


def fault(chance: Random) -> dict[str, Any]:
    """Return a fault of the venues; each ends by itself."""

    def some(kind: str, *, venues: Sequence[str] = VENUES, **more: Any) -> dict[str, Any]:
        return {"venue": chance.choice(venues), "kind": kind, **more}

    def for_s(bounds: tuple[float, float] = SMALL) -> float:
        return round(chance.uniform(*bounds), 2)

    only = {"instrument": chance.choice(TWO)} if chance.random() < 0.5 else {}
    after_s = for_s()
    return chance.choice(
        [
            lambda: some("mute", for_s=for_s(LONG), **only),
            lambda: some("drop", fraction=chance.choice([0.05, 0.5]), for_s=for_s(), **only),
            lambda: some("delay", seconds=for_s((0.02, 0.8)), for_s=for_s()),
            lambda: some("garbage", count=chance.randint(1, 3)),
            lambda: some("bom", count=chance.randint(1, 3)),
            lambda: some("truncate", count=1, **only),
            lambda: some("duplicate", for_s=for_s(), **only),
            lambda: some("status", status=chance.choice([403, 451, 500, 503]), count=2),
            lambda: some("status", status=chance.choice([418, 429]), retry_after=1, count=1),
            lambda: some(chance.choice(["html", "empty"]), count=chance.randint(1, 3)),
            lambda: some(chance.choice(NETWORK), for_s=for_s(LONG)),
            lambda: some("notice", venues=["okx"], after_s=after_s, count=1),
            lambda: some("shutdown", venues=["binance"], after_s=after_s, count=1),
            lambda: some("close", venues=STREAMS, code=chance.choice([1001, 1006, 4001]), count=1),
            lambda: some("close", venues=STREAMS),
        ]
    )()


class Schedule:
    """
    Draws what happens next, and does it.

    Args:
        seed: of everything.
        plant: the daemon.
        venues: the simulator.
        actors: the clients.
        feeds: those that the daemon has at first.

    """

    def __init__(
        self, seed: int, plant: Plant, venues: Venues, actors: Sequence[Actor], feeds: Sections
    ) -> None:
        self._chance = Random(seed)
        self._plant = plant
        self._venues = venues
        self._actors = actors
        self._feeds = feeds
        self.done: Counter[str] = Counter()
        self.story: list[str] = []
        """What was done, in order."""

    async def run(self, seconds: float) -> None:
        """Let things go wrong for so long; each kind of them at least once."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        steps: dict[Callable[[], Awaitable[None]], int] = {
            self._fault: 24,
            self._kill_client: 8,
            self._stall: 8,
            self._leave: 4,
            self._reload: 3,
            self._bad_reload: 1,
            self._rotate: 4,
            self._stop: 1,
            self._kill: 1,
        }
        first = list(steps)
        self._chance.shuffle(first)
        while loop.time() < end or first:
            draw = self._chance.choices(list(steps), list(steps.values()))[0]
            step = first.pop() if first and self._chance.random() < 0.1 else draw
            self.done[step.__name__.strip("_")] += 1
            await step()
            await asyncio.sleep(self._chance.uniform(*PAUSE_S))

    async def calm_down(self) -> None:
        """Let nothing go wrong any more."""
        faults = self._venues.simulator.faults
        faults.clear()
        for actor in self._actors:
            actor.calm = True
            actor.flowing.set()
        await self._plant.reload(self._feeds)
        # The last cut: with a new connection the pauses between requests for books begin anew.
        for venue in STREAMS:
            faults.add(venue=venue, kind="close")

    def _tell(self, what: str) -> None:
        self.story.append(what)

    async def _fault(self) -> None:
        one = fault(self._chance)
        self._tell(f"fault {one}")
        self.done[f"fault {one['kind']}"] += 1
        self._venues.simulator.faults.add(**one)

    async def _kill_client(self) -> None:
        actor = self._chance.choice(self._actors)
        self._tell(f"cut {actor.name}")
        actor.kill()

    async def _leave(self) -> None:
        actor = self._chance.choice([each for each in self._actors if isinstance(each, Python)])
        self._tell(f"{actor.name} leaves")
        actor.leave()

    async def _stall(self) -> None:
        actor = self._chance.choice(self._actors)
        for_s = self._chance.uniform(0.2, 6.0)
        self._tell(f"stall {actor.name} for {for_s:.1f} s")
        actor.flowing.clear()
        asyncio.get_running_loop().call_later(for_s, actor.flowing.set)

    async def _reload(self) -> None:
        feeds = copy.deepcopy(self._feeds)
        chance = self._chance
        if chance.random() < 0.5:
            del feeds["comes_and_goes"]
        book = chance.choice(list(BOOKS))
        feeds[book]["depth"] = chance.choice([5, 10])
        feeds["trades"]["instruments"] = TWO[: chance.randint(1, 2)]
        feeds["prices"]["interval_s"] = chance.choice([0.3, 0.6])
        self._tell(f"reload: {book} {feeds[book]['depth']}, {len(feeds)} feeds")
        await self._plant.reload(feeds)

    async def _bad_reload(self) -> None:
        self._tell("reload of nonsense")
        await self._plant.refuse()

    async def _rotate(self) -> None:
        feed = self._chance.choice(["ticker", "okx_trades", "okx_books", "depth", "trades"])
        self._tell(f"rotate {feed}")
        await self._plant.rotate(feed)

    async def _stop(self) -> None:
        self._tell("SIGTERM")
        await self._plant.restart(signal.SIGTERM)

    async def _kill(self) -> None:
        self._tell("SIGKILL")
        await self._plant.restart(signal.SIGKILL)
