"""Java programs on Kafka's own jars: compiled and run as somebody else would, by the Java that runs our servers."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.cache import cache_folder
from infra.jars import ensure, kafka_class_path, locked
from infra.java import java

LOCK = Path(__file__).with_name("jars.lock")
COMPILER = "org.eclipse.jdt.internal.compiler.batch.Main"
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
CONSUMER_GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
SECONDS = 120.0


def class_path() -> list[Path]:
    """Kafka's jars, its tools, Avro and the compiler; fetched when missing."""
    return [*kafka_class_path(), *ensure(locked("foreign", LOCK), cache_folder() / "jars")]


def words(main: str, *arguments: str, classes: Path | None = None) -> list[str]:
    """The command that runs a class. `classes`: a folder of compiled ones."""
    path = [*([classes] if classes else []), *class_path()]
    options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx200m"]
    return [str(java()), *options, "-cp", os.pathsep.join(map(str, path)), main, *arguments]


async def compiled(source: Path) -> Path:
    """The folder of the classes of one source file."""
    classes = source.parent / "classes"
    await output(words(COMPILER, "-25", "-proc:none", "-d", str(classes), str(source)))
    return classes


async def output(command: Sequence[str], environment: Mapping[str, str] = {}) -> str:
    """What a program prints; it must end with exit code 0."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, complaint = await asyncio.wait_for(process.communicate(), SECONDS)
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 0, f"{command[-3:]} ended with {process.returncode}: {complaint.decode()[-4000:]}"
    return said.decode()
