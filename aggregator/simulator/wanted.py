"""An order as it is asked for: what is wrong with it, and what it gets at once."""

from dataclasses import dataclass
from decimal import Decimal

from aggregator.simulator.accounts import ZERO, Account, down, up
from aggregator.simulator.depth import Book
from aggregator.simulator.market import Instrument

TYPES = ("limit", "market", "post_only", "ioc", "fok")
_LEVELS = 5
_MOST = Decimal("1e15")
_LEAST = Decimal("1e-18")

# Prices and sizes, the best first.
Levels = list[tuple[Decimal, Decimal]]


class Refused(Exception):  # noqa: N818 -- an answer, not a fault of ours
    """The engine does not take this; `reason` is a word, each venue has its own for it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request; exactly one of the sizes is given, `quote_size` for market orders alone."""

    instrument: Instrument
    side: str
    type: str = "limit"
    price: Decimal | None = None
    size: Decimal | None = None
    quote_size: Decimal | None = None
    client_id: str = ""
    tag: str = ""
    held: bool = False

    @property
    def buys(self) -> bool:
        """Whether it is a buy."""
        return self.side == "buy"

    @property
    def pays(self) -> str:
        """The currency that it takes."""
        return self.instrument.quote if self.buys else self.instrument.base


def bounded(*amounts: Decimal | None) -> None:
    """Refuse amounts that nobody has: they could not be computed exactly."""
    for amount in amounts:
        if amount is not None and not (abs(amount) < _MOST and amount == down(amount, _LEAST)):
            raise Refused("size", f"{amount} is too large, or has too many digits")


def check(account: Account, wanted: Wanted) -> None:
    """Refuse what no order can be."""
    bounded(wanted.size, wanted.price, wanted.quote_size)
    one = wanted.instrument
    if wanted.side not in ("buy", "sell") or wanted.type not in TYPES:
        raise Refused("type", f"no such order: {wanted.type} {wanted.side}")
    if (wanted.size is None) == (wanted.quote_size is None):
        raise Refused("size", "exactly one size is needed")
    if (wanted.price is None) != (wanted.type == "market"):
        raise Refused("price", "a price is for limit orders, and only for them")
    if wanted.quote_size is not None and wanted.type != "market":
        raise Refused("size", "a size in the quote currency is for market orders")
    size, price = wanted.size, wanted.price
    if (wanted.quote_size if size is None else size) <= 0:  # type: ignore[operator]
        raise Refused("minimum", "the size is not above zero")
    if size is not None and size.scaleb(one.lot_decimals) % 1:
        raise Refused("lot", f"the size is no multiple of 1e-{one.lot_decimals}")
    if price is not None and (price <= 0 or price.scaleb(one.decimals) % 1):
        raise Refused("tick", f"the price is no multiple of 1e-{one.decimals}")
    if wanted.client_id and any(o.client_id == wanted.client_id for o in account.open.values()):
        raise Refused("duplicate", f"an open order has the id {wanted.client_id!r}")


def levels(book: Book, wanted: Wanted) -> Levels:
    """Return what of the other side of the book is within the order's price."""
    one, limit = wanted.instrument, wanted.price
    rows = [
        (Decimal(ticks).scaleb(-one.decimals), Decimal(lots).scaleb(-one.lot_decimals))
        for ticks, lots in (book.best_asks(_LEVELS) if wanted.buys else book.best_bids(_LEVELS))
    ]
    if limit is None:
        return rows
    return [row for row in rows if (row[0] <= limit if wanted.buys else row[0] >= limit)]


def plan(wanted: Wanted, within: Levels) -> Levels:
    """Return the fills that come at once; the last level gives a market order all it wants."""
    lot = Decimal(1).scaleb(-wanted.instrument.lot_decimals)
    left, money = wanted.size or ZERO, wanted.quote_size
    fills: Levels = []
    for number, (price, there) in enumerate(within, 1):
        most = left if money is None else money // (price * lot) * lot
        endless = wanted.type == "market" and number == len(within)
        size = most if endless else min(there, most)
        if size <= 0:
            break
        fills.append((price, size))
        if money is None:
            left -= size
        else:
            money -= price * size
    # All or nothing.
    if wanted.type == "fok" and left:
        return []
    return fills


def to_freeze(wanted: Wanted, fills: Levels, unit: Decimal | None) -> Decimal:
    """Return what the order has to hold when it is placed, of the currency that it pays with."""
    if wanted.price is not None and wanted.size is not None:
        return up(wanted.price * wanted.size, unit) if wanted.buys else wanted.size
    if wanted.buys and wanted.quote_size is not None:
        return wanted.quote_size
    if wanted.buys:
        return sum((up(price * size, unit) for price, size in fills), ZERO)
    return sum((size for _, size in fills), ZERO)
