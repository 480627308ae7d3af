"""`show`: everything about one parked record, and what can be done about it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from pavane.dead_letters import items
from pavane.dead_letters.events import Events
from pavane.dead_letters.items import Item, ItemId
from pavane.dead_letters.letters import LetterAway, letter_of
from pavane.forget.shown import without_tokens
from pavane.operators.reach import Reach
from pavane.operators.words import age, count, cut, moment, plain
from streams.kit.envelope import with_values
from streams.kit.errors import Undecodable
from streams.kit.events import from_milliseconds
from streams.kit.lane import REQUESTS
from streams.kit.parking import AT_ONCE, BEHIND, DISCARDED, UNREAD

MOST_BEHIND = 20
MOST_BYTES = 200
UNANSWERED = "Unanswered"


async def show(reach: Reach, wanted: ItemId) -> list[str]:
    """The lines to print. Raises `NoSuchItem`, `DatabaseUnreadable`."""
    reach.services([wanted.service])
    async with reach.database(wanted.service, reading=True) as connection:
        item = await items.one(connection, wanted)
        in_line = await items.line(connection, item.head) if item.parked.holds else [item]
    events = Events(reach.language, reach.registry)
    return [
        *_what(item),
        "",
        *await _said(reach, events, item),
        "",
        *await _why(reach, item),
        "",
        *[line async for line in _line(events, item, in_line)],
        *advice(item),
    ]


def _what(item: Item) -> Iterator[str]:
    parked, record = item.parked, item.parked.record
    yield f"{item.id}  {plain(parked.reason)}"
    yield f"  about      {plain(parked.key) or '(no key)'}"
    yield f"  origin     {record.topic}, partition {record.partition}, offset {record.offset}"
    yield f"  written    {moment(from_milliseconds(record.timestamp))}"
    yield f"  parked     {moment(item.parked_at)}, {age(item.parked_at, datetime.now(UTC))} ago"
    yield f"  tried      {count(parked.attempts, 'time')}; next: {_next(item)}"
    said = parked.envelope
    yield f"  said as    {plain(said.id)}, caused by {plain(said.cause) or 'nobody'}"
    yield f"  headers    {'(none)' if not record.headers else ''}".rstrip()
    for name, value in with_values(record.headers):
        yield f"    {plain(name)}: {cut(value.decode(errors='replace'), MOST_BYTES)}"


def _next(item: Item) -> str:
    if item.parked.retry_at is not None:
        return "at once" if item.parked.retry_at == AT_ONCE else moment(item.parked.retry_at)
    return f"when {item.head} is done" if not item.is_head else "when somebody redrives it"


async def _said(reach: Reach, events: Events, item: Item) -> Sequence[str]:
    """The event with its fields, or what its bytes begin with."""
    record = item.parked.record
    try:
        name, fields = await events.decode(record)
    except Undecodable as problem:
        value = record.value or b""
        first = value[:MOST_BYTES]
        return [f"event      not readable: {plain(str(problem))}", f"  {len(value)} bytes: {first!r}"]
    shown = await without_tokens("\n".join(_indented(fields)), reach.keys)
    return [f"event      {name}", *shown.splitlines()]


def _indented(fields: dict[str, Any]) -> Iterator[str]:
    text = msgspec.json.format(msgspec.json.encode(fields, enc_hook=repr), indent=2).decode()
    for line in text.splitlines()[1:-1]:
        yield f"  {plain(line.expandtabs())}"


async def _why(reach: Reach, item: Item) -> list[str]:
    """The reason, and the stack of the decision where there is one."""
    lines = [f"reason     {plain(item.parked.reason)}", f"  {cut(item.parked.message, 2_000) or '(no message)'}"]
    if item.parked.reason in (BEHIND, UNANSWERED, UNREAD):
        return lines
    try:
        letter = await letter_of(reach.kafka, item)
    except LetterAway as away:
        return [*lines, f"stack      not known now: {plain(str(away))}"]
    if letter is None:
        return [*lines, "stack      none: nothing about it is in the dead-letter topic"]
    lines.append(f"letter     {plain(letter.get('id', ''))}")
    stack = letter.get("stack", "").splitlines()
    if not stack:
        return [*lines, "stack      none: the decision refused it, nothing broke"]
    when = "" if item.parked.attempts == 1 else f" (of the first of {item.parked.attempts} tries)"
    return [*lines, f"stack{when}", *(f"  {plain(each.expandtabs())}" for each in stack)]


async def _line(events: Events, item: Item, in_line: Sequence[Item]) -> Any:
    """What is before it and what waits behind it."""
    if not item.is_head:
        yield f"waits behind {item.head}"
    after = [each for each in in_line if each.id.number > item.id.number]
    if after:
        yield f"{count(len(after), 'record')} of the same key {'waits' if len(after) == 1 else 'wait'} behind it:"
    for each in after[:MOST_BEHIND]:
        yield f"  {each.id}  {plain(await events.name(each.parked.record))}  {each.origin}"
    if len(after) > MOST_BEHIND:
        yield f"  ... and {len(after) - MOST_BEHIND:,} more"


def advice(item: Item) -> Iterator[str]:
    """What to do."""
    parked = item.parked
    yield "what to do"
    if parked.reason == DISCARDED:
        yield f"  Nothing: it was discarded, and {item.id.service} lets go of it when its turn comes."
        return
    if not item.is_head and parked.reason == UNANSWERED:
        yield "  Nothing, if the other side comes back: it calls off what is before it, and is asked again by itself."
        return
    if not item.is_head:
        yield f"  See {item.head}: when that one is handled, this one follows by itself."
        return
    if parked.reason == UNREAD:
        yield "  Bring the schema registry back: it is tried again by itself, as soon as it can be read."
        return
    if parked.reason == UNANSWERED:
        yield "  Nothing, if the other side comes back: it is asked again by itself, under the same key."
        yield f"  To ask now:  pavane dead-letters redrive {item.id}"
        return
    yield "  If the code was wrong: correct and deploy it, then see what it would decide, then let it:"
    yield f"    pavane dead-letters redrive {item.id} --dry-run"
    yield f"    pavane dead-letters redrive {item.id}"
    yield f"  If the {'request' if parked.record.topic.endswith(REQUESTS) else 'record'} is wrong for good:"
    yield f"    pavane dead-letters discard {item.id} --reason '...'"
    for line in what_discarding_means(item, "the record"):
        yield f"    {line}"


def what_discarding_means(item: Item, event: str) -> Iterator[str]:
    """What is true for ever once it is discarded."""
    service, key, event = item.id.service, plain(item.parked.key) or "no key", plain(event)
    if item.parked.record.topic.endswith(REQUESTS):
        yield f"{service} will never act on {event} ({item.origin}, about {key}), and nobody tells its sender."
    else:
        yield f"{service} will never have applied {event} ({item.origin}, about {key}): what should have followed from"
        yield "it does not happen. 'pavane audit' names what that leaves unsettled; put it right by hand."
    if item.behind:
        yield f"{count(item.behind, 'record')} waiting behind it will be handled as if it had never come."
