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

from confluent_kafka import Consumer, TopicPartition

from pavane.bench.log import key_and_name

TOPIC = "orders"
WAIT_SECONDS = 0.2


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
    begin = []
    for lane in lanes:
        _, end = consumer.get_watermark_offsets(TopicPartition(TOPIC, lane)) or (0, 0)
        begin.append(TopicPartition(TOPIC, lane, end))
    consumer.assign(begin)
    noted: list[str] = []
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not stopping:
        # Not `consume`: it waits until its number is full, or its time over.
        message = consumer.poll(WAIT_SECONDS)
        if message is None or message.error() is not None:
            continue
        at = time.time()
        key, name = key_and_name(message)
        noted.append(f"{key} {name} {at:.6f} {message.timestamp()[1] / 1000:.3f}\n")
    consumer.close()
    Path(file).write_text("".join(noted))


if __name__ == "__main__":
    main()
