"""Our checker, offline, says of every change what a real registry says; where ours is stricter, the table says so."""

import json
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka.schema_registry import ConfigCompatibilityLevel, SchemaRegistryClient, ServerConfig
from confluent_kafka.schema_registry import Schema as Registered
from confluent_kafka.schema_registry.error import SchemaRegistryError

from contracts import compatibility
from infra.stack import Stack
from streams.kit.language import Language, Schema
from tests.schemas.changes import CHANGES, Change

UNPROCESSABLE = 422


def versions_of(change: Change, root: Path) -> tuple[Schema, ...]:
    folder = root / "orders"
    folder.mkdir()
    for number, fields in enumerate(change.versions, start=1):
        raw = {"type": "record", "name": "Told", "namespace": "pavane.orders", "doc": "d", "fields": fields}
        (folder / f"Told.v{number}.avsc").write_text(json.dumps(raw))
    return Language.load(root).versions("orders", "Told")


def registry_accepts(url: str, versions: tuple[Schema, ...]) -> bool:
    """Release all but the last version in a subject of their own, and ask whether the last may follow."""
    client, subject = SchemaRegistryClient({"url": url}), f"t{uuid4().hex}"
    for schema in versions[:-1]:
        client.register_schema(subject, Registered(schema.text, "AVRO"))
        client.set_config(subject, ServerConfig(compatibility=ConfigCompatibilityLevel.FULL_TRANSITIVE))
    try:
        return bool(client.test_compatibility_all_versions(subject, Registered(versions[-1].text, "AVRO")))
    except SchemaRegistryError as error:
        if error.http_status_code == UNPROCESSABLE:
            return False
        raise


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_the_checker_and_the_registry_say_the_same(change: Change, stack: Stack, tmp_path: Path) -> None:
    versions = versions_of(change, tmp_path)
    found = [str(finding) for finding in compatibility.check(Language(versions))]

    assert registry_accepts(stack.addresses.registry_url, versions) is change.accepted
    if change.ours is not None:
        assert any(change.ours in told for told in found), found
    assert bool(found) is (not change.accepted or change.ours is not None), found
    if change.accepted:
        assert compatibility.unreadable(versions) == [], "stricter than Avro only by rules of our own"
    elif change.ours is None:
        assert compatibility.unreadable(versions), found


def test_the_table_has_every_kind_of_verdict_and_no_change_twice() -> None:
    verdicts = Counter((change.accepted, change.ours is not None) for change in CHANGES)

    assert len({change.name for change in CHANGES}) == len(CHANGES) >= 60
    assert min(verdicts[True, False], verdicts[True, True], verdicts[False, False], verdicts[False, True]) >= 10
