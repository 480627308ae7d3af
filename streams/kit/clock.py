"""The one rule by which a worker hears facts: the next one of its speaker, and nothing before its causes.

A clock maps each speaker to the last sequence known of it, in one partition. A fact carries its speaker's sequence and
the speaker's clock when it was said. From these two alone a listener knows that it has heard a fact already, that one
is missing, or that something the speaker had heard is still to come here. (Causal broadcast with vector clocks:
Birman, Schiper and Stephenson, "Lightweight causal and atomic group multicast", 1991.)

The invariant: after `hear`, every fact that a heard fact depends on, on topics heard here, was heard before it.
"""

from collections.abc import Collection, Mapping, Set
from enum import Enum

Clock = dict[str, int]


class Verdict(Enum):
    """What the clock says about a fact that came."""

    NEXT = "to be heard now"
    KNOWN = "heard before"
    EARLY = "something that its speaker had heard is still to come here"
    GAP = "a fact of its speaker before this one is missing"


def judge(
    clock: Mapping[str, int], hears: Collection[str], speaker: str, sequence: int, heard: Mapping[str, int]
) -> Verdict:
    """May this fact be heard? `hears`: the speakers listened to here. `heard`: the clock that the fact carries."""
    last = clock.get(speaker, 0)
    if sequence <= last:
        return Verdict.KNOWN
    if sequence != last + 1:
        return Verdict.GAP
    return Verdict.NEXT if lacking(clock, hears, speaker, heard) is None else Verdict.EARLY


def lacking(
    clock: Mapping[str, int], hears: Collection[str], speaker: str, heard: Mapping[str, int]
) -> tuple[str, int] | None:
    """A speaker listened to here and its last sequence that the fact's speaker had heard, and that is to come here."""
    for other, known in heard.items():
        if known > clock.get(other, 0) and other in hears and other != speaker:
            return other, known
    return None


def hear(
    clock: Clock, knows_itself: Set[str], speaker: str, sequence: int, heard: Mapping[str, int]
) -> None:
    """Note in `clock` that the fact was heard, and what is known through it of speakers not listened to here.

    `knows_itself`: the speakers listened to here, and the listener itself.
    """
    if not heard.keys() <= knows_itself:
        for other, known in heard.items():
            if known > clock.get(other, 0) and other not in knows_itself:
                clock[other] = known
    clock[speaker] = sequence
