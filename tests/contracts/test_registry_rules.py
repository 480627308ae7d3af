"""On a registry that others use too, only the rules of our own subjects are set and compared."""

import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import ServerConfig
from confluent_kafka.schema_registry.error import SchemaRegistryError

from contracts import registry
from streams.kit.language import Language

OURS = "orders-pavane.orders.Told"


class Shared:
    """A registry that knows no subject without a version, as Apicurio. `subjects`: those that it has."""

    def __init__(self, *subjects: str) -> None:
        self.subjects = set(subjects)
        self.rules: dict[str | None, str] = {}

    def get_subjects(self) -> list[str]:
        return sorted(self.subjects)

    def get_versions(self, subject: str) -> list[int]:
        return []

    def get_config(self, subject: str | None) -> ServerConfig:
        self._known(subject)
        return ServerConfig(compatibility_level=self.rules.get(subject, "NONE"))

    def set_config(self, subject: str | None, config: ServerConfig) -> None:
        self._known(subject)
        self.rules[subject] = str(getattr(config.compatibility, "value", config.compatibility))

    def lookup_schema(self, subject: str, schema: Any) -> Any:
        raise SchemaRegistryError(404, 40403, "Schema not found")

    def register_schema(self, subject: str, schema: Any) -> int:
        self.subjects.add(subject)
        return 7

    def _known(self, subject: str | None) -> None:
        if subject is not None and subject not in self.subjects:
            raise SchemaRegistryError(404, 40401, "Subject not found")


@pytest.fixture
def language(tmp_path: Path) -> Language:
    fields = [{"name": "tenant", "type": "string", "doc": "d"}]
    raw = {"type": "record", "name": "Told", "namespace": "pavane.orders", "doc": "d", "fields": fields}
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "Told.v1.avsc").write_text(json.dumps(raw))
    return Language.load(tmp_path)


@pytest.mark.parametrize("there", [(), (OURS,)])
def test_the_rule_is_set_for_our_subjects_and_for_nobody_elses(
    there: tuple[str, ...], language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Shared("theirs", *there)
    monkeypatch.setattr(registry, "SchemaRegistryClient", lambda settings: shared)

    registry.push("http://registry", language)

    assert shared.rules == {OURS: "FULL_TRANSITIVE"}


def test_a_subject_of_ours_with_another_rule_is_a_difference(
    language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Shared("theirs", OURS)
    monkeypatch.setattr(registry, "SchemaRegistryClient", lambda settings: shared)

    told = " ".join(map(str, registry.diff("http://registry", language)))

    assert f"{OURS}: its new versions are checked by NONE, not FULL_TRANSITIVE. Run 'pavane schemas push'." in told
    shared.rules = {OURS: "FULL_TRANSITIVE", None: "BACKWARD"}
    assert "checked by" not in " ".join(map(str, registry.diff("http://registry", language)))
