"""The commands about topics and schemas."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from infra.addresses import KAFKA, REGISTRY
from infra.errors import InfraError
from pavane import prepare
from pavane.running import environment_of
from streams.kit.language import Language


class CannotAsk(InfraError):
    """A server did not answer."""

    def __init__(self, variable: str, address: str, why: object) -> None:
        super().__init__(f"{address} ({variable}) does not answer: {why}. Is it running?")


def plan_topics(data: Path) -> int:
    from infra import topics

    with _kafka(data) as bootstrap:
        plan = topics.plan(bootstrap)
    for topic in plan.missing:
        typer.echo(f"+ {topic.name}, {topic.partitions} partitions")
    for each in plan.differing:
        typer.echo(f"~ {each.topic}: {each.what} is {each.found}, will be {each.wanted}")
    for each in plan.impossible:
        typer.echo(f"! {each.topic}: {each.what} is {each.found}, {each.wanted} are wanted: that is a migration")
    if not (plan.missing or plan.differing or plan.impossible):
        typer.echo("nothing to do: all topics are as infra/topics.yaml wants them")
    return 1 if plan.impossible else 0


def apply_topics(data: Path) -> int:
    with _kafka(data) as bootstrap:
        typer.echo(f"topics: {prepare.apply_topics(bootstrap)}")
    return 0


def check_schemas(live: Path | None) -> int:
    """`live`: the data folder whose registry is asked as well; None: offline."""
    from contracts import compatibility, registry, views

    language = Language.load()
    findings = [*compatibility.check(language), *views.check(language)]
    if live is not None:
        with _registry(live) as url:
            findings += registry.diff(url, language)
    for finding in findings:
        typer.echo(f"! {finding}")
    count = sum(1 for _ in language)
    typer.echo(f"{count} schemas checked, {len(findings)} findings" if findings else f"{count} schemas are in order")
    return 1 if findings else 0


def push_schemas(data: Path) -> int:
    with _registry(data) as url:
        typer.echo(f"schemas: {prepare.push_schemas(url)}")
    return 0


def list_schemas() -> int:
    language = Language.load()
    for topic in language.topics:
        typer.echo(topic)
        for name in language.names(topic):
            newest = language.latest(topic, name)
            typer.echo(f"  {name} v{newest.version}  {', '.join(newest.fields)}")
    return 0


@contextmanager
def _kafka(data: Path) -> Iterator[str]:
    from confluent_kafka import KafkaException

    bootstrap = environment_of(data)[KAFKA]
    try:
        yield bootstrap
    except KafkaException as error:
        raise CannotAsk(KAFKA, bootstrap, error.args[0].str()) from None


@contextmanager
def _registry(data: Path) -> Iterator[str]:
    import httpx
    from confluent_kafka.schema_registry.error import SchemaRegistryError

    environment = environment_of(data)
    url = environment.get(REGISTRY, "")
    try:
        yield url
    except (httpx.HTTPError, SchemaRegistryError) as error:
        raise CannotAsk(REGISTRY, url or "nothing", error) from None
