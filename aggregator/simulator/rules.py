"""What differs between the venues where orders are matched: fees, units, numbers."""

from dataclasses import dataclass
from decimal import Decimal

_EIGHT = Decimal("1e-8")


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one venue; `unit` is the smallest part of an amount, None where there is none."""

    maker: Decimal
    taker: Decimal
    unit: Decimal | None
    first_order: int
    first_fill: int
    # Of an order that the client did not name.
    name: str


RULES = {
    "okx": Rules(
        Decimal("0.0008"), Decimal("0.001"), None, 2_500_000_000_000_000_000, 800_000_000, ""
    ),
    "binance": Rules(
        Decimal("0.001"), Decimal("0.001"), _EIGHT, 42_000_000_000, 5_000_000_000, "web_{:018d}"
    ),
}
