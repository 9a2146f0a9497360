import re

import pytest

from aggregator.simulator.coins import known_coins
from aggregator.simulator.depth import Books, View
from aggregator.simulator.digits import eight, short
from aggregator.simulator.market import Market


def path(seed, steps, extra=0):
    market = Market(seed, extra)
    rows = []
    for _ in range(steps):
        market.step()
        one = market.by_symbol["BTCUSDT"]
        rows.append((one.last, one.bid, one.ask, one.volume, one.trade_id))
    return rows


def test_same_seed_same_prices():
    """Seed and number of steps alone decide the prices, whatever else is listed."""
    assert path(7, 300) == path(7, 300) == path(7, 300, extra=10)
    assert path(7, 300) != path(8, 300)


def test_quotes_stay_sane_over_many_steps():
    """Whatever the walk does, bid < ask, both positive, and low <= last <= high."""
    market = Market(3)
    for _ in range(3000):
        market.step()
        for one in market:
            assert 0 < one.bid < one.ask or not one.trading
            assert one.low <= one.last <= one.high
            assert one.volume > 0


def test_enough_is_listed():
    """There are at least 20 USDT pairs, extras on demand, and a limit on those."""
    market = Market(1, 3500)
    assert sum(one.quote == "USDT" for one in Market(1)) >= 20
    assert len(list(market)) == len(list(Market(1))) + 3500
    with pytest.raises(ValueError, match="3501"):
        Market(1, 3501)


@pytest.mark.parametrize(
    ("units", "decimals", "long", "brief"),
    [
        (6701250, 2, "67012.50000000", "67012.5"),
        (12500, 2, "125.00000000", "125"),
        (1121, 8, "0.00001121", "0.00001121"),
        (5, 0, "5.00000000", "5"),
        (123456789012, 10, "12.34567890", "12.3456789012"),
        (0, 4, "0.00000000", "0"),
    ],
)
def test_digits(units, decimals, long, brief):
    """Integers become exactly the text that Binance and OKX write."""
    assert eight(units, decimals) == long
    assert short(units, decimals) == brief


def test_negative_changes_keep_their_sign():
    """A falling price is a negative number, also below one."""
    assert eight(-1, 2) == "-0.01000000"


def test_books_follow_the_quote_and_replay_exactly():
    """Applying the changes of each step to the first book gives the book as it is."""
    market = Market(5)
    books = Books(5, "binance", 450, lambda _one: 0)
    for symbol in ("BTCUSDT", "PEPEUSDT", "ADAUSDT"):
        book = books.of(market.by_symbol[symbol])
        book.watch("test")
        bids, asks, last = dict(book.bids), dict(book.asks), book.last_id
        for _ in range(400):
            market.step()
            books.advance()
            changes = book.take("test")
            assert changes.first == last + 1
            last = changes.last
            for side, altered in ((bids, changes.bids), (asks, changes.asks)):
                side.update(altered)
                for ticks in [ticks for ticks, lots in side.items() if not lots]:
                    del side[ticks]
            assert (bids, asks, last) == (book.bids, book.asks, book.last_id)
            one = book.instrument
            assert (max(bids), min(asks)) == (one.bid, one.ask)
        assert len(bids) >= 400
        assert len(asks) >= 400


def walked(market, books, view, steps):
    """Yield after each step what has changed in a view."""
    for _ in range(steps):
        market.step()
        books.advance()
        yield view.take()


@pytest.mark.parametrize("seed", [1, 3])
def test_a_view_is_the_best_levels_at_every_moment(seed):
    """Who makes its changes holds the best 400, whenever he came, however far the price goes."""
    market = Market(seed)
    books = Books(seed, "okx", 450, lambda one: one.okx_offset)
    book = books.of(market.by_symbol["BTCUSDT"])
    view = View(book, 400)
    readers, last = [], view.sequence
    for step, changes in enumerate(walked(market, books, view, 5000)):
        assert changes.first == last + 1
        assert view.sequence == changes.last
        last = changes.last
        for reader in readers:
            for side, altered in zip(reader, (changes.bids, changes.asks), strict=True):
                # Nothing is taken away that was not there, and nothing told that has not changed.
                assert all(side.get(ticks, 0) != lots for ticks, lots in altered.items())
                side.update(altered)
                for ticks in [ticks for ticks, lots in altered.items() if not lots]:
                    del side[ticks]
        if step % 500 == 0:
            readers.append((dict(book.best_bids(400)), dict(book.best_asks(400))))
        if step % 10 == 0:
            best = dict(book.best_bids(400)), dict(book.best_asks(400))
            assert all(reader == best for reader in readers)
    assert len(readers) == 10


def test_coins():
    """At least 120 coins, ids unique, symbols not; some tiny prices; shared ones share prices."""
    market = Market(7)
    coins = known_coins(market)
    assert len(coins) >= 120
    assert len({coin.id for coin in coins}) == len(coins)
    assert len({coin.symbol for coin in coins[:130]}) < len(coins[:130])
    assert any(coin.price is not None and coin.price < 1e-6 for coin in coins)
    assert any(coin.price is None for coin in coins)
    assert coins[0].id == "bitcoin"
    assert coins[0].price == market.by_symbol["BTCUSDT"].price
    assert all(re.fullmatch(r"[a-z0-9-]+", coin.id) for coin in coins)
