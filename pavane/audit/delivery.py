"""That nothing was lost between databases and log: what was said is in the log, and what was read was heard."""

from collections.abc import Mapping

from pavane.audit.ledger import Ledger, Where
from pavane.audit.report import Tally, Verdict
from pavane.audit.snapshot import Clocks, Snapshot
from streams.kit.lane import DEAD_LETTERS, REQUESTS


def nothing_lost(
    ledger: Ledger, snapshots: Mapping[str, Snapshot], later: Mapping[str, Clocks], ends: Mapping[Where, int]
) -> Verdict:
    """Judge every lane of every service, also one that its database does not remember: a database may have been lost.

    What a database has committed is in the log, which was read after it, or still in the outbox. What is in the log was
    committed before, so a clock read after the log (`later`) knows it. `ends`: the log's end, as far as it was read.
    """
    tally = Tally(
        "nothing-lost",
        "Every fact that a database has committed is in the log or its outbox, and every fact read was heard.",
    )
    read = {partition for _, partition in (*ledger.lanes, *ledger.requests)}
    for snapshot in snapshots.values():
        for partition in sorted(read | snapshot.lanes.keys()):
            for topic in (snapshot.name, snapshot.name + DEAD_LETTERS):
                _committed(tally, ledger, snapshot, topic, partition, later[snapshot.name])
            for topic in snapshot.service.topics:
                restored = topic in snapshots and snapshots[topic].is_restored(partition)
                _heard(tally, ledger, snapshot, topic, partition, ends.get((topic, partition), 0), restored)
            _hearsay(tally, ledger, snapshot, partition)
    return tally.verdict()


def _committed(tally: Tally, ledger: Ledger, snapshot: Snapshot, topic: str, partition: int, later: Clocks) -> None:
    """Everything that the database says it has said is in the log or the outbox, and nothing else is in the log."""
    lane = ledger.lane(topic, partition)
    waiting = ledger.waiting.get((topic, partition), set())
    known = snapshot.known(partition, topic)
    tally.checked += known
    if start := ledger.start(topic, partition):
        tally.note(f"{topic}/{partition}: dead letters below offset {start:,} are no longer kept")
        if not len(lane):
            return
    for first, last in lane.missing(known):
        lost = [sequence for sequence in range(first, last + 1) if sequence not in waiting]
        tally.unsettled += last - first + 1 - len(lost)
        if lost:
            tally.violation(
                f"{topic}/{partition}: the database of {snapshot.name} has committed {topic}/{partition}/{lost[0]}"
                f"{f' to {lost[-1]}' if len(lost) > 1 else ''}, but neither the log nor the outbox holds "
                f"{'them' if len(lost) > 1 else 'it'}: the log has lost facts; look at the brokers",
                len(lost),
            )
    committed = later.get(partition, {}).get(topic, 0)
    if lane.last > committed:
        tally.violation(
            f"{topic}/{partition}: the log holds facts up to {lane.last}, but the database of {snapshot.name} has "
            f"committed {committed}: the database lost commits (made anew, or restored from an older copy?); rebuild "
            f"it from the log",
            lane.last - committed,
        )


def _heard(
    tally: Tally, ledger: Ledger, snapshot: Snapshot, topic: str, partition: int, end: int, restored: bool
) -> None:
    """What lies below the position was heard, no more and no less; what lies above it is still to come.

    Once the topic was restored its listeners look again from its end of then on: what they know lies above it.
    """
    lane = snapshot.lanes.get(partition)
    if lane is None or topic not in lane.positions:
        tally.unsettled += _last(ledger, topic, partition)
        return
    position, known = lane.positions[topic], snapshot.known(partition, topic)
    where = f"{snapshot.name} on {topic}/{partition}"
    if position > end:
        tally.violation(
            f"{where}: is to read offset {position} next, but the log ends at {end}: the log lost "
            f"{position - end} records, or this is another cluster"
        )
        return
    if topic.endswith(REQUESTS):
        requests = ledger.requests_of(topic, partition)
        read, last = requests.last_before(position), requests.last
    else:
        said = ledger.lane(topic, partition)
        read, last = said.last_before(position), said.last
    tally.checked += read
    tally.unsettled += max(0, last - max(read, known))
    if restored and read < known and _holds(ledger, topic, partition, known):
        tally.unsettled += known - read
    elif known != read and not read < known <= ledger.start(topic, partition):
        tally.violation(
            f"{where}: has read up to offset {position}, which makes {read} the last one heard, but its clock says "
            f"{known}: {'facts were passed over' if known < read else 'the log does not hold what it heard'}"
        )


def _holds(ledger: Ledger, topic: str, partition: int, known: int) -> bool:
    """All facts up to this one are in the log, or about to be said again."""
    return all(
        ledger.is_waiting(topic, partition, sequence)
        for first, last in ledger.lane(topic, partition).missing(known)
        for sequence in range(first, last + 1)
    )


def _hearsay(tally: Tally, ledger: Ledger, snapshot: Snapshot, partition: int) -> None:
    """What the lane only knows through others (speakers that it does not listen to) is in the log."""
    lane = snapshot.lanes.get(partition)
    if lane is None:
        return
    for speaker, known in lane.clock.items():
        if speaker in lane.positions or speaker.partition(".")[0] == snapshot.name:
            continue
        last = _last(ledger, speaker, partition)
        tally.checked += 1
        if known > last and not ledger.is_waiting(speaker, partition, known):
            tally.violation(
                f"{snapshot.name}/{partition}: knows of {speaker} up to {known}, but the log holds it up to {last}"
            )


def _last(ledger: Ledger, speaker: str, partition: int) -> int:
    if speaker.endswith(REQUESTS):
        return max(ledger.requests_of(speaker, partition).last, ledger.unkept(speaker, partition))
    return ledger.lane(speaker, partition).last
