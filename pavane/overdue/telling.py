"""Late orders as text: each reason with how many it holds up and an example, then what orders wait for; or as JSON."""

from collections.abc import Iterator, Sequence

import msgspec
import typer
from rich.text import Text

from api.late import Late
from pavane.lines import a_console
from pavane.operators.reach import Reach
from pavane.operators.words import aligned, count, cut, plain
from pavane.overdue.looking import Found, look
from pavane.overdue.reasons import LOG_AWAY, LOG_BACK, Why

NONE_LATE, SOME_LATE = 0, 1
MOST_REASONS = 20
LONGEST_DETAIL = 300
HEADINGS = ("order", "tenant", "is", "waits for", "to say", "for", "usually", "called off in")


async def print_overdue(reach: Reach, services: Sequence[str], *, most: int, as_json: bool) -> int:
    """Print them. Exit code 1 when there are some."""
    found = await look(reach, services)
    if as_json:
        typer.echo(_document(found))
    else:
        console = a_console()
        for line in lines(found, most):
            console.print(Text(line), soft_wrap=True)
    return SOME_LATE if found.late or found.unheard else NONE_LATE


def lines(found: Found, most: int) -> list[str]:
    """As text; at most so many steps that orders wait for (0: all)."""
    known = f"{'at least ' if found.more else ''}{count(found.looked_at, 'order')}"
    if not found.late and not found.unheard:
        return [f"No order is overdue{' of the oldest' if found.more else ''}; {known} under way for some seconds."]
    if not found.late:
        but = [*_log_away(found), *_unheard(found)]
        return [f"No order that the timeline knows is overdue, of {known} under way. But:", "", *but]
    orders = {late.order_id for late, _ in found.late}
    longest = max(late.waited_seconds for late, _ in found.late)
    is_are = "is" if len(orders) == 1 else "are"
    at_least = "At least " if found.more else ""
    said = [f"{at_least}{count(len(orders), 'order')} {is_are} overdue, the first for {_seconds(longest)}.", ""]
    said += [*_log_away(found), *_unheard(found), *_reasons(found)]
    shown = found.late[:most] if most else found.late
    said += ["", *aligned(HEADINGS, [_row(late, found) for late, _ in shown])]
    if (more := len(found.late) - len(shown)) > 0:
        said.append(f"... and {count(more, 'more step')} that orders wait for (--limit 0 shows all)")
    return said


def _log_away(found: Found) -> Iterator[str]:
    """What is the reason of almost all, once."""
    if found.log_away:
        yield f"{plain(found.log_away)}. What is in no story yet, nobody can count."
        yield f"    {LOG_BACK}"


def _unheard(found: Found) -> Iterator[str]:
    """What more may be late, and why it is in no story."""
    for each in found.unheard:
        if each.why.reason == LOG_AWAY:
            continue
        if each.records:
            waiting = f"{count(each.records, each.things)}, the first for {_seconds(each.waited_seconds)}"
            yield f"{each.service} has yet to hear {waiting}: {plain(each.why.reason)}"
        else:
            yield f"Nobody knows which {each.things}s {each.service} has yet to hear: {plain(each.why.reason)}"
        if each.why.detail:
            yield f"    such as {cut(each.why.detail, LONGEST_DETAIL)}"
        yield f"    {each.why.remedy}"


def _reasons(found: Found) -> Iterator[str]:
    """What holds most of them up first, each with how many, one example, and what helps with that."""
    by_reason: dict[tuple[str, str], list[tuple[str, Why]]] = {}
    for late, why in found.late:
        by_reason.setdefault((late.speaker, why.reason), []).append((late.order_id, why))
    held = {reason: len({order_id for order_id, _ in orders}) for reason, orders in by_reason.items()}
    first = sorted(by_reason, key=lambda reason: -held[reason])
    for speaker, reason in first[:MOST_REASONS]:
        order_id, why = by_reason[speaker, reason][0]
        yield f"{count(held[speaker, reason], 'order')} for {speaker}: {plain(reason)}"
        if reason == LOG_AWAY:
            continue
        if why.detail:
            yield f"    such as {order_id}: {cut(why.detail, LONGEST_DETAIL)}"
        yield f"    {why.remedy}"
    if (more := len(first) - MOST_REASONS) > 0:
        yield f"... and {count(more, 'more reason')} (--json has them)"


def _row(late: Late, found: Found) -> tuple[str, ...]:
    usual = "?" if late.usual_seconds is None else _seconds(late.usual_seconds)
    left = "" if late.by is None else _seconds((late.by - found.at).total_seconds())
    facts = " or ".join(late.facts)
    waited = _seconds(late.waited_seconds)
    return late.order_id, plain(late.tenant), late.status, late.speaker, facts, waited, usual, left


def _seconds(seconds: float) -> str:
    if seconds < 0:
        return f"{_seconds(-seconds)} ago"
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _document(found: Found) -> str:
    late = [{**each._asdict(), **why._asdict()} for each, why in found.late]
    usual = [{"speaker": who, "facts": facts, "seconds": seconds} for (who, facts), seconds in found.usual.items()]
    unheard = [{**each._asdict(), **each.why._asdict()} for each in found.unheard]
    for each in unheard:
        del each["why"]
        each["lanes"] = sorted(each["lanes"])
    looked_at = {"looked_at": found.looked_at, "more": found.more}
    document = {"at": found.at, "overdue": late, "unheard": unheard, "usual": usual, **looked_at}
    return msgspec.json.encode(document).decode()
