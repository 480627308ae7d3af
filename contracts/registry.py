"""The live registry against the released schemas: what differs, and bringing it there.

Each event is one subject, `<topic>-<record's full name>`; its versions are registered in their order, so that the
registry checks each against all before it, by the same rule as `compatibility`: FULL_TRANSITIVE. The rule is set for
these subjects alone, as others may use the registry too. Pushing again changes nothing. Any registry that speaks
Confluent's API will do. One that does not answer, or not as a registry: `RegistryAway`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from confluent_kafka.schema_registry import ConfigCompatibilityLevel, SchemaRegistryClient, ServerConfig
from confluent_kafka.schema_registry import Schema as Registered
from confluent_kafka.schema_registry.error import SchemaRegistryError

from contracts.finding import Finding
from streams.kit.errors import LanguageError, PavaneError, RegistryAway
from streams.kit.language import Language, Schema

RULE = ConfigCompatibilityLevel.FULL_TRANSITIVE
TIMEOUT_SECONDS = 10
_NOT_FOUND = 404
_CONFLICT = 409


class Pushed(NamedTuple):
    """One version that the registry has now, under which id, and whether it was new to it."""

    schema: Schema
    schema_id: int
    new: bool


def push(url: str, language: Language) -> list[Pushed]:
    """Register every released version, in order. Raises `LanguageError` when the registry refuses one."""
    with _asked(url) as client:
        return _push(client, language)


def diff(url: str, language: Language) -> list[Finding]:
    """How the registry differs from what was released; empty when a deploy may go on."""
    with _asked(url) as client:
        return _diff(client, url, language)


def known(url: str, subjects: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Every version that the registry has of these subjects, in its order; nothing of one that it does not know."""
    with _asked(url) as client:
        there = set(client.get_subjects())
        return {subject: list(_known(client, subject, whole=True).values()) for subject in subjects if subject in there}


def lacking(url: str, schemas: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The subjects under which the registry does not know the schema: whoever says it would not start."""
    with _asked(url) as client:
        return {subject for subject, raw in schemas.items() if not _has(client, subject, raw)}


def by_id(url: str, ids: Iterable[int]) -> dict[int, dict[str, Any] | None]:
    """The schemas with these ids; None for one that the registry does not know, or that is no Avro record."""
    with _asked(url) as client:
        return {each: _of_id(client, each) for each in ids}


@contextmanager
def _asked(url: str) -> Iterator[SchemaRegistryClient]:
    try:
        yield SchemaRegistryClient({"url": url, "timeout": TIMEOUT_SECONDS})
    except PavaneError:
        raise
    except Exception as error:
        # Confluent's client lets the errors of its HTTP client through; which one that is depends on its version.
        why = str(error).strip() or repr(error)
        raise RegistryAway(
            f"the schema registry at {url or '(nowhere)'} cannot be asked: {why}. Is PAVANE_REGISTRY right?"
        ) from error


def _push(client: SchemaRegistryClient, language: Language) -> list[Pushed]:
    subjects = set(client.get_subjects())
    for subject in sorted({schema.subject for schema in language} & subjects):
        if _rule(client, subject) != RULE.value:
            _set_rule(client, subject)
    pushed = []
    for schema in language:
        known = _lookup(client, schema) if schema.subject in subjects else None
        if known is None:
            pushed.append(Pushed(schema, _register(client, schema), new=True))
            if schema.subject not in subjects:
                # Not before: Apicurio knows no subject that has no version yet.
                _set_rule(client, schema.subject)
                subjects.add(schema.subject)
        else:
            pushed.append(Pushed(schema, known, new=False))
    return pushed


def _diff(client: SchemaRegistryClient, url: str, language: Language) -> list[Finding]:
    subjects = set(client.get_subjects())
    findings: list[Finding] = []
    for topic in language.topics:
        for name in language.names(topic):
            versions = language.versions(topic, name)
            subject = versions[0].subject
            known = _known(client, subject) if subject in subjects else {}
            if subject in subjects and (rule := _rule(client, subject)) != RULE.value:
                findings.append(_wrong_rule(subject, rule))
            lacking = [schema for schema in versions if not known or _lookup(client, schema) is None]
            findings += [_not_there(url, schema) for schema in lacking]
            there = [schema for schema in versions if schema not in lacking]
            findings += [_otherwise(url, schema) for schema in there if _plain(schema.raw) not in known.values()]
            if len(known) > len(there):
                findings += _not_released(versions, known)
    return findings


def _has(client: SchemaRegistryClient, subject: str, raw: Mapping[str, Any]) -> bool:
    text = json.dumps(raw, separators=(",", ":"), ensure_ascii=False)
    try:
        client.lookup_schema(subject, Registered(text, "AVRO"))
    except SchemaRegistryError as error:
        if error.http_status_code == _NOT_FOUND:
            return False
        raise
    return True


def _of_id(client: SchemaRegistryClient, schema_id: int) -> dict[str, Any] | None:
    try:
        found = client.get_schema(schema_id)
        raw = json.loads(found.schema_str or "{}")
    except SchemaRegistryError as error:
        if error.http_status_code == _NOT_FOUND:
            return None
        raise
    except ValueError:
        return None
    return raw if isinstance(raw, dict) and isinstance(raw.get("fields"), list) else None


def _set_rule(client: SchemaRegistryClient, subject: str) -> None:
    try:
        client.set_config(subject, ServerConfig(compatibility=RULE))
    except SchemaRegistryError as error:
        # A slow registry was asked twice by the client, and tells the second that the first has made the rule.
        if error.http_status_code != _CONFLICT or _rule(client, subject) != RULE.value:
            raise


def _rule(client: SchemaRegistryClient, subject: str) -> str | None:
    """The subject's own; what a registry does where there is none is its owner's."""
    try:
        config = client.get_config(subject)
    except SchemaRegistryError as error:
        if error.http_status_code == _NOT_FOUND:
            return None
        raise
    level = config.compatibility or config.compatibility_level
    return str(getattr(level, "value", level)) if level else None


def _lookup(client: SchemaRegistryClient, schema: Schema) -> int | None:
    """The id under which the registry knows this version in its subject."""
    try:
        return client.lookup_schema(schema.subject, Registered(schema.text, "AVRO")).schema_id
    except SchemaRegistryError as error:
        if error.http_status_code == _NOT_FOUND:
            return None
        raise


def _known(client: SchemaRegistryClient, subject: str, *, whole: bool = False) -> dict[int, dict[str, Any]]:
    """The registry's versions of a subject, by its own numbers; plain ones to compare, or as they are."""
    texts = {number: client.get_version(subject, number).schema.schema_str for number in client.get_versions(subject)}
    found = {number: json.loads(text or "{}") for number, text in texts.items()}
    return found if whole else {number: _plain(raw) for number, raw in found.items()}


def _plain(node: Any, namespace: str = "") -> Any:
    """A schema without the namespaces that a type has from the one around it: some registries leave them out."""
    if isinstance(node, list):
        return [_plain(each, namespace) for each in node]
    if not isinstance(node, dict):
        return node
    own = node.get("namespace", namespace)
    return {name: _plain(each, own) for name, each in node.items() if (name, each) != ("namespace", namespace)}


def _register(client: SchemaRegistryClient, schema: Schema) -> int:
    try:
        return client.register_schema(schema.subject, Registered(schema.text, "AVRO"))
    except SchemaRegistryError as error:
        if error.http_status_code == _CONFLICT:
            raise LanguageError(
                f"{schema.file}: the registry refuses it as {schema.subject}, as it breaks a version that is already "
                f"there: {error.error_message}. See 'pavane schemas check'; correct the new version."
            ) from error
        raise


def _wrong_rule(subject: str, rule: str | None) -> Finding:
    what = f"its new versions are checked by {rule or 'no rule of its own'}, not {RULE.value}."
    return Finding(subject, what, "Run 'pavane schemas push'.")


def _not_there(url: str, schema: Schema) -> Finding:
    return Finding(
        url,
        f"does not know {schema.name} v{schema.version} of {schema.topic}: nobody can say it.",
        "Run 'pavane schemas push' before the deploy.",
    )


def _otherwise(url: str, schema: Schema) -> Finding:
    """To a registry, two texts that differ in docs, marks or the order of attributes only are the same schema."""
    return Finding(
        url,
        f"has {schema.name} v{schema.version} of {schema.topic} with other docs or marks than {schema.file}.",
        "One of them changed after the release: restore the file, and write the change as the next version.",
    )


def _not_released(versions: tuple[Schema, ...], known: dict[int, dict[str, Any]]) -> list[Finding]:
    """The versions in the registry that are no released file."""
    newest, released = versions[-1], [_plain(schema.raw) for schema in versions]
    return [
        Finding(
            newest.subject,
            f"has a version {number} (fields: {', '.join(field['name'] for field in raw['fields'])}) that "
            f"is not among the released files.",
            f"It was pushed from elsewhere: add it as {newest.name}.v{newest.version + 1}.avsc, or delete it there.",
        )
        for number, raw in known.items()
        if raw not in released
    ]
