"""A tiny matching engine: one for the simulator, for the accounts of both venues.

Market orders, and what of a limit order the price has reached when it is placed, take the book's
levels at once; the book does not notice. The rest waits and is filled in parts, at each later step
of the market whose best price has reached it. What comes out depends on the seed and on the order
of requests alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from random import Random

from aggregator.simulator.accounts import (
    EXACT,
    ZERO,
    Account,
    Accounts,
    Fill,
    Order,
    down,
    now_ms,
    up,
)
from aggregator.simulator.depth import Books
from aggregator.simulator.faults import plain
from aggregator.simulator.market import Instrument, Market
from aggregator.simulator.rules import RULES, Rules
from aggregator.simulator.wanted import Refused, Wanted, bounded, check, levels, plan, to_freeze


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that happened, with the currencies whose balances it altered.

    `kind` is placed, filled, completed (a market order without another fill), canceled, rejected
    or deposit; `amount` is of a deposit, negative for a withdrawal.
    """

    kind: str
    account: Account
    ms: int
    order: Order | None = None
    fill: Fill | None = None
    currencies: tuple[str, ...] = ()
    amount: Decimal = ZERO


class Engine:
    """All orders of all accounts. Listeners are told of each change right after it was made.

    Numbers of orders and fills begin behind `start`: no venue gives one twice, and a client may
    outlive the simulator.
    """

    def __init__(
        self,
        market: Market,
        books: dict[str, Books],
        accounts: Accounts,
        seed: int,
        start: int = 0,
    ) -> None:
        self.accounts = accounts
        self._market = market
        self._books = books
        self._seed = seed
        self._start = start
        self._numbers = dict.fromkeys(RULES, 0)
        self._fills = dict.fromkeys(RULES, 0)
        self._listeners: list[Callable[[Change], None]] = []

    def listen(self, told: Callable[[Change], None]) -> None:
        """Call `told` with each change."""
        self._listeners.append(told)

    def instrument(self, venue: str, name: str) -> Instrument:
        """Return what is traded at `venue` under this name, in any spelling."""
        one = self._market.by_symbol.get(plain(name))
        if one is None or not one.trading or (venue == "okx" and not one.on_okx):
            raise Refused("instrument", f"{venue} does not trade {name!r}")
        return one

    def place(self, account: Account, wanted: Wanted) -> Order:
        """Take an order: it is live, and then what it can get at once is filled."""
        with localcontext(EXACT):
            check(account, wanted)
            within = levels(self._books[account.venue].of(wanted.instrument), wanted)
            crosses = bool(within) and not wanted.held
            if wanted.type == "post_only" and crosses and account.venue == "binance":
                raise Refused("would_take", "the order would take")
            fills = plan(wanted, within) if crosses and wanted.type != "post_only" else []
            frozen = to_freeze(wanted, fills, RULES[account.venue].unit)
            balance = account.balance(wanted.pays)
            if frozen > balance.available:
                raise Refused("balance", f"insufficient {wanted.pays}")
            order = self._new(account, wanted)
            if account.venue == "binance" and order.size is None and fills:
                # There the quantity is known before the first fill.
                order.size = sum((size for _, size in fills), ZERO)
            balance.available -= frozen
            balance.frozen += frozen
            order.frozen = frozen
            account.open[order.id] = order
            self._tell("placed", account, order, wanted.pays)
            for price, size in fills:
                self._execute(account, order, price, size, maker=False)
            self._settle(account, order, crosses=crosses)
            return order

    def cancel(
        self, account: Account, order: Order, *, reason: str = "user", cancel_id: str = ""
    ) -> None:
        """End an order that works."""
        if not order.working:
            raise Refused("closed", f"order {order.id} is {order.state}")
        order.cancel_id = cancel_id
        with localcontext(EXACT):
            self._end(account, order, "canceled", reason)

    def fill(
        self,
        account: Account,
        order: Order,
        size: Decimal | None = None,
        price: Decimal | None = None,
        *,
        maker: bool = True,
    ) -> Fill:
        """Fill `size` of an order by hand; all that is left if it is not given."""
        if not order.working or order.size is None:
            raise Refused("closed", f"order {order.id} is {order.state}")
        bounded(size, price)
        size = order.remaining if size is None else size
        if not ZERO < size <= order.remaining:
            raise Refused("size", f"{size} is not within 0 and {order.remaining}")
        if size.scaleb(order.instrument.lot_decimals) % 1:
            raise Refused("lot", f"{size} is no multiple of the lot")
        price = order.price if price is None else price
        limit = order.price
        if price is None or limit is None or price <= 0:
            raise Refused("price", "a price is needed")
        if (price > limit) if order.buys else (price < limit):
            raise Refused("price", f"{price} is worse than the order's {limit}")
        with localcontext(EXACT):
            return self._execute(account, order, price, size, maker=maker)

    def reject(self, account: Account, wanted: Wanted, reason: str) -> Order:
        """Have an order that the venue takes in and throws out: it never works."""
        order = self._new(account, wanted)
        order.state, order.reason = "rejected", reason
        account.recent.append(order)
        self._tell("rejected", account, order)
        return order

    def deposit(self, account: Account, currency: str, amount: Decimal) -> None:
        """Credit an amount, or take a negative one away."""
        bounded(amount)
        balance = account.balance(currency)
        with localcontext(EXACT):
            if balance.available + amount < 0:
                raise Refused("balance", f"only {balance.available} {currency} can be taken")
            balance.available += amount
        self._tell("deposit", account, None, currency, amount=amount)

    def advance(self) -> None:
        """Follow the market's last step: fill what its prices have reached."""
        with localcontext(EXACT):
            for account in self.accounts:
                for order in list(account.open.values()):
                    if order.instrument.moved and not order.held and order.price is not None:
                        self._follow(account, order, order.price)

    def _follow(self, account: Account, order: Order, limit: Decimal) -> None:
        one = order.instrument
        offset = one.okx_offset if account.venue == "okx" else 0
        best = Decimal((one.ask if order.buys else one.bid) + offset).scaleb(-one.decimals)
        if (best > limit) if order.buys else (best < limit):
            return
        left = int(order.remaining.scaleb(one.lot_decimals))
        whole = int((order.size or ZERO).scaleb(one.lot_decimals))
        lots = min(left, max(1, whole * order.rng.randint(20, 60) // 100))
        size = Decimal(lots).scaleb(-one.lot_decimals)
        self._execute(account, order, limit, size if lots < left else order.remaining, maker=True)

    def _new(self, account: Account, wanted: Wanted) -> Order:
        self._numbers[account.venue] += 1
        rules = RULES[account.venue]
        count = self._numbers[account.venue]
        number = rules.first_order + self._start + count
        now = now_ms()
        # Not for secrets: the same seed must fill the same parts.
        rng = Random(f"{self._seed}/{account.venue}/{count}")  # noqa: S311
        return Order(
            id=number,
            client_id=wanted.client_id or rules.name.format(number),
            instrument=wanted.instrument,
            side=wanted.side,
            type=wanted.type,
            price=wanted.price,
            size=wanted.size,
            quote_size=wanted.quote_size,
            created_ms=now,
            updated_ms=now,
            rng=rng,
            tag=wanted.tag,
            held=wanted.held,
        )

    def _execute(
        self, account: Account, order: Order, price: Decimal, size: Decimal, *, maker: bool
    ) -> Fill:
        rules = RULES[account.venue]
        value = down(price * size, rules.unit)
        got = size if order.buys else value
        fee = down(got * (rules.maker if maker else rules.taker), rules.unit)
        order.filled += size
        order.value += value
        order.fee += fee
        pays, gets = account.balance(order.pays), account.balance(order.gets)
        released = order.frozen - self._still_frozen(order, value if order.buys else size, rules)
        order.frozen -= released
        pays.frozen -= released
        pays.available += released - (value if order.buys else size)
        gets.available += got - fee
        self._fills[account.venue] += 1
        fill = Fill(
            id=rules.first_fill + self._start + self._fills[account.venue],
            order_id=order.id,
            instrument=order.instrument,
            side=order.side,
            price=price,
            size=size,
            value=value,
            fee=fee,
            fee_currency=order.gets,
            maker=maker,
            ms=now_ms(),
        )
        order.last = fill
        account.fills.append(fill)
        done = order.size is not None and order.filled == order.size
        order.state = "filled" if done else "partially_filled"
        if done:
            self._close(account, order)
        self._tell("filled", account, order, order.pays, order.gets, fill=fill)
        return fill

    def _still_frozen(self, order: Order, paid: Decimal, rules: Rules) -> Decimal:
        """Return what the order has to hold after it has paid this."""
        if order.size is not None and order.filled == order.size:
            return ZERO
        if order.buys and order.price is not None:
            return up(order.price * order.remaining, rules.unit)
        return order.frozen - paid

    def _settle(self, account: Account, order: Order, *, crosses: bool) -> None:
        """End what an order could not get at once, if its type does not let it wait."""
        if not order.working:
            return
        if order.type == "market":
            enough = order.quote_size is not None and order.filled
            self._end(account, order, "filled" if enough else "canceled", "liquidity")
        elif order.type in ("ioc", "fok") or (order.type == "post_only" and crosses):
            self._end(account, order, "canceled", order.type)

    def _end(self, account: Account, order: Order, state: str, reason: str) -> None:
        order.state, order.reason = state, "" if state == "filled" else reason
        balance = account.balance(order.pays)
        balance.frozen -= order.frozen
        balance.available += order.frozen
        order.frozen = ZERO
        self._close(account, order)
        kind = "completed" if state == "filled" else "canceled"
        self._tell(kind, account, order, order.pays)

    def _close(self, account: Account, order: Order) -> None:
        account.open.pop(order.id, None)
        account.recent.append(order)

    def _tell(
        self,
        kind: str,
        account: Account,
        order: Order | None,
        *currencies: str,
        fill: Fill | None = None,
        amount: Decimal = ZERO,
    ) -> None:
        now = now_ms() if fill is None else fill.ms
        account.updated_ms = now
        for currency in currencies:
            account.balance(currency).updated_ms = now
        if order is not None:
            order.updated_ms = now
        for told in self._listeners:
            told(Change(kind, account, now, order, fill, currencies, amount))
