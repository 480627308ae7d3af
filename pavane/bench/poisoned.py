"""A service with a bug, for the benchmark: billing, whose decision raises for orders that are paid with `poison`.

    python -m pavane.bench.poisoned billing

Everything else is `streams.kit.run`. The kit puts the record aside and parks the order with all that follows.
"""

from collections.abc import Iterator

from pavane.bench.workload import POISON
from streams.billing.events import StockReserved
from streams.billing.model import Invoice
from streams.billing.service import billing
from streams.kit import run
from streams.kit.service import Said


def poison() -> None:
    """From now on the reaction to `StockReserved` raises for the poisoned ones."""
    declared = billing.reactions[StockReserved]
    decide = declared.decide

    def authorize_but_for_poison(invoice: Invoice, reserved: StockReserved) -> Iterator[Said]:
        if invoice.method == POISON:
            raise ZeroDivisionError("a bug that the benchmark has put here")
        yield from decide(invoice, reserved) or ()

    billing.reactions[StockReserved] = declared._replace(decide=authorize_but_for_poison)


if __name__ == "__main__":
    poison()
    run.main()
