"""The end of a demonstration: what happened, beside what the data and the seed ask for."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

import psycopg
from rich.console import Console
from rich.table import Table

from pavane.demo.plan import Order, Outcome

MOST_EXAMPLES = 5

LABELS = {
    Outcome.CONFIRMED: "confirmed",
    Outcome.OUT_OF_STOCK: "cancelled: out of stock",
    Outcome.PAYMENT_DECLINED: "cancelled: payment declined",
    Outcome.NOT_SHIPPABLE: "cancelled: no carrier goes there",
    Outcome.CUSTOMER: "cancelled: by the customer",
    Outcome.DEADLINE: "cancelled: deadline passed",
    Outcome.REJECTED: "rejected",
}


class Payment(NamedTuple):
    """What the payment provider's own records say of one order's money, in cents."""

    order_id: str
    status: str
    cents: int


class Count(NamedTuple):
    """One line of the table: what was seen, and the least and the most that may be."""

    label: str
    seen: int
    least: int
    most: int
    is_money: bool = False

    @property
    def is_right(self) -> bool:
        return self.least <= self.seen <= self.most

    def written(self, number: int) -> str:
        return dollars(number) if self.is_money else f"{number:,}"

    @property
    def expected(self) -> str:
        least, most = self.written(self.least), self.written(self.most)
        return least if self.least == self.most else f"{least} to {most}"


class Closing(NamedTuple):
    """Everything counted, and what is wrong in readable examples; none when all is right."""

    counts: Sequence[Count]
    wrong: Sequence[str]

    @property
    def is_right(self) -> bool:
        return not self.wrong and all(count.is_right for count in self.counts)


async def payments(world_url: str) -> list[Payment]:
    """The money that the provider took, whether it gave it back or not."""
    async with await psycopg.AsyncConnection.connect(world_url) as connection:
        cursor = await connection.execute(
            "SELECT order_id, status, amount_minor FROM payments WHERE status IN ('captured', 'refunded')"
        )
        return [Payment(*row) for row in await cursor.fetchall()]


def close(
    orders: Sequence[Order], ended: Mapping[str, Outcome], paid: Iterable[Payment], earlier: Container[str] = ()
) -> Closing:
    """Count the ends and the money of all `orders` that were ever placed, and compare them order by order.

    What each order may come to follows from data and seed alone. Where that leaves a choice (two orders for the last
    piece, a cancellation on the way) the order's own end decides what its money must be. The ids of orders of an
    `earlier` run: it may have been broken off, and their deadline have passed before anybody went on. Money of orders
    that are not of the plan, as somebody's who tries the shop out, is not looked at: it is the audit's question.
    """
    orders = [_as_left(order, ended) if order.id in earlier else order for order in orders]
    known = {order.id for order in orders}
    captured: Counter[str] = Counter()
    refunded: Counter[str] = Counter()
    for payment in paid:
        if payment.order_id in known:
            (captured if payment.status == "captured" else refunded)[payment.order_id] += payment.cents
    wrong = [
        problem for order in orders for problem in _wrong(order, ended.get(order.id), captured, refunded) if problem
    ]
    confirmed = sum(order.cents for order in orders if ended.get(order.id) is Outcome.CONFIRMED)
    given_back = sum(order.cents for order in orders if order.id in refunded)
    return Closing(
        [
            Count("placed", len(orders), len(orders), len(orders)),
            *_ends(orders, ended),
            Count("dollars captured", captured.total(), confirmed, confirmed, is_money=True),
            Count("dollars captured and refunded", refunded.total(), given_back, given_back, is_money=True),
        ],
        wrong,
    )


def show(console: Console, closing: Closing) -> None:
    """The table, and the first things that are wrong."""
    table = Table(box=None, padding=(0, 2), header_style="bold")
    table.add_column("orders", no_wrap=True)
    table.add_column("seen", justify="right")
    table.add_column("by data and seed", justify="right")
    table.add_column("", no_wrap=True)
    for count in closing.counts:
        mark = "[green]ok[/]" if count.is_right else "[bold red]WRONG[/]"
        table.add_row(count.label, count.written(count.seen), count.expected, mark)
    console.print(table)
    for problem in closing.wrong[:MOST_EXAMPLES]:
        console.print(f"  [bold red]wrong:[/] {problem}")
    if len(closing.wrong) > MOST_EXAMPLES:
        console.print(f"  and {len(closing.wrong) - MOST_EXAMPLES:,} more")


def dollars(cents: int) -> str:
    return f"${cents / 100:,.2f}"


def _as_left(order: Order, ended: Mapping[str, Outcome]) -> Order:
    """The order of an earlier run; only of one whose deadline did pass, so that the table stays sharp."""
    late = {Outcome.DEADLINE} if ended.get(order.id) is Outcome.DEADLINE else set()
    return order._replace(may_end=order.may_end | late)


def _ends(orders: Sequence[Order], ended: Mapping[str, Outcome]) -> list[Count]:
    seen = Counter(ended[order.id] for order in orders if order.id in ended)
    counts = []
    for outcome, label in LABELS.items():
        least = sum(order.may_end == {outcome} for order in orders)
        most = sum(outcome in order.may_end for order in orders)
        counts.append(Count(label, seen[outcome], least, most))
    return counts


def _wrong(
    order: Order, end: Outcome | None, captured: Mapping[str, int], refunded: Mapping[str, int]
) -> Iterable[str]:
    what = f"order {order.id} (number {order.number})"
    if end is None:
        yield f"{what} has no end"
    elif end not in order.may_end:
        allowed = " or ".join(sorted(order.may_end))
        yield f"{what} ended {end}, but data and seed ask for {allowed}"
    due = order.cents if end is Outcome.CONFIRMED else 0
    if captured.get(order.id, 0) != due:
        yield f"{what}: {dollars(captured.get(order.id, 0))} were captured, not {dollars(due)}"
    if order.id in refunded and (end is Outcome.CONFIRMED or refunded[order.id] != order.cents):
        yield f"{what} ended {end}, but {dollars(refunded[order.id])} were refunded"
