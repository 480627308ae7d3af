"""What must be there before services start: tables, topics, schemas. Each says in some words what it found and did."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from infra.addresses import database_variable
from infra.errors import InfraError
from infra.stack import KEYS_DATABASE
from streams.kit.language import Language
from streams.kit.run import services


class LanguageBroken(InfraError):
    """The schemas do not go together, or services contradict them."""

    def __init__(self, findings: list[str]) -> None:
        listed = "\n".join(f"    {finding}" for finding in findings)
        super().__init__(f"The schemas are not in order, so nothing was registered:\n{listed}")


class NotMigrated(InfraError):
    """A database could not be brought to the tables of its service's code; it is as it was before."""

    def __init__(self, name: str, why: BaseException) -> None:
        super().__init__(
            f"The database of {name} ({database_variable(name)}) was not migrated and is as it was: {str(why).strip()}"
        )


def migrate_databases(urls: Mapping[str, str]) -> str:
    """Bring every service's database to the tables of its code, and that of the keys of persons, side by side.

    One that a newer version has migrated stays as it is, as after a rollback. Raises `NotMigrated`.
    """
    import psycopg
    from sqlalchemy.exc import DBAPIError

    from streams.kit.errors import TablesHeld
    from streams.kit.keystore import make_tables
    from streams.kit.migrations import migrate

    def bring(name: str) -> tuple[str, ...]:
        try:
            if name == KEYS_DATABASE:
                make_tables(urls[name])
                return ()
            return migrate(name, urls[name])
        except (DBAPIError, psycopg.Error, TablesHeld) as error:
            raise NotMigrated(name, getattr(error, "orig", None) or error) from None

    names = [*services(), *(name for name in (KEYS_DATABASE,) if name in urls)]
    with ThreadPoolExecutor(len(names)) as pool:
        ahead = dict(zip(names, pool.map(bring, names), strict=True))
    left = [f"{name} (has {', '.join(of_newer)})" for name, of_newer in ahead.items() if of_newer]
    said = ", ".join(name for name in names if not ahead[name]) or "none"
    return f"{said}; left as a newer version migrated it: {', '.join(left)}" if left else said


def apply_topics(bootstrap: str) -> str:
    """Make the topics of `topics.yaml`. Raises `TopicsDiffer` when one has fewer partitions, and `SettingWrong`."""
    from infra import topics

    wanted = topics.wanted(bootstrap)
    done = topics.apply(bootstrap, wanted)
    parts = [f"{len(wanted)} with {wanted[0].partitions} partitions each"]
    parts += [f"{len(done.missing)} made"] if done.missing else []
    parts += [f"{len(done.differing)} settings changed"] if done.differing else []
    return ", ".join(parts)


def push_schemas(registry_url: str, note: Path | None = None) -> str:
    """Check all schemas against each other and the code, then register them. Raises `LanguageBroken`.

    `note`: a file beside the registry's own data that remembers what was registered; equal schemas are then neither
    checked nor pushed again. None where others use the registry too: it then gets released versions only.
    """
    language = Language.load()
    digest = hashlib.sha256("\n".join(schema.text for schema in language).encode()).hexdigest()
    count = sum(1 for _ in language)
    if note is not None and note.exists() and note.read_text().strip() == digest:
        return f"{count} registered before, unchanged"
    from contracts import compatibility, registry, released, views

    findings = [*compatibility.check(language), *views.check(language)]
    if note is None:
        findings += released.not_released(language)
    if findings:
        raise LanguageBroken([str(finding) for finding in findings])
    pushed = registry.push(registry_url, language)
    if note is not None:
        note.write_text(digest + "\n")
    return f"{count} checked, {sum(each.new for each in pushed)} registered"
