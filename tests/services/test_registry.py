"""Pushing the language to a real registry: once, in order, under the strictest rule."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from contracts import registry
from pavane.main import app
from streams.kit.errors import LanguageError
from streams.kit.language import Language

PUSHERS = 8


@pytest.fixture
def topic() -> str:
    """A topic of this test alone: the registry is shared and forgets nothing."""
    return f"t{uuid4().hex[:12]}"


def release(folder: Path, topic: str, version: int, *fields: dict[str, Any]) -> Language:
    tenant = {"name": "tenant", "type": "string", "doc": "d"}
    schema = {
        "type": "record",
        "name": "Told",
        "namespace": f"pavane.{topic}",
        "doc": "d",
        "fields": [tenant, *fields],
    }
    (folder / topic).mkdir(exist_ok=True)
    (folder / topic / f"Told.v{version}.avsc").write_text(json.dumps(schema))
    return Language.load(folder)


def differences(url: str, language: Language) -> str:
    return " ".join(str(finding) for finding in registry.diff(url, language))


def pavane(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["schemas", *arguments])


NOTE = {"name": "note", "type": ["null", "string"], "default": None, "doc": "d"}
STRICT = {"name": "note", "type": "string", "doc": "d"}


def test_what_was_pushed_is_known_and_not_new_again(stack: Any, tmp_path: Path, topic: str) -> None:
    url = stack.addresses.registry_url
    language = release(tmp_path, topic, 1)
    assert f"does not know Told v1 of {topic}" in differences(url, language)
    (first,) = registry.push(url, language)
    assert (first.new, first.schema.subject) == (True, f"{topic}-pavane.{topic}.Told")
    (again,) = registry.push(url, language)
    assert (again.new, again.schema_id) == (False, first.schema_id)
    assert differences(url, language) == ""


def test_several_who_push_at_once_all_find_everything_there(stack: Any, tmp_path: Path, topic: str) -> None:
    url = stack.addresses.registry_url
    language = release(tmp_path, topic, 1)
    with ThreadPoolExecutor(PUSHERS) as pool:
        pushed = [each for (each,) in pool.map(lambda _: registry.push(url, language), range(PUSHERS))]
    assert len({each.schema_id for each in pushed}) == 1
    assert differences(url, language) == ""


def test_a_new_version_that_breaks_an_old_one_is_refused(stack: Any, tmp_path: Path, topic: str) -> None:
    url = stack.addresses.registry_url
    registry.push(url, release(tmp_path, topic, 1))
    with pytest.raises(LanguageError, match=r"Told\.v2\.avsc: the registry refuses it"):
        registry.push(url, release(tmp_path, topic, 2, STRICT))
    assert [pushed.new for pushed in registry.push(url, release(tmp_path, topic, 2, NOTE))] == [False, True]


def test_a_push_leaves_the_rule_of_all_others_as_it_is(stack: Any, tmp_path: Path, topic: str) -> None:
    url = stack.addresses.registry_url
    client = registry.SchemaRegistryClient({"url": url})
    before = client.get_config().to_dict()
    (pushed,) = registry.push(url, release(tmp_path, topic, 1))
    assert client.get_config().to_dict() == before
    assert registry._rule(client, pushed.schema.subject) == "FULL_TRANSITIVE"


def test_a_version_pushed_from_elsewhere_is_told(stack: Any, tmp_path: Path, topic: str) -> None:
    url = stack.addresses.registry_url
    registry.push(url, release(tmp_path, topic, 1))
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-elsewhere")
    shutil.copytree(tmp_path, elsewhere)
    registry.push(url, release(elsewhere, topic, 2, NOTE))
    told = differences(url, Language.load(tmp_path))
    assert "has a version 2 (fields: tenant, note) that is not among the released files" in told


def test_the_whole_language_is_accepted_by_a_real_registry(stack: Any) -> None:
    url = stack.addresses.registry_url
    pushed = registry.push(url, Language.load())
    assert len(pushed) == len(list(Language.load()))
    assert differences(url, Language.load()) == ""


def test_the_commands_show_what_the_registry_lacks_and_give_it_what_is_released(
    stack: Any, tmp_path: Path, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path(registry.__file__).parents[1] / "schemas", tmp_path, dirs_exist_ok=True)
    release(tmp_path, topic, 1)
    monkeypatch.setenv("PAVANE_KAFKA", stack.addresses.kafka_bootstrap)
    monkeypatch.setenv("PAVANE_REGISTRY", stack.addresses.registry_url)
    monkeypatch.setenv("PAVANE_SCHEMAS", str(tmp_path))

    lacking = pavane("diff")
    assert lacking.exit_code == 1
    assert f"does not know Told v1 of {topic}: nobody can say it" in lacking.output
    refused = pavane("push")
    assert refused.exit_code == 1
    assert "Told.v1.avsc: is not released" in refused.stderr
    assert pavane("release").output == f"+ {topic}/Told.v1.avsc\n1 released\n"
    assert "31 checked, 1 registered" in pavane("push").output
    same = pavane("diff")
    assert (same.exit_code, "nothing differs" in same.output) == (0, True)


def test_a_file_that_changed_after_it_was_pushed_differs(stack: Any, tmp_path: Path, topic: str) -> None:
    url = stack.addresses.registry_url
    registry.push(url, release(tmp_path, topic, 1))
    file = tmp_path / topic / "Told.v1.avsc"
    file.write_text(file.read_text().replace('"doc": "d"', '"doc": "better"', 1))

    told = differences(url, Language.load(tmp_path))
    assert f"has Told v1 of {topic} with other docs or marks than {file}" in told
