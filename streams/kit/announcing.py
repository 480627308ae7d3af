"""What one version of a service says, hears and remembers, as data that another version can be judged by.

    python -m streams.kit.announcing billing        # that of the code here, as JSON

Every running process writes it into its service's database, in the table `announced`: one row a version, with the time
at which it last ran. The gateway, which has no database of its own, writes it into the timeline's (`api/announced.py`).
`pavane can-deploy` reads the rows of all of them.
"""

import asyncio
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias, get_args, get_type_hints

import msgspec
import psycopg

from streams.kit.codec import GIVEN_BY_THE_KIT
from streams.kit.events import Heard
from streams.kit.language import Language
from streams.kit.logs import logger
from streams.kit.service import Service

ANNOUNCE_SECONDS = 30.0
ANSWER_SECONDS = 10.0
KIT = Path(__file__).parent
KIT_MIGRATIONS = "kit_"

AvroSchema: TypeAlias = Mapping[str, Any]
Schemas: TypeAlias = Mapping[str, Mapping[str, AvroSchema]]
"""By topic and event."""
Columns: TypeAlias = Mapping[str, tuple[str, ...]]
"""By table."""

_ANNOUNCE = """
INSERT INTO announced (version, document) VALUES (%s, %s)
ON CONFLICT (version) DO UPDATE SET last_at = now()
"""


class Announcement(msgspec.Struct, frozen=True):
    """One version. `says`: the schema that each event is written in. `hears`: the schema that each is read by, with
    only the fields and symbols that the code knows. `remembers`: the columns of each of its own tables;
    `migration`: the last one of the kit's tables (of a gateway, and of versions before this one, none).

    Equal versions have equal declarations, schemas and code.
    """

    service: str
    version: str
    says: Schemas
    hears: Schemas
    remembers: Columns
    migration: str = ""

    @classmethod
    def of(
        cls,
        service: str,
        code: Iterable[Path],
        *,
        says: Schemas,
        hears: Schemas,
        remembers: Columns,
        migration: str = "",
    ) -> "Announcement":
        """The version is made of all that is declared and of the text of these files."""
        mark = hashlib.sha256(msgspec.json.encode((service, says, hears, remembers, migration)))
        for file in code:
            mark.update(file.read_bytes())
        return cls(service, mark.hexdigest()[:12], says, hears, remembers, migration)


def announcement(service: Service, language: Language) -> Announcement:
    """That of a service as the code has it now. Raises `LanguageError` when code and schemas contradict each other."""
    hears: dict[str, dict[str, AvroSchema]] = {}
    for view in service.views:
        hears.setdefault(view.topic, {})[view.__name__] = _read_by(view, language)
    said = {name: language.latest(service.name, name).raw for name in service.says}
    says = {service.name: said} if said else {}
    remembers = {state.table: state.__struct_fields__ for state in service.states}
    code = [*sorted((KIT.parent / service.name).glob("*.py")), *code_of_the_kit()]
    return Announcement.of(
        service.name, code, says=says, hears=hears, remembers=remembers, migration=last_migration_of_the_kit()
    )


def code_of_the_kit() -> list[Path]:
    """The files that every process stands on, in a fixed order."""
    return sorted(KIT.glob("*.py"))


def last_migration_of_the_kit() -> str:
    """By the names of the files, which begin with its number: to import them is for whoever migrates."""
    last = max(path.name for path in (KIT / "versions").glob("[0-9]*.py"))
    return f"{KIT_MIGRATIONS}{last.partition('_')[0]}"


async def announce(url: str, said: Announcement) -> None:
    """Write into the database at `url` that this version runs, again and again; never returns. Away: the next time."""
    while True:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await _write(url, said)
        except (psycopg.Error, TimeoutError) as error:
            logger().warning("not_announced", version=said.version, error=str(error))
        await asyncio.sleep(ANNOUNCE_SECONDS)


async def _write(url: str, said: Announcement) -> None:
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True, application_name="pavane-announcing")
    async with connection:
        await connection.execute(_ANNOUNCE, (said.version, msgspec.json.encode(said).decode()))


def _read_by(view: type[Heard], language: Language) -> AvroSchema:
    """The schema by which a view is read, with the symbols that its enumerations have."""
    own = language.latest(view.topic, view.__name__).fields
    hints = get_type_hints(view)
    read = [name for name in view.__struct_fields__ if name in own or name not in GIVEN_BY_THE_KIT]
    schema = language.reader(view.topic, view.__name__, read)
    return {**schema, "fields": [_field_as(hints[field["name"]], field) for field in schema["fields"]]}


def _field_as(hint: Any, field: AvroSchema) -> AvroSchema:
    return {**field, "type": _as(hint, field["type"])}


def _as(hint: Any, node: Any) -> Any:
    """An Avro type with only the symbols that the Python type `hint` knows."""
    if isinstance(node, list):
        return [next((_as(each, branch) for each in _members(hint, branch)), branch) for branch in node]
    if not isinstance(node, dict):
        return node
    if node["type"] == "enum" and isinstance(hint, type) and issubclass(hint, Enum):
        known = {member.value for member in hint}
        default = {"default": node["default"]} if node.get("default") in known else {}
        plain = {name: value for name, value in node.items() if name != "default"}
        return {**plain, "symbols": [symbol for symbol in node["symbols"] if symbol in known], **default}
    if node["type"] == "array":
        return {**node, "items": _as(get_args(hint)[0], node["items"])} if get_args(hint) else node
    if node["type"] == "record" and isinstance(hint, type):
        hints = get_type_hints(hint)
        # Of a record within an event the codec reads every field, also those that the view leaves out.
        return {**node, "fields": [_field_as(hints.get(field["name"]), field) for field in node["fields"]]}
    return node


def _members(hint: Any, branch: Any) -> Iterator[Any]:
    """The members of a union of Python types that may be what `branch` becomes."""
    if isinstance(branch, dict):
        yield from (each for each in get_args(hint) if each is not type(None))


def main() -> None:
    from streams.kit.run import find

    said = announcement(find(sys.argv[1]), Language.load())
    sys.stdout.write(msgspec.json.encode(said).decode() + "\n")


if __name__ == "__main__":
    main()
