"""Where in a log the facts stand that come after those which a lane's rows know.

Rows outlive their log's offsets: in a backup, and in fresh tables whose topic was made again since. What stays is the
sequence of a fact. Where it stands is looked up: at its sequence, or later; unless facts before it were given up
(`pavane log restore --give-up`): then at lower offsets.
"""

from collections.abc import Mapping

from pavane.lanes.reading import LogView
from pavane.rebuild.stretches import At, topics_of
from streams.kit import envelope
from streams.kit.log import Extent
from streams.kit.service import Service


def positions_of(service: Service, lanes: Mapping[int, At], kafka: str) -> dict[int, dict[str, int]]:
    """From where on each lane's facts are read, in the log as it is now."""
    topics = topics_of(service)
    with LogView.at(kafka) as log:
        extents = log.extents([(topic, partition) for topic in topics for partition in lanes])
        found = {}
        for (topic, partition), extent in extents.items():
            known, heard = lanes[partition].clock.get(topic, 0), lanes[partition].positions
            found[topic, partition] = behind(log, topic, partition, extent, known, heard.get(topic, known))
    return {partition: {topic: found.get((topic, partition), 0) for topic in topics} for partition in lanes}


def behind(log: LogView, topic: str, partition: int, extent: Extent, known: int, position: int) -> int:
    """An offset before all facts beyond the `known`, and behind as many others as can be: at most `position`.

    A fact with sequence n stands at offset n - 1 or later, as nothing but repetitions and foreign records come between;
    of facts that were given up there is none, and then it may stand before.
    """
    position = min(position, extent.end)
    while position > extent.start:
        beyond = 1
        for before in log.records(topic, partition, position - 1, position, 1):
            said = envelope.of_own(topic, partition, before.headers)
            beyond = said.sequence - known if said is not None else 1
        if beyond <= 0:
            break
        position = max(extent.start, position - beyond)
    return position
