"""Hears the end of every order, in a process of its own, and notes when it came; see `latency`.

    python -m pavane.bench.listener host:port end-file

A consumer like any other: it begins at the end of the topic `orders`, says `ready`, and writes for each record the key,
the event's name, the time at which it came (seconds since 1970) and the time that the record bears. SIGTERM ends it.
"""

import signal
import sys
import time
from pathlib import Path
from uuid import uuid4

from confluent_kafka import OFFSET_END, Consumer, TopicPartition

TOPIC = "orders"
WAIT_SECONDS = 0.2
READ_AT_ONCE = 500


def main() -> None:
    bootstrap, file = sys.argv[1:]
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"bench-{uuid4().hex}",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 500,
            "fetch.min.bytes": 1,
            "log_level": 0,
        }
    )
    lanes = consumer.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions
    # What `consume(n)` gives waits until there are n, or its time is over: `poll` gives a record as soon as it is there.
    begin = [TopicPartition(TOPIC, lane, consumer.get_watermark_offsets(TopicPartition(TOPIC, lane))[1]) for lane in lanes]
    assert all(each.offset != OFFSET_END for each in begin)
    consumer.assign(begin)
    noted: list[str] = []
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not stopping:
        message = consumer.poll(WAIT_SECONDS)
        if message is None or message.error() is not None:
            continue
        name = dict(message.headers() or ()).get("ce_type", b"")
        key = message.key() or b""
        noted.append(f"{key.decode()} {name.decode()} {time.time():.6f} {message.timestamp()[1] / 1000:.3f}\n")
    consumer.close()
    Path(file).write_text("".join(noted))


if __name__ == "__main__":
    main()
