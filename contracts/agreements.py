"""Contracts between teams: what each consumer relies on of each fact, why, and a fact that its producer really says.

    contracts/<consumer>/<Fact>.json      python -m contracts.agreements writes them from the code

A contract is written by the consumer and read by the producer: before the producer changes a fact, it sees who needs
which field and what for. The example is what the producer's own decision says, so the consumer's test reads no dream.
"""

import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from contracts.finding import Finding
from streams.kit.codec import GIVEN_BY_THE_KIT
from streams.kit.events import About, Heard, Value
from streams.kit.lane import REQUESTS
from streams.kit.language import Language, Schema
from streams.kit.service import Service

ROOT = Path(__file__).parent
WRITE = "python -m contracts.agreements"
Examples = Mapping[tuple[str, str], Any]
"""By producer and fact: one that was said."""


def written(service: Service, view: type[Heard], example: Any) -> dict[str, Any]:
    """The contract of one consumer about one fact, as the code has it."""
    reaction = service.reactions.get(view)
    folds = [each.evolve.__name__ for each in service.evolutions.get(view, ())]
    return {
        "consumer": service.name,
        "producer": view.topic,
        "fact": view.__name__,
        "why": " ".join((view.__doc__ or "").split()),
        "moves": [reaction.decide.__name__] if reaction else folds,
        "fields": list(fields(view, example.__struct_fields__)),
        "example": msgspec.to_builtins(example, builtin_types=()),
    }


def fields(view: type[Value], own: Collection[str], before: str = "") -> Iterator[str]:
    """The fields that a view reads, also inside of others: `total.amount_minor`, `lines[].sku`.

    `own`: the fields that the event has itself; what it lacks the kit may give.
    """
    given = () if before else GIVEN_BY_THE_KIT.difference(own)
    hints = get_type_hints(view)
    for name in view.__struct_fields__:
        if name in given:
            continue
        hint, place = hints[name], f"{before}{name}"
        parts = (hint, *get_args(hint))
        inner = next((each for each in parts if isinstance(each, type) and issubclass(each, Value)), None)
        if inner is None:
            yield place
        else:
            yield from fields(inner, own, f"{place}[]." if inner is not hint else f"{place}.")


def agreed(services: Iterable[Service]) -> Iterator[tuple[Path, Service, type[Heard]]]:
    """Every fact of another service that a service hears, and the file of the contract about it."""
    for service in services:
        for view in service.views:
            if not view.topic.endswith(REQUESTS):
                yield ROOT / service.name / f"{view.__name__}.json", service, view


def check(language: Language, services: Iterable[Service], root: Path = ROOT) -> list[Finding]:
    """Where code, contracts and schemas differ: who breaks whom, since which change, and what to do."""
    findings: list[Finding] = []
    files = set()
    for file, service, view in agreed(services):
        file = root / file.relative_to(ROOT)
        files.add(file)
        if not file.exists():
            what = f"{service.name} reads {view.__name__} of {view.topic} without a contract: {view.topic} cannot know."
            findings.append(Finding(_shown(file, root), what, f"Run '{WRITE}', show it to the team of {view.topic}."))
            continue
        contract = json.loads(file.read_text(encoding="utf-8"))
        versions = language.versions(view.topic, view.__name__)
        findings += _differences(file, root, contract, service, view, versions[-1])
        findings += _broken(file, root, contract, versions)
    # Contracts bear names of facts; what else lies here is not theirs, such as the released description of the API.
    for file in sorted(root.glob("*/[A-Z]*.json")):
        if file not in files:
            what = "its consumer does not hear the fact any more: the producer keeps it for nobody."
            findings.append(Finding(_shown(file, root), what, "Delete it."))
    return findings


def _differences(
    file: Path, root: Path, contract: dict[str, Any], service: Service, view: type[Heard], schema: Schema
) -> Iterator[Finding]:
    """The consumer's code against its own contract."""
    read, named = list(fields(view, schema.fields)), contract["fields"]
    for field in [each for each in read if each not in named]:
        place = f"{view.__name__}.{field}"
        what = f"{service.name} reads {place}, which its contract does not name: {view.topic} may drop it."
        remedy = f"Run '{WRITE}' and show it to the team of {view.topic}, or do not read the field."
        yield Finding(_shown(file, root), what, remedy)
    for field in [each for each in named if each not in read]:
        what = f"{service.name} does not read {view.__name__}.{field}, which binds {view.topic} by this contract."
        yield Finding(_shown(file, root), what, f"Run '{WRITE}'.")


def _broken(file: Path, root: Path, contract: dict[str, Any], versions: tuple[Schema, ...]) -> Iterator[Finding]:
    """The producer's newest schema against the contract."""
    consumer, producer, fact = contract["consumer"], contract["producer"], contract["fact"]
    for field in contract["fields"]:
        without = list(takewhile(lambda schema: not _has(schema, field), reversed(versions)))  # noqa: B023
        if without:
            what = (
                f"{producer} breaks {consumer}: {fact} has no {field} since v{without[-1].version}, and {consumer} "
                f"needs it for {', '.join(contract['moves'])} ({contract['why']})"
            )
            remedy = f"{producer}: keep the field. {consumer}: to let it go, stop reading it first, then '{WRITE}'."
            yield Finding(_shown(file, root), what, remedy)


def _has(schema: Schema, field: str) -> bool:
    """Does this version have the field, by its names from outside in?"""
    named: dict[str, Any] = {}
    node: Any = schema.raw
    _learn(node, named)
    for name in field.replace("[]", "").split("."):
        node = _record(node, named)
        found = [each["type"] for each in (node or {}).get("fields", ()) if each["name"] == name]
        if not found:
            return False
        node = found[0]
    return True


def _record(node: Any, named: dict[str, Any]) -> dict[str, Any] | None:
    """The record that a type is, or holds."""
    if isinstance(node, str):
        return named.get(node.rpartition(".")[2])
    if isinstance(node, list):
        return next((found for each in node if (found := _record(each, named))), None)
    if isinstance(node, dict):
        return node if node.get("type") == "record" else _record(node.get("items", node.get("type")), named)
    return None


def _learn(node: Any, named: dict[str, Any]) -> None:
    if isinstance(node, list):
        for each in node:
            _learn(each, named)
    elif isinstance(node, dict):
        if node.get("type") == "record":
            named[node["name"]] = node
        for field in node.get("fields", ()):
            _learn(field["type"], named)
        _learn(node.get("items"), named)


def _shown(file: Path, root: Path) -> str:
    return f"contracts/{file.relative_to(root)}"


def reads(contract: Mapping[str, Any], view: type[Heard]) -> Heard:
    """The consumer's view of the contract's example. Raises `msgspec.ValidationError`."""
    about = About(id="", name=view.__name__, speaker=view.topic, cause="", correlation="", ordinal=1)
    given = {"at": datetime(2026, 1, 1, tzinfo=UTC), "about": msgspec.to_builtins(about)}
    return msgspec.convert({**given, **contract["example"]}, view)


def write(services: Iterable[Service], examples: Examples) -> list[Path]:
    """Write every contract as the code has it; which files changed."""
    changed = []
    for file, service, view in agreed(services):
        contract = written(service, view, examples[view.topic, view.__name__])
        text = json.dumps(contract, indent=2, ensure_ascii=False) + "\n"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
            changed.append(file)
    return changed


if __name__ == "__main__":
    from choreography.explored import examples
    from contracts.views import services as all_services

    dancers = list(all_services())
    sys.stdout.write("".join(f"{file}\n" for file in write(dancers, examples(dancers))) or "nothing changed\n")
