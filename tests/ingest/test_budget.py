from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest.doubles import Clock

from aggregator.connector import Budget as Limits
from aggregator.ingest.budget import Budget, Budgets


@pytest.fixture
def budget(clock):
    return Budget("binance", "host", Limits(per_minute=6000, used_header="X-Used"), clock)


MINUTE = 61.0  # with the allowance for what comes closer together on its way


def test_no_minute_has_more_than_its_limit(budget, clock):
    """A minute's worth may go at once; then what went a minute ago may go again."""
    assert budget.try_take(4000) == 0
    clock.advance(10)
    assert budget.try_take(2000) == 0
    assert budget.try_take(100) == pytest.approx(MINUTE - 10)
    assert budget.try_take(5000) == pytest.approx(MINUTE)
    clock.advance(MINUTE - 10)
    assert budget.try_take(4000) == 0
    assert budget.try_take(1) == pytest.approx(10)


def test_no_limits(clock):
    """Without limits everything goes, and nothing is left to count."""
    budget = Budget("x", "host", Limits(), clock)

    assert all(budget.try_take(10**9) == 0 for _ in range(5))
    assert budget.left is None
    budget.answered(1, {"X-Used": "5"})
    assert budget.warnings() == []


def test_heavier_than_the_limit(clock):
    """A request that weighs more than the limit goes when nothing else counts, and then alone."""
    budget = Budget("x", "host", Limits(per_minute=60), clock)

    assert budget.try_take(90) == 0
    assert budget.left == -30
    assert budget.try_take(1) == pytest.approx(MINUTE)
    clock.advance(MINUTE)
    assert budget.try_take(1) == 0
    assert budget.try_take(90) == pytest.approx(MINUTE)
    clock.advance(MINUTE)
    assert budget.try_take(90) == 0


def test_evenly_within_a_second(clock):
    """What streamed feeds fetch is spread over the second; what is polled is not."""
    budget = Budget("okx", "host", Limits(per_second=9), clock)

    assert budget.try_take(1, evenly=True) == 0
    assert budget.try_take(1, evenly=True) == pytest.approx(1 / 9)
    assert budget.try_take(1) == 0
    clock.advance(1 / 9)
    assert budget.try_take(1, evenly=True) == 0
    went, start = 0, clock.now
    while clock.now < start + 2:
        wait_s = budget.try_take(1, evenly=True)
        went += wait_s == 0
        clock.advance(wait_s)
    assert went <= 19


def test_the_month_is_paced(clock):
    """A restart can't use up the month: little goes at once, the rest evenly over 30 days."""
    budget = Budget("coingecko", "host", Limits(per_minute=30, per_month=10_000), clock)

    assert sum(budget.try_take(1) == 0 for _ in range(100)) == 30
    clock.advance(MINUTE)
    assert sum(budget.try_take(1) == 0 for _ in range(100)) == 3
    assert budget.try_take(1) == pytest.approx(259.2, abs=MINUTE)
    assert budget.left < 1


def test_what_others_use(budget, clock):
    """What the venue counts and is not ours is others'; it counts until the next word of it."""
    assert budget.try_take(100) == 0
    budget.answered(100, {"x-USED": "5990", "Other": "1"})
    assert budget.left == 10
    budget.answered(0, {"X-Used": "nonsense"})
    budget.answered(0, {"X-Used": "-5"})
    assert budget.left == 10
    assert budget.try_take(20) == pytest.approx(60)
    clock.advance(30)
    budget.answered(0, {"X-Used": "100"})
    assert budget.left == 5900
    budget.answered(0, {"X-Used": "200"})
    assert budget.left == 5800
    clock.advance(60)
    assert budget.left == 6000


def test_what_is_in_flight_is_not_in_the_venues_count(budget):
    """Of several requests under way, the first answer's count can't have the others."""
    for _ in range(8):
        assert budget.try_take(500) == 0
    budget.answered(500, {"X-Used": "2500"})
    # 500 of ours are counted and 2,000 of others; 3,500 of ours are on their way.
    assert budget.left == 0
    for _ in range(7):
        budget.answered(500, {})
    budget.answered(0, {"X-Used": "6000"})
    assert budget.left == 0


def test_block(budget, clock):
    """Nothing goes before a block ends, and a shorter block does not shorten it."""
    budget.block(35, "HTTP 429")
    budget.block(5, "another")

    assert budget.blocked_s == 35
    assert budget.try_take(1) == 35
    assert budget.block_reason == "HTTP 429"
    clock.advance(34.9)
    assert budget.try_take(1) > 0
    clock.advance(0.1)
    assert budget.blocked_s == 0
    assert budget.try_take(1) == 0


def test_warnings_say_the_numbers(budget, caplog):
    """A plan that does not fit is warned about, once, with what it will come to."""
    budget.plan("a", 10_000, 10)
    assert budget.warnings() == [
        (
            "binance at host: the feeds want 10,000 weight a minute, the limit is 6,000; "
            "effective intervals will be about 17 s"
        )
    ]
    budget.plan("b", 5_000, 20)
    budget.warn()
    budget.warn()
    assert [record.message for record in caplog.records] == [
        (
            "binance at host: the feeds want 15,000 weight a minute, the limit is 6,000; "
            "effective intervals will be about 25 to 50 s"
        )
    ]
    budget.plan("a", 10, 10)
    assert budget.warnings() == []


def test_warnings_for_months(clock):
    """The month's limit is looked at as well."""
    budget = Budget("coingecko", "host", Limits(30, 10_000), clock)
    budget.plan("a", 6, 10)

    assert budget.warnings() == [
        (
            "coingecko at host: the feeds want 259,200 weight in 30 days, the limit is 10,000; "
            "effective intervals will be about 259 s"
        )
    ]


def test_a_plan_that_hardly_fits_not(clock):
    """What is wanted is never said to be what is allowed."""
    budget = Budget("binance", "host", Limits(per_minute=30), clock)
    budget.plan("a", 30.2, 10)
    assert "want 31 weight a minute, the limit is 30;" in budget.warnings()[0]
    budget.plan("a", 30, 10)
    assert not budget.warnings()


def test_a_retired_budget_is_remembered(clock):
    """It is not among those that are asked, but has its block when it is wanted again."""
    budgets = Budgets(clock)
    one, two = (budgets.get("binance", f"https://{name}", Limits()) for name in ("a", "b"))
    one.block(60, "HTTP 429")
    budgets.retire({two})
    assert list(budgets) == [two]
    assert budgets.get("binance", "https://a", Limits()) is one
    assert set(budgets) == {one, two}
    assert one.blocked_s == 60


def test_one_budget_per_host(clock):
    """The feeds of one venue and host share a budget; user, password and path are no part of it."""
    budgets = Budgets(clock)
    limits = Limits(per_minute=1)
    one = budgets.get("binance", "https://u:p@host/api", limits)

    assert one is budgets.get("binance", "https://host/other", limits)
    assert one.host == "host"
    assert one is not budgets.get("binance", "https://host:81/", limits)
    assert one is not budgets.get("other", "https://host/", limits)
    assert len(list(budgets)) == 3
    one.plan("a", 2, 10)
    assert len(budgets.warnings()) == 1


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50)), max_size=60))
def test_never_more_than_allowed(steps):
    """In no 60 seconds, wherever they begin, more goes than the limit."""
    clock = Clock()
    budget = Budget("x", "host", Limits(per_minute=100), clock)
    taken: list[tuple[float, int]] = []
    for wait_s, weight in steps:
        clock.advance(wait_s)
        if budget.try_take(weight) == 0:
            taken.append((clock.now, weight))
        assert sum(w for at, w in taken if at > clock.now - 60) <= 100


def test_logger_is_quiet_without_news(budget, caplog):
    """A plan that fits is not worth a word."""
    caplog.set_level(logging.DEBUG)
    budget.plan("a", 1, 10)
    budget.warn()
    assert not caplog.records
