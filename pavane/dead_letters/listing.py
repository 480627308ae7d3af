"""`list`: one line a parked record that is next of its key, and the totals by reason; or what operators have done."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from pavane.dead_letters.selection import Selected
from pavane.operators.operations import Operation
from pavane.operators.words import age, aligned, count, cut, moment, plain

MESSAGE = 60
HEADINGS = ("id", "age", "key", "event", "reason", "behind", "message")
OPERATION_HEADINGS = ("when", "service", "who", "what", "subject", "why", "outcome")


class Listing:
    """Takes what was found, one by one, and keeps no more of it than is shown."""

    def __init__(self, most: int, now: datetime | None = None) -> None:
        self._most = most
        self._now = now or datetime.now(UTC)
        self._rows: list[tuple[str, ...]] = []
        self.found = 0
        self.behind = 0
        self.totals: Counter[tuple[str, str]] = Counter()

    def add(self, selected: Selected) -> None:
        item, parked = selected.item, selected.item.parked
        self.found += 1
        self.behind += item.behind
        self.totals[item.id.service, parked.reason] += 1
        if len(self._rows) < self._most:
            self._rows.append(
                (
                    str(item.id),
                    age(item.parked_at, self._now),
                    plain(parked.key) or "-",
                    plain(selected.event),
                    parked.reason,
                    str(item.behind),
                    cut(parked.message, MESSAGE),
                )
            )

    def lines(self) -> list[str]:
        """The listing as text."""
        if not self.found:
            return ["No record is parked."]
        lines = aligned(HEADINGS, self._rows)
        if (more := self.found - len(self._rows)) > 0:
            lines.append(f"... and {more:,} more (--limit 0 shows all)")
        lines += ["", f"{count(self.found, 'record')} parked, {self.behind:,} waiting behind them"]
        lines += [
            f"  {number:>7,}  {service}: {reason}"
            for (service, reason), number in sorted(self.totals.items(), key=_most)
        ]
        return lines


def _most(total: tuple[tuple[str, str], int]) -> tuple[int, tuple[str, str]]:
    return -total[1], total[0]


def document(selected: Selected) -> dict[str, Any]:
    """One record for `--json`."""
    item, parked = selected.item, selected.item.parked
    return {
        "id": str(item.id),
        "service": item.id.service,
        "key": parked.key,
        "event": selected.event,
        "origin": item.origin,
        "reason": parked.reason,
        "message": parked.message,
        "attempts": parked.attempts,
        "parked_at": item.parked_at,
        "retry_at": parked.retry_at and max(parked.retry_at, item.parked_at),
        "waits_behind": None if item.is_head else str(item.head),
        "behind": item.behind,
    }


def as_json(found: Iterable[Selected]) -> str:
    """All records and their totals, as one JSON document."""
    records = [document(each) for each in found]
    totals: dict[str, Counter[str]] = {}
    for record in records:
        totals.setdefault(record["service"], Counter())[record["reason"]] += 1
    heads = sum(record["waits_behind"] is None for record in records)
    return msgspec.json.encode({"records": records, "heads": heads, "totals": totals}).decode()


def operation_lines(operations: Sequence[Operation], most: int) -> list[str]:
    """What operators have done, the last first."""
    if not operations:
        return ["Nothing was redriven or discarded."]
    rows = [
        (moment(each.begun_at), each.service, each.who, each.what, cut(each.subject, 70), cut(each.why, 40) or "-",
         each.outcome)
        for each in operations[:most]
    ]  # fmt: skip
    more = [f"... and {len(operations) - most:,} more (--limit 0 shows all)"] if len(operations) > most else []
    return aligned(OPERATION_HEADINGS, rows) + more


def operations_as_json(operations: Iterable[Operation]) -> str:
    """The same as one JSON document."""
    return msgspec.json.encode({"operations": [each._asdict() for each in operations]}).decode()
