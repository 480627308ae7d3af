"""That no piece of stock is lost, invented or promised twice: sums over one snapshot of inventory's database."""

from collections import Counter
from collections.abc import Iterable, Mapping

from pavane.audit.report import Tally, Verdict
from streams.inventory.model import Kind, Movement, Reservation, Status, Stock
from streams.kit.keys import item_key


def balances(
    stock: Mapping[str, Stock],
    rebuilt: Mapping[str, Stock] | None,
    reservations: Iterable[Reservation],
    movements: Iterable[Movement],
) -> Verdict:
    """`rebuilt`: the stock that the facts of inventory make; None: rows are made of nothing else, so it is not asked.
    All four belong to the same moment."""
    tally = Tally(
        "stock-balances",
        "No stock is below zero; received + adjusted = on hand + reserved + dispatched; and stock is the sum of "
        "inventory's facts, of its reservations and of its movements.",
    )
    sums = _sums(reservations, movements)
    for item in sorted(stock.keys() | (rebuilt or {}).keys() | {item for _, item in sums}):
        tally.checked += 1
        row = stock.get(item)
        if row is None:
            made = "" if rebuilt is None else f"; the facts make it {rebuilt.get(item)}"
            tally.violation(f"{item}: the stock row is missing{made}")
            continue
        for name in ("on_hand", "reserved", "dispatched", "received"):
            if getattr(row, name) < 0:
                tally.violation(f"{item}: {name} is {getattr(row, name)}, below zero")
        came, is_there = row.received + row.adjusted, row.on_hand + row.reserved + row.dispatched
        if came != is_there:
            tally.violation(
                f"{item}: received {row.received} + adjusted {row.adjusted} = {came}, but on hand {row.on_hand} + "
                f"reserved {row.reserved} + dispatched {row.dispatched} = {is_there}"
            )
        if rebuilt is not None and rebuilt.get(item) != row:
            tally.violation(f"{item}: the row is {row}, the facts of inventory make it {rebuilt.get(item)}")
        for name in ("reserved", "dispatched", "received", "adjusted"):
            if getattr(row, name) != sums[name, item]:
                what = "reservations" if name in ("reserved", "dispatched") else "movements"
                tally.violation(f"{item}: {name} is {getattr(row, name)}, its {what} sum up to {sums[name, item]}")
    return tally.verdict()


def _sums(reservations: Iterable[Reservation], movements: Iterable[Movement]) -> Counter[tuple[str, str]]:
    """How many pieces of each item are reserved, dispatched, received and adjusted, one by one."""
    sums: Counter[tuple[str, str]] = Counter()
    columns = {Status.RESERVED: "reserved", Status.DISPATCHED: "dispatched"}
    for reservation in reservations:
        column = columns.get(reservation.status)
        if column is not None:
            for line in reservation.lines:
                sums[column, item_key(reservation.tenant, line.sku)] += line.quantity
    kinds = {Kind.RECEIVED: "received", Kind.ADJUSTED: "adjusted"}
    for movement in movements:
        if movement.kind in kinds:
            sums[kinds[movement.kind], movement.item] += movement.quantity
    return sums
