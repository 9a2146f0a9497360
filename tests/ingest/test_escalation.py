"""What is done about silent instruments: one step at a time, ever more rarely."""

from __future__ import annotations

import itertools
import logging

import pytest

from aggregator.ingest.counters import FeedCounters
from aggregator.ingest.escalation import FIRST_RECONNECT_PAUSE_S, LONGEST_PAUSE_S, Escalation

A = {"A/B": 1.0}
AB = {"A/B": 1.0, "C/D": 5.0}


class Feed:
    """Takes every step, and writes down when."""

    def __init__(self, addresses=2, *, can=True) -> None:
        self.addresses = addresses
        self.can = can
        self.rotating = False
        self.now = 0.0
        self.steps: list[tuple[float, str]] = []
        self.counters = FeedCounters()
        self.escalation = Escalation("f", self, self.counters, stale_after_s=30.0)

    def resubscribe(self, instruments):
        if self.can:
            self.steps.append((self.now, ",".join(instruments)))
        return self.can

    def rotate(self, reason, *, next_url=False):
        assert reason == "stale"
        self.steps.append((self.now, "next" if next_url else "rotate"))
        return True

    def run(self, until, silent):
        """Look each second."""
        while self.now < until:
            self.now += 1
            self.escalation.look(self.now, silent)


def test_one_step_at_a_time(caplog):
    """Subscription, connection, next address, each with its time; then a rest, said and counted."""
    caplog.set_level(logging.INFO)
    feed = Feed()
    feed.run(150, A)
    assert feed.steps == [(1, "A/B"), (34, "rotate"), (67, "next")]
    assert feed.counters.escalations == {"resubscribe": 1, "reconnect": 1, "next_url": 1}
    assert caplog.messages == [
        "feed f: A/B silent: resubscribe",
        "feed f: A/B silent: reconnect",
        "feed f: A/B silent: next url",
        "feed f: A/B still silent: the next attempt is in 60 s",
    ]


def test_what_comes_back_ends_it():
    """With data there is no further step; another silence begins at the first."""
    feed = Feed()
    feed.run(10, A)
    feed.run(1000, {})
    feed.run(1001, A)
    assert feed.steps == [(1, "A/B"), (1001, "A/B")]


def times(feed, step):
    return [now for now, each in feed.steps if each == step]


def test_a_halted_instrument_is_left_alone():
    """The rests double up to a day, for subscriptions and more so for connections."""
    feed = Feed(addresses=1)
    feed.run(86_400, A)
    for step, first_s, most in (("A/B", 60, 12), ("rotate", FIRST_RECONNECT_PAUSE_S, 7)):
        gaps = [b - a for a, b in itertools.pairwise(times(feed, step))]
        assert 4 <= len(gaps) < most
        assert gaps[0] >= first_s
        assert all(b > 1.2 * a for a, b in itertools.pairwise(gaps))
    count = len(feed.steps)
    feed.run(10 * 86_400, A)
    assert len(feed.steps) <= count + 2 * 9
    assert times(feed, "rotate")[-1] - times(feed, "rotate")[-2] >= LONGEST_PAUSE_S


def test_what_can_not_be_done_costs_no_time():
    """A connector that can't subscribe again, or one address: the next step at once."""
    feed = Feed(addresses=1, can=False)
    feed.run(100, A)
    assert feed.steps == [(1, "rotate")]


def test_many_at_once_are_no_matter_of_subscriptions():
    """The connection is replaced for them all; venues count subscriptions."""
    feed = Feed()
    feed.run(1, {f"A{n}/B": 1.0 for n in range(11)})
    assert feed.steps == [(1, "rotate")]


def test_another_one_while_the_first_rests():
    """It is subscribed to again at once; the next connection is ten minutes after the last."""
    feed = Feed(addresses=1)
    feed.run(100, A)
    feed.run(2000, AB)
    assert feed.steps[:3] == [(1, "A/B"), (34, "rotate"), (101, "A/B,C/D")]
    first, second = times(feed, "rotate")[:2]
    assert FIRST_RECONNECT_PAUSE_S <= second - first < 2 * FIRST_RECONNECT_PAUSE_S


@pytest.mark.parametrize("every_s", [35, 300])
def test_silences_one_after_the_other_do_not_hammer(every_s):
    """Instruments that fall silent and come back, again and again: one round in ten minutes."""
    feed = Feed()
    n = 0
    while feed.now < 86_400:
        n += 1
        feed.run(feed.now + every_s, {f"A{n}/B": 1.0, "X/Y": 1.0} if n % 3 else {})
    rotations = times(feed, "rotate")
    assert len(rotations) <= 86_400 / FIRST_RECONNECT_PAUSE_S + 1
    assert all(b - a >= FIRST_RECONNECT_PAUSE_S for a, b in itertools.pairwise(rotations))


def test_a_step_has_its_time_when_it_is_done():
    """While the connection is being replaced the next step waits."""
    feed = Feed()
    feed.run(34, A)
    feed.rotating = True
    feed.run(200, A)
    feed.rotating = False
    feed.run(300, A)
    assert feed.steps == [(1, "A/B"), (34, "rotate"), (230, "next")]


def test_a_rare_instrument_has_its_time():
    """A step for what comes every ten minutes may take some of these."""
    feed = Feed()
    feed.run(1831, {"A/B": 600.0})
    assert feed.steps == [(1, "A/B"), (1831, "rotate")]
