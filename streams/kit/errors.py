"""What can go wrong, and what the worker does about it. What it does is data on the class (`then`), not a guess.

PavaneError
├── WrongDeclaration      a service contradicts itself; raised at import
├── WrongSetting          a setting is missing or not allowed; raised at start
├── TablesHeld            (migration) somebody holds a table for long
├── LanguageError         a schema file, or an event against it, is wrong
├── Undecidable           this record cannot be handled, now or ever: it goes to the dead letters
│   ├── Undecodable           its bytes are not an event of the language
│   └── Refused               the decision refuses it, with a reason for its sender
├── WorldUnavailable      an effect could not be answered for now: asked again later
│   ├── BreakerOpen           it failed too often lately and is left alone for a while
│   ├── BulkheadFull          as many calls as are allowed at once are under way
│   └── TimedOut              it took too long; whether it did anything is not known
├── RegistryAway          the schema registry does not answer: what needs it to be read waits with its order
├── Abandoned             (batch) the partitions are wanted elsewhere: the batch is dropped
├── BatchRefused          (store) the database refuses a value: the batch is done again, record by record
├── Deadlocked            (store) the database chose this batch to give way: it is done again
├── DatabaseAway          (store) nobody knows what was committed: the partitions are taken again
│   └── DatabaseLost          (store) there is no such database, or it has no tables: taken again when it was rebuilt
├── LogAway               (log) nobody knows where the log begins: the partitions are taken again
├── StaleEpoch            somebody else owns the partition now: drop it
└── RefusedToGuess        the log and the database disagree: the partition stops until somebody decides
    ├── LogTruncated          records not heard yet are gone from the log's start
    ├── LogShorter            the log ends before what was already heard
    ├── TopicReplaced         a topic of requests holds others than those that were heard
    ├── LogLost               the log lacks facts of the service's own that it had acknowledged
    ├── DatabaseBehind        the database does not know of facts that were said: it is empty, or an older one
    ├── SequenceGap           a speaker's fact is missing
    ├── ForeignWriter         somebody else wrote to a single-writer topic
    ├── PartitionsChanged     a topic has fewer partitions than there are lanes, or nobody knows how many
    └── RecordsAstray         somebody wrote to a partition that is no lane
"""

from enum import Enum


class Then(Enum):
    """What the worker does about an error."""

    STOP = "stop the process"
    DEAD_LETTER = "put the record aside and go on"
    AGAIN = "do the batch again"
    LATER = "try again after a pause"
    RETAKE = "take all partitions again, once there is an answer"
    DROP = "drop the partition and everything in memory about it"
    HALT = "halt the partition and report not ready"


class PavaneError(Exception):
    """Anything this project raises on purpose."""

    then = Then.STOP


class WrongDeclaration(PavaneError):
    """A service's declarations contradict each other."""


class WrongSetting(PavaneError):
    """A setting is missing or has a value that is not allowed."""


class TablesHeld(PavaneError):
    """A table that a migration changes is held for long. Nothing was changed, and no worker waited for it."""

    def __init__(self, holding: str) -> None:
        super().__init__(
            f"somebody holds a table for long (a backup, an audit, a forgotten transaction): {holding}. Wait until "
            f"it has ended, or end it (SELECT pg_terminate_backend(PID)), and run 'pavane migrate' again"
        )


class LanguageError(PavaneError):
    """A schema file, or what is said by it, is wrong."""


class Undecidable(PavaneError):
    """This record cannot be handled, now or ever."""

    then = Then.DEAD_LETTER


class Undecodable(Undecidable):
    """The record's bytes are not an event of the language."""


class Refused(Undecidable):
    """A decision refuses the request: no state allows it. The message is for its sender."""


class WorldUnavailable(PavaneError):
    """The outside world did not answer an effect; asking again under the same key is safe.

    `retry_after_seconds`: before that it is of no use (an HTTP `Retry-After`); 0 when nobody said.
    """

    then = Then.LATER

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class BreakerOpen(WorldUnavailable):
    """A dependency failed too often lately: it is not asked until some time has passed."""

    _SAID = ": not asked, its circuit breaker is open since "

    def __init__(self, dependency: str, open_for_seconds: float, failures: int, reason: str, again_in: float) -> None:
        super().__init__(
            f"{dependency}{self._SAID}{open_for_seconds:.1f} s, after {failures} "
            f"failed calls in a row (the last: {reason}); it is tried again in {again_in:.1f} s",
            again_in,
        )

    @classmethod
    def dependency_in(cls, message: str) -> str | None:
        """Whose breaker a message of this error is about; None: it is the message of something else."""
        dependency, said, _ = message.partition(cls._SAID)
        return dependency if said else None


class BulkheadFull(WorldUnavailable):
    """As many calls of a dependency are under way as are allowed at once, and none ended in time."""

    def __init__(self, dependency: str, calls: int, waited_seconds: float) -> None:
        super().__init__(
            f"{dependency}: not asked, {calls} calls are under way, as many as are allowed at once, and none ended in "
            f"{waited_seconds:g} s; it is tried again with the next call",
            waited_seconds,
        )


class TimedOut(WorldUnavailable):
    """A dependency took too long. Whether it did what was asked is not known."""

    def __init__(self, dependency: str, timeout_seconds: float) -> None:
        super().__init__(f"{dependency}: no answer within {timeout_seconds:g} s; what was asked may have been done")


class RegistryAway(PavaneError):
    """The schema registry does not answer."""

    then = Then.LATER
    retry_after_seconds = 0.0


class StaleEpoch(PavaneError):
    """Somebody else took these partitions over."""

    then = Then.DROP

    def __init__(self, partitions: frozenset[int]) -> None:
        listed = ", ".join(map(str, sorted(partitions)))
        super().__init__(f"partitions {listed}: another instance owns them now; this one has let go of them")
        self.partitions = partitions


class RefusedToGuess(PavaneError):
    """The log and the database disagree; to go on would lose or invent facts.

    The message names the command that decides; it shows what would be lost before it does anything.
    """

    then = Then.HALT


def _skip(service: str, partition: int, topic: str, to: int) -> str:
    return f"'pavane lanes skip {service} {partition} {topic} --to {to} --reason ...'"


class LogTruncated(RefusedToGuess):
    """Records that this service had not heard yet are gone from the log."""

    def __init__(self, service: str, topic: str, partition: int, position: int, log_start: int) -> None:
        super().__init__(
            f"{topic}/{partition}: next to hear is offset {position}, but the log starts at {log_start}: "
            f"{log_start - position} records are gone. Nothing was changed in the database. Restore the topic from a "
            f"copy and restart; or accept the loss: {_skip(service, partition, topic, log_start)}."
        )


class LogShorter(RefusedToGuess):
    """The log ends before what this service has already heard."""

    def __init__(self, service: str, topic: str, partition: int, position: int, log_end: int) -> None:
        if topic.endswith(".requests"):
            again = (
                "nobody here can write requests again: those that were heard are decided, and in the database; any "
                "that came after them are their senders' to send again, under the same keys, once the gateways' Redis "
                "is emptied of the answers that it keeps. What is in the log now is shown with '--to end --dry-run', "
                "and heard with '--to start'. Go on"
            )
        else:
            again = f"let {topic} say again what it can with 'pavane log restore {topic} --reason ...'; or go on"
        super().__init__(
            f"{topic}/{partition}: offset {position} was heard, but the log ends at {log_end}: the broker lost "
            f"{position - log_end} records or this is another cluster. Nothing was changed in the database. Check "
            f"PAVANE_KAFKA; {again} from where the log ends: {_skip(service, partition, topic, log_end)}."
        )


class TopicReplaced(RefusedToGuess):
    """A topic of requests was made again, and has grown beyond what this service had heard of the one before."""

    MARK = "is not the request that was heard there"

    def __init__(self, service: str, topic: str, partition: int, offset: int) -> None:
        super().__init__(
            f"{topic}/{partition}: what is at offset {offset} {self.MARK}: the topic was deleted and made again, or "
            f"lost its end, or this is another cluster. Nothing was changed in the database. Check PAVANE_KAFKA. "
            f"What was heard before is decided; to hear what is in the topic now, from the offset on at which it is "
            f"new: 'pavane lanes skip {service} {partition} {topic} --to start --reason ...'; with '--to end "
            f"--dry-run' it shows what is there, and when it was written."
        )


class LogLost(RefusedToGuess):
    """Facts that the log had acknowledged are not in it any more: its end was lost, or it is another cluster."""

    def __init__(self, service: str, partition: int, acknowledged: int, last: int) -> None:
        super().__init__(
            f"{service}/{partition}: the log had acknowledged facts up to {acknowledged}, but the last one of them in "
            f"it is {last}: it lost {acknowledged - last}, or this is another cluster. Nothing was changed in the "
            f"database. Check PAVANE_KAFKA; or say again what the outbox still holds, and see what is gone: "
            f"'pavane log restore {service} --reason ...'."
        )


class DatabaseBehind(RefusedToGuess):
    """The service's own topic holds facts that its database does not know to have said."""

    def __init__(self, service: str, partition: int, known: int, said: int) -> None:
        was = "is an older one" if known else "was lost"
        super().__init__(
            f"{service}/{partition}: {said} facts were said, but the database knows of {known}: it {was}. To go on "
            f"would say other facts under the same numbers, so nothing is heard or said. Make its tables again from "
            f"the log: 'pavane rebuild {service} --swap --reason ...'."
        )


class SequenceGap(RefusedToGuess):
    """A fact that its speaker said before this one never came."""

    def __init__(self, service: str, topic: str, partition: int, offset: int, known: int, sequence: int) -> None:
        super().__init__(
            f"{topic}/{partition} offset {offset}: sequence {sequence} follows {known}: "
            f"{sequence - known - 1} facts of {topic} are missing from the log. Nothing after them is applied. "
            f"Run 'pavane audit' to see which orders they concern; go on without them: "
            f"{_skip(service, partition, topic, offset)}."
        )


class ForeignWriter(RefusedToGuess):
    """A record on a single-writer topic that its owner did not write."""

    def __init__(self, service: str, topic: str, partition: int, offset: int, what: str) -> None:
        super().__init__(
            f"{topic}/{partition} offset {offset}: {what}. Nothing is lost: it waits in the log with all that follows. "
            f"Only the service {topic} may write here, in its own partition: find the producer and take its rights "
            f"away; then pass over its record, at most that one is never heard: "
            f"{_skip(service, partition, topic, offset + 1)}."
        )


class PartitionsChanged(RefusedToGuess):
    """A topic has fewer partitions than there are lanes; or nobody remembers how many there are, and topics differ."""

    def __init__(self, topic: str, lanes: int, now: int, *, remembered: bool = True) -> None:
        if not remembered:
            why = (
                f"another topic has {lanes}, and no database remembers how many lanes there are: a key would be in "
                f"another lane of each. Run 'pavane lanes settle --reason ...': it asks the databases of all services, "
                f"and shows which topics differ."
            )
        elif now < lanes:
            why = (
                f"but there are {lanes} lanes: it was made anew, and all that was in partitions {now} to {lanes - 1} "
                f"is gone. Run 'pavane lanes settle --reason ...': it makes them again, empty; each lane then "
                f"says what it misses, and which command decides about that."
            )
        else:
            why = f"but there are {lanes} lanes: start this service again, and it keeps to them."
        super().__init__(f"{topic} has {now} partitions, {why}")


class RecordsAstray(RefusedToGuess):
    """Somebody wrote where there is no lane: a topic has grown, and its producer spreads keys over all of it."""

    def __init__(self, topic: str, partition: int, records: int, lanes: int) -> None:
        held = f"{records} record{'s' * (records != 1)}"
        super().__init__(
            f"{topic}/{partition} has {held} that nobody hears: there are {lanes} lanes, 0 to {lanes - 1}, and the "
            f"topic has grown since. Nothing is lost, and all lanes go on. Find the producer and have it spread its "
            f"keys over {lanes} partitions; then run 'pavane lanes settle --reason ...': it shows these records, and "
            f"says the requests among them again where they are heard. What the producer wrote to other lanes than its "
            f"keys' is in 'pavane dead-letters list'."
        )
