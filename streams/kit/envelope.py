"""What every fact carries besides its value, as Kafka headers: few and short.

| header | what |
| --- | --- |
| `ce_specversion` `ce_id` `ce_source` `ce_type` | CloudEvents 1.0; the id is speaker/partition/sequence |
| `clock` | what the speaker had heard: `{"billing":3,"orders":12}` |
| `cause` | the id of the event that this one answers |
| `correlation` | the correlation id of the request that began it all |
| `traceparent` | W3C trace context, where the request brought one |

The time is the record's own timestamp. Requests from outside need no header at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

Headers = Sequence[tuple[str, bytes]]

MOST_BYTES = 128
"""Longer correlation ids and trace contexts from outside are cut or dropped: they travel with every fact."""

_SPEC = ("ce_specversion", b"1.0")
_ENCODER = msgspec.json.Encoder()
_CLOCK = msgspec.json.Decoder(dict[str, int])


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who said an event, as which one (`sequence`), knowing what (`heard`), and in which correlation."""

    id: str
    speaker: str
    partition: int
    sequence: int
    heard: Mapping[str, int]
    cause: str
    correlation: str
    traceparent: bytes | None


def write(
    speaker: str, partition: int, sequence: int, name: str, clock: Mapping[str, int], cause: Envelope
) -> list[tuple[str, bytes]]:
    """The headers of a fact that answers `cause`. The speaker's own entry in `clock` is left out: the id says what
    it said."""
    headers = [
        _SPEC,
        ("ce_id", f"{speaker}/{partition}/{sequence}".encode()),
        ("ce_source", speaker.encode()),
        ("ce_type", name.encode()),
        ("clock", write_clock(clock, without=speaker)),
        ("cause", cause.id.encode()),
        ("correlation", cause.correlation.encode()),
    ]
    if cause.traceparent is not None:
        headers.append(("traceparent", cause.traceparent))
    return headers


def write_clock(clock: Mapping[str, int], without: str = "") -> bytes:
    """A clock as header bytes: a JSON object, without the entry of `without`."""
    return _ENCODER.encode({who: known for who, known in clock.items() if who != without})


def read(headers: Iterable[tuple[str, bytes | None]]) -> Envelope:
    """The envelope of a fact. Raises `ValueError` when its headers were not written by `write`."""
    found: dict[str, Any] = dict(headers)
    try:
        own_id = found["ce_id"].decode()
        speaker, partition, sequence = own_id.rsplit("/", 2)
        return Envelope(
            own_id,
            speaker,
            int(partition),
            int(sequence),
            read_clock(found["clock"]),
            found["cause"].decode(),
            found["correlation"].decode(),
            found.get("traceparent"),
        )
    except KeyError as error:
        raise ValueError(f"the header {error} is missing") from None
    except AttributeError:
        raise ValueError("a header has no value") from None


def of_own(topic: str, partition: int, headers: Iterable[tuple[str, bytes | None]]) -> Envelope | None:
    """The envelope of a fact that the topic's own service said in its own lane; None of what somebody else wrote."""
    try:
        said = read(headers)
    except ValueError:
        return None
    return said if (said.speaker, said.partition) == (topic, partition) else None


def read_clock(text: bytes) -> dict[str, int]:
    """A clock from header bytes. Raises `ValueError`."""
    try:
        return _CLOCK.decode(text)
    except msgspec.MsgspecError as error:
        raise ValueError(f"the clock cannot be read: {error}") from None


def with_values(headers: Iterable[tuple[str, bytes | None]]) -> list[tuple[str, bytes]]:
    """Headers to keep or to say again: one without a value has an empty one."""
    return [(name, value or b"") for name, value in headers]


def of_request(topic: str, partition: int, offset: int, headers: Iterable[tuple[str, bytes | None]]) -> Envelope:
    """The envelope of a request: its offset serves as sequence, its id for a missing correlation id."""
    found = dict(headers)
    own_id = f"{topic}/{partition}/{offset}"
    # PostgreSQL takes no zero character, and views keep this text.
    correlation = (found.get("correlation") or b"")[:MOST_BYTES].decode(errors="replace").replace("\0", "") or own_id
    traceparent = found.get("traceparent")
    if traceparent is not None and len(traceparent) > MOST_BYTES:
        traceparent = None
    return Envelope(own_id, topic, partition, offset + 1, {}, "", correlation, traceparent)
