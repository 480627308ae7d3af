"""Hearing once more what a lane has heard: for a rebuild, and for a replay."""

from streams.kit.errors import ForeignWriter
from streams.kit.lane import Lane
from streams.kit.log import Record


class HearingAgain(Lane):
    """A lane that passes over what is nobody's fact: either somebody has decided to go on, or nothing behind it was
    heard. No row follows from it."""

    def push(self, record: Record) -> None:
        super().push(record)
        queue = self._queues[record.topic]
        if queue and isinstance(queue[-1], ForeignWriter):
            queue.pop()
