"""Java's start-up archives: recorded once for this machine by running a whole stack in a scratch folder.

With its archive Kafka is up in a third of the time, the registry in two thirds. An archive is written when its
process ends, which takes ten seconds of both cores: too long to let the first user wait at Ctrl-C for it, so it is
done before the first start. A stack without archives works just as well, only slower: whatever fails here is not the
user's problem.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from rich.console import Console

from infra.cache import cache_folder, exclusive
from infra.errors import InfraError
from infra.java import archive_path

if TYPE_CHECKING:
    from infra.stack import Stack

PARTS = ("kafka", "apicurio")
#: Ending the recorded processes includes writing the archives.
STOP_SECONDS = 120.0
SCHEMA = rb'{"schemaType": "AVRO", "schema": "{\"type\": \"record\", \"name\": \"R\", \"fields\": []}"}'


def have_all() -> bool:
    return all(archive_path(part).exists() for part in PARTS)


async def record() -> None:
    """Make the archives when they are missing; one process at a time. An empty file says that it was tried in vain."""
    with contextlib.ExitStack() as held:
        await asyncio.to_thread(held.enter_context, exclusive("archives"))
        if have_all():
            return
        for left_by_a_killed_one in cache_folder().glob(".archives-*"):
            shutil.rmtree(left_by_a_killed_one, ignore_errors=True)
        with (
            Console(file=sys.stderr).status("Java start-up archives, once for this machine (some 20 seconds)"),
            tempfile.TemporaryDirectory(dir=cache_folder(), prefix=".archives-") as folder,
        ):
            recorded = {part: Path(folder) / f"{part}.aot" for part in PARTS}
            with contextlib.suppress(InfraError, OSError, KafkaException):
                await _run_a_stack(Path(folder) / "data", recorded)
            for part, file in recorded.items():
                file.touch()
                file.replace(archive_path(part))


async def _run_a_stack(data: Path, recorded: dict[str, Path]) -> None:
    from infra.stack import Stack

    stack = Stack(data, databases=("registry",), environment={}, record=recorded)
    try:
        await stack.start()
        await asyncio.to_thread(_use, stack)
    except BaseException:
        # Called off, or in vain: then nobody waits for archives to be written.
        stack.kill()
        raise
    finally:
        await stack.stop(STOP_SECONDS)


def _use(stack: Stack) -> None:
    """What the first client will do, so that the classes it needs are in the archives."""
    servers: dict[str, str | int | float | bool] = {
        "bootstrap.servers": stack.addresses.kafka_bootstrap,
        "log_level": 0,
    }
    admin = AdminClient(servers)
    for created in admin.create_topics([NewTopic("recorded", 4, 1)]).values():
        created.result(30)
    producer = Producer({**servers, "enable.idempotence": True})
    for number in range(100):
        producer.produce("recorded", b"value", str(number))
    producer.flush(30)
    consumer = Consumer({**servers, "group.id": "recorded", "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe(["recorded"])
        consumer.consume(100, timeout=30)
        consumer.commit(asynchronous=False)
    finally:
        consumer.close()
    subject = f"{stack.addresses.registry_url}/subjects/recorded-R"
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    requests = (
        urllib.request.Request(f"{subject}/versions", data=SCHEMA, headers=headers),
        urllib.request.Request(f"{subject}/versions/latest"),
        urllib.request.Request(subject, data=SCHEMA, headers=headers),
        urllib.request.Request(f"{stack.addresses.registry_url}/schemas/ids/1"),
    )
    for request in requests:
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
