"""Which orders wait longer than is usual for the step that they wait for: pure, of stories alone.

What is usual is learned from orders that are over: the time that 99 of 100 took for the same step. So that an outage
among them does not make the next one usual, it is never more than ten times what half of them took. An order is late
when it has waited five times as long, and five seconds at least, so that a burst of orders alarms nobody.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from api.due import AFTERWARDS, FORWARD, Told, due
from streams.kit.shown import CLOSING

USUAL_SHARE = 0.99
MOST_TIMES_THE_MIDDLE = 10
TIMES = 5
LEAST_SECONDS = 5.0
#: A step that nobody has finished yet may take so long.
UNKNOWN_SECONDS = 10.0
#: So many orders that are over are enough to learn from.
LEARNED_FROM = 500

#: What closes a cancelled order.
CLOSINGS = sorted(fact for of_one in CLOSING["cancelled"] for fact in of_one)

Step = tuple[str, tuple[str, ...]]
"""Who says something, and one of which facts."""

UNCLOSED = """
    (s.settled_at > now() - interval '7 days'
     AND (s.status = 'confirmed' AND s.stage <> 'dispatched'
          OR s.status = 'cancelled'
             AND (SELECT count(DISTINCT e.speaker) FROM entries e
                   WHERE e.order_id = s.order_id AND e.fact = ANY(%(closings)s)) < 3))
"""
"""Of a story that has ended: somebody has not closed it. That is looked for a week long, so that it takes as long as
the shop has orders in a week. An index of those that are not closed would have to follow every stage: 1.5 KB more of
write-ahead log a saga."""
OPEN = f"""
    SELECT s.order_id, s.tenant, s.status, s.placed_at,
           coalesce((SELECT json_agg(to_json(e) ORDER BY e.ordinal) FROM entries e WHERE e.order_id = s.order_id), '[]')
               AS story
      FROM stories s
     WHERE (%(tenant)s::text IS NULL OR s.tenant = %(tenant)s)
       AND (s.status = 'placed' AND s.placed_at < now() - make_interval(secs => %(least)s)
            OR s.settled_at < now() - make_interval(secs => %(least)s) AND {UNCLOSED})
     ORDER BY s.placed_at LIMIT %(most)s
"""
"""Stories that may be late, the oldest first."""
OVER = """
    SELECT s.order_id,
           coalesce((SELECT json_agg(to_json(e) ORDER BY e.ordinal) FROM entries e WHERE e.order_id = s.order_id), '[]')
               AS story
      FROM (SELECT order_id FROM stories WHERE status IN ('confirmed', 'cancelled') AND settled_at IS NOT NULL
             ORDER BY settled_at DESC LIMIT %(most)s) s
"""
"""The stories that ended last: of them is learned how long each step takes."""


class Late(NamedTuple):
    """`speaker` owes one of `facts` since `since`; `usual_seconds`: what the step usually takes, if known.

    `by`: when the order is called off if nothing comes; none: it has ended, and this must still be done.
    """

    order_id: str
    tenant: str
    status: str
    speaker: str
    facts: tuple[str, ...]
    since: datetime
    waited_seconds: float
    usual_seconds: float | None
    by: datetime | None


class Story(NamedTuple):
    """What is known of one order."""

    order_id: str
    tenant: str
    status: str
    entries: Sequence[Told]


def usual(stories: Iterable[Iterable[Told]]) -> dict[Step, float]:
    """How many seconds each step usually takes; steps that no story has are missing."""
    took: defaultdict[Step, list[float]] = defaultdict(list)
    for entries in stories:
        told = {entry.fact: entry.at for entry in entries}
        for each in (*FORWARD, *AFTERWARDS):
            answer = next((told[fact] for fact in each.facts if fact in told), None)
            if answer is not None and each.after in told:
                # Speakers' clocks differ: an answer may be stamped before its question.
                took[each.speaker, each.facts].append(max(0.0, (answer - told[each.after]).total_seconds()))
    return {step: _usual(sorted(seconds)) for step, seconds in took.items()}


def _usual(took: Sequence[float]) -> float:
    last = len(took) - 1
    return min(took[int(USUAL_SHARE * last)], MOST_TIMES_THE_MIDDLE * took[last // 2])


def patience(usual_seconds: float | None) -> float:
    """How many seconds a step may take before it is called late."""
    return UNKNOWN_SECONDS if usual_seconds is None else max(LEAST_SECONDS, TIMES * usual_seconds)


def late(stories: Iterable[Story], steps: Mapping[Step, float], now: datetime) -> list[Late]:
    """Every step that is waited for too long, the longest wait first."""
    found = []
    for story in stories:
        for owed in due(story.entries):
            seconds = steps.get((owed.speaker, owed.facts))
            waited = now - owed.since
            if waited > timedelta(seconds=patience(seconds)):
                found.append(
                    Late(
                        story.order_id,
                        story.tenant,
                        story.status,
                        owed.speaker,
                        owed.facts,
                        owed.since,
                        waited.total_seconds(),
                        seconds,
                        owed.by,
                    )
                )
    return sorted(found, key=lambda each: each.since)
