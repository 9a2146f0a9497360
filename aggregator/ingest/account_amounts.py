"""Amounts: exact sums of decimal text."""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow

ZERO = Decimal(0)

# `aggregator.account.Amount` has less than 100 digits: no sum of them is ever rounded.
_context = Context(prec=400, traps=[Inexact, InvalidOperation, Overflow])
add = _context.add
subtract = _context.subtract


def text(amount: Decimal) -> str:
    """Return an amount as decimal text without an exponent."""
    return format(amount, "f")
