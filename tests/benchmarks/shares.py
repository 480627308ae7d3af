"""Where the time of a worker goes: what py-spy saw of it, by kind of work.

    py-spy record --gil --rate 200 --format raw --output orders.raw --pid PID     # while `pavane bench drain` drains
    python -m tests.benchmarks.shares orders.raw billing.raw …

A sample belongs to the innermost function on its stack that a kind names; all that is done for customers' keys and for
questions to the outside world belongs to these, statements too. What no kind names is the event loop and the worker's.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from streams.kit.run import services

WHOLE: Mapping[str, tuple[str, ...]] = {
    "customers' keys": ("kit/protecting.py", "kit/keyring.py"),
    "asking the world": ("kit/effects.py", "kit/resilience.py"),
}
KINDS: Mapping[str, tuple[str, ...]] = {
    "reading from the log": ("aiokafka/consumer", "kit/reading.py", "aiokafka/record/"),
    "saying to the log": ("aiokafka/producer", "kit/outbox.py", "aiokafka/partitioner"),
    "the log's connections": ("aiokafka/conn.py", "aiokafka/client.py", "aiokafka/protocol"),
    "envelopes, order, causes": ("kit/envelope.py", "kit/clock.py", "kit/lane.py"),
    "decoding": ("kit/opening.py", "Codec.decode (", "<def compiled(b", "kit/events.py"),
    "encoding": ("kit/codec.py", "<def compiled(r"),
    "deciding, evolving": tuple(f"streams/{each}/" for each in services()),
    "folding a batch": ("kit/fold.py", "kit/service.py", "kit/rows.py", "kit/batch.py", "kit/keys.py"),
    "statements": ("kit/postgres.py", "kit/statements.py", "psycopg"),
}
THE_REST = "the loops"
ALL_KINDS = (*KINDS, *WHOLE, THE_REST)


def kind_of(stack: Sequence[str]) -> str:
    """The kind of a sample. `stack`: its functions from the outermost, as py-spy writes them."""
    for kinds, order in ((WHOLE, stack), (KINDS, reversed(stack))):
        for frame in order:
            for kind, names in kinds.items():
                if any(name in frame for name in names):
                    return kind
    return THE_REST


def shares(raw: str) -> dict[str, float]:
    """The share of each kind in the samples of one py-spy file in the format `raw`."""
    samples: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        samples[kind_of(stack.split(";"))] += int(count)
    return {kind: samples[kind] / samples.total() for kind in ALL_KINDS}


def main(files: Iterable[str]) -> None:
    """Print a column for each file."""
    columns = {Path(file).stem: shares(Path(file).read_text()) for file in files}
    print(f"{'':30}" + "".join(f"{name:>12}" for name in columns))  # noqa: T201
    for kind in ALL_KINDS:
        print(f"{kind:30}" + "".join(f"{each[kind]:>12.1%}" for each in columns.values()))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
