"""How many lanes there are: as many as when the first one was taken, whatever becomes of the topics.

A topic can grow, and cannot shrink again. What it has beyond the lanes are spare partitions: nobody of ours writes
there, nobody hears there, and as long as they are empty they do no harm.
"""

from collections.abc import Mapping
from typing import LiteralString

from streams.kit.errors import PartitionsChanged

#: What a service's database remembers; null before its first lane. The least: a number is only ever wrong by what a
#: version before this one made of a topic that had grown.
REMEMBERED: LiteralString = "SELECT min(partition_count) AS lanes FROM lanes"


def lanes_among(counts: Mapping[str, int], known: int | None) -> int:
    """The number of lanes. `counts`: partitions of each topic. `known`: what a database remembers, if any does.

    Raises `PartitionsChanged` when a topic has fewer partitions than there are lanes, or when nobody remembers how many
    there are and the topics differ.
    """
    lanes = known or max(counts.values())
    for topic, count in counts.items():
        if count < lanes:
            raise PartitionsChanged(topic, lanes, count, remembered=known is not None)
    return lanes
