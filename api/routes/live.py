"""Orders as they happen: server-sent events of one order, and of all of one's own."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header
from starlette.responses import Response

from api.customers import Customer
from api.due import is_over
from api.errors import EventsGone, InvalidRequest
from api.feed import Heard, Listener
from api.gateway import Parts, customer_with
from api.routes.orders import Reader, own_order
from api.streams import HEARTBEAT, MEDIA_TYPE, EventStream, event, lone_id
from api.timeline import Heads, Timeline, Told

MOST_BEHIND = 100_000
"""Facts of one lane, of anybody's orders, that may have been told since the event to go on from."""
WINDOW = 5_000
MOST_ID_CHARACTERS = 2_000
_POSITIONS = re.compile(r"(\d{1,10}\.)?\d{1,6}-\d{1,18}(\.\d{1,6}-\d{1,18})*")

router = APIRouter(prefix="/v1/orders", tags=["orders"])

#: Who listens before the first order is known by the name that it will have.
Follower = Annotated[Customer, customer_with("orders:read", orders=True)]
LastId = Annotated[str | None, Header(alias="Last-Event-ID", max_length=MOST_ID_CHARACTERS)]
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "The stream.", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}
}


@router.get("/events", responses=_STREAM, response_model=None)
async def events_of_all(caller: Follower, parts: Parts, last_event_id: LastId = None) -> Response:
    """What happens to all of one's own orders, from now on, or from behind `Last-Event-ID`.

    The stream begins with an id without an event, and says one whenever there was nothing else for a while: go on from
    the last id, whether or not an event came with it. After a break an event may come again (its `id` in the data is
    the same); none is left out.
    """
    since = read_positions(last_event_id)
    listener = await parts.feed.listen(caller.tenant, caller.subject)
    try:
        told = _Told(caller, parts.timeline, listener, since)
    except BaseException:
        listener.close()
        raise
    return EventStream(listener, told.missed(), told.write, heartbeat=told.heartbeat)


@router.get(
    "/{order_id}/events", responses={**_STREAM, 204: {"description": "Over and told."}}, response_model=None
)
async def events_of_order(caller: Reader, order_id: str, parts: Parts, last_event_id: LastId = None) -> Response:
    """The order's story from its beginning, or from behind `Last-Event-ID`, and on as it happens.

    The stream ends with the order: once it has ended and everything is sent off or undone. Asked again then, the answer
    is `204`, at which browsers stop asking.
    """
    listener = await parts.feed.listen(caller.tenant, caller.subject, order_id.lower())
    try:
        order = await own_order(order_id, caller, parts)
        story = await parts.timeline.told_of(order.order_id, caller.tenant, caller.subject)
    except BaseException:
        listener.close()
        raise
    ids = [told.id for told in story]
    missed = story[ids.index(last_event_id) + 1 :] if last_event_id in ids else story
    facts = {told.fact for told in story}
    if not missed and is_over(facts):
        listener.close()
        return Response(status_code=204)

    def write(heard: Heard) -> bytes | None:
        told = heard.told
        facts.add(told.fact)
        return None if told.id in ids else event(told.id, told.fact, told.data)

    async def before() -> AsyncIterator[bytes]:
        for told in missed:
            yield event(told.id, told.fact, told.data)

    return EventStream(listener, before(), write, lambda: is_over(facts))


class _Told:
    """The facts of one caller's orders from some positions on: first those that the feed has told, then as it tells.

    Raises `EventsGone`.
    """

    def __init__(self, caller: Customer, timeline: Timeline, listener: Listener, since: Heads | None) -> None:
        self._caller = caller
        self._timeline = timeline
        self._listener = listener
        self._view, self._until = listener.since
        behind = since.positions if since is not None else {}
        #: Lanes that came or went since are told from now on.
        self._from = {lane: behind.get(lane, until) for lane, until in self._until.items()}
        self._is_new = since is None
        self._above: set[str] = set()
        if since is not None and since.view != self._view:
            raise EventsGone
        if any(until - self._from[lane] > MOST_BEHIND for lane, until in self._until.items()):
            raise EventsGone

    async def missed(self) -> AsyncIterator[bytes]:
        """Where it begins; then window by window; at last what was told above the positions (see `api.feed`)."""
        position = dict(self._from)
        yield self._where(position)
        while not self._is_new:
            behind = {lane: at for lane, at in position.items() if at < self._until[lane]}
            window = WINDOW if behind else None
            since = behind or position
            for told in await self._timeline.told_to(self._caller.tenant, self._caller.subject, since, window):
                position[told.lane] = max(position[told.lane], min(told.ordinal, self._until[told.lane]))
                if told.id not in self._above:
                    yield self._event(told, position)
                if told.ordinal > self._until[told.lane]:
                    self._above.add(told.id)
            if not behind:
                return
            position |= {lane: min(at + WINDOW, self._until[lane]) for lane, at in behind.items()}
            yield self._where(position)

    def write(self, heard: Heard) -> bytes | None:
        return None if heard.told.id in self._above else self._event(heard.told, heard.positions)

    def heartbeat(self) -> bytes:
        """Others' facts count as well: whoever hears nothing for long would otherwise come back from too far behind."""
        heads = self._listener.told_up_to()
        return HEARTBEAT if heads is None else self._where(heads.positions)

    def _where(self, positions: Mapping[int, int]) -> bytes:
        return lone_id(written_positions(Heads(self._view, positions)))

    def _event(self, told: Told, positions: Mapping[int, int]) -> bytes:
        return event(written_positions(Heads(self._view, positions)), told.fact, told.data)


def written_positions(heads: Heads) -> str:
    """As an event's id: the view, then `lane-ordinal` of each lane, joined by dots."""
    return ".".join([str(heads.view), *(f"{lane}-{ordinal}" for lane, ordinal in sorted(heads.positions.items()))])


def read_positions(last_event_id: str | None) -> Heads | None:
    """Where an event's id says that its reader is; one of before ids had it is of no view. Raises `InvalidRequest`."""
    if not last_event_id:
        return None
    if not _POSITIONS.fullmatch(last_event_id):
        detail = "is not the id of an event of this stream"
        raise InvalidRequest([{"parameter": "header/Last-Event-ID", "detail": detail}])
    first, *rest = last_event_id.split(".")
    view, written = ("0", [first, *rest]) if "-" in first else (first, rest)
    pairs = (pair.split("-") for pair in written)
    return Heads(int(view), {int(lane): int(ordinal) for lane, ordinal in pairs})
