"""The commands about topics and schemas."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from infra.addresses import KAFKA, REGISTRY
from pavane import prepare
from pavane.operators.words import count as plural
from pavane.running import environment_of
from streams.kit.language import Language

if TYPE_CHECKING:
    from contracts.finding import Finding


def plan_topics(data: Path) -> int:
    from infra import topics

    plan = topics.plan(environment_of(data)[KAFKA])
    for topic in plan.missing:
        typer.echo(f"+ {topic.name}, {topic.partitions} partitions")
    for each in plan.differing:
        typer.echo(f"~ {each.topic}: {each.what} is {each.found}, will be {each.wanted}")
    for each in plan.impossible:
        typer.echo(f"! {each.topic}: {each.what} is {each.found}, {each.wanted} are wanted: no topic grows in place")
    for each in plan.grown:
        typer.echo(f"  {each.topic} has {each.found} partitions, more than the {each.wanted} that are wanted")
    if not (plan.missing or plan.differing or plan.impossible or plan.grown):
        typer.echo("nothing to do: all topics are as infra/topics.yaml wants them")
    return 1 if plan.impossible else 0


def apply_topics(data: Path) -> int:
    typer.echo(f"topics: {prepare.apply_topics(environment_of(data)[KAFKA])}")
    return 0


def check_schemas() -> int:
    from contracts import released

    language = Language.load()
    findings = _wrong_with(language)
    count, new = sum(1 for _ in language), len(released.unreleased(language))
    verdict = f"{count} schemas checked, {_told(findings, 'finding')}" if findings else f"{count} schemas are in order"
    typer.echo(f"{verdict}, {new} not released yet" if new else verdict)
    return 1 if findings else 0


def release_schemas() -> int:
    from contracts import released

    language = Language.load()
    if findings := _wrong_with(language):
        typer.echo(f"nothing was released: {_told(findings, 'finding')}")
        return 1
    new = released.release(language)
    for schema in new:
        typer.echo(f"+ {schema.topic}/{schema.file.name}")
    typer.echo(f"{len(new)} released" if new else "nothing to do: every version was released before")
    return 0


def diff_schemas(data: Path) -> int:
    from contracts import registry

    language = Language.load()
    findings = registry.diff(environment_of(data).get(REGISTRY, ""), language)
    same = f"nothing differs: the registry has the {sum(1 for _ in language)} schemas, and no other version of them"
    typer.echo(_told(findings, "difference") if findings else same)
    return 1 if findings else 0


def _wrong_with(language: Language) -> list[Finding]:
    from contracts import agreements, compatibility, views

    findings = [*compatibility.check(language), *views.check(language)]
    # A view of what the language does not have is told once.
    return findings or agreements.check(language, views.services())


def _told(findings: list[Finding], thing: str) -> str:
    """Print them; how many they are, as words."""
    for finding in findings:
        typer.echo(f"! {finding}")
    return plural(len(findings), thing)


def push_schemas(data: Path) -> int:
    typer.echo(f"schemas: {prepare.push_schemas(environment_of(data).get(REGISTRY, ''))}")
    return 0


def list_schemas() -> int:
    language = Language.load()
    for topic in language.topics:
        typer.echo(topic)
        for name in language.names(topic):
            newest = language.latest(topic, name)
            typer.echo(f"  {name} v{newest.version}  {', '.join(newest.fields)}")
    return 0
