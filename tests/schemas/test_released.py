"""A version that was released never changes; one that was not may, and does not get to a registry of others."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from contracts import compatibility, released
from pavane.main import app
from pavane.prepare import LanguageBroken, push_schemas
from streams.kit.language import Language
from tests.schemas.changes import TENANT, maybe, record

FILE = Path("orders/Told.v1.avsc")
NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A language of one event, of which the first version is released."""
    (tmp_path / "orders").mkdir()
    write(tmp_path, 1)
    released.release(Language.load(tmp_path))
    monkeypatch.setenv("PAVANE_SCHEMAS", str(tmp_path))
    return tmp_path


def write(root: Path, version: int, *more: dict[str, object]) -> None:
    schema = record(TENANT, *more, name="Told", namespace="pavane.orders")
    (root / f"orders/Told.v{version}.avsc").write_text(json.dumps(schema))


def found(root: Path) -> list[str]:
    return [str(finding) for finding in compatibility.check(Language.load(root))]


def pavane(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["schemas", *arguments])


def test_every_version_of_the_language_is_released_and_as_it_was() -> None:
    language = Language.load()
    unreleased = [str(schema.file) for schema in released.unreleased(language)]
    assert unreleased == [], "when they are as they shall stay: run 'pavane schemas release'"
    assert released.check(language) == []


def test_a_released_file_that_changed_fails(root: Path) -> None:
    (root / FILE).write_text((root / FILE).read_text().replace('"doc": "d"', '"doc": "better"'))

    [told] = found(root)
    assert "Told.v1.avsc: was released and has changed" in told
    assert "write the change as a file with the next number" in told


def test_a_released_file_that_is_gone_fails(root: Path) -> None:
    write(root, 2, maybe("note"))
    released.release(Language.load(root))
    (root / "orders/Told.v2.avsc").unlink()

    [told] = found(root)
    assert "Told.v2.avsc: was released and is gone" in told


def test_a_version_may_change_until_it_is_released(root: Path) -> None:
    write(root, 2, maybe("note"))
    write(root, 2, maybe("remark"))
    assert found(root) == []

    (new,) = released.release(Language.load(root))
    assert new.version == 2
    write(root, 2, maybe("note"))
    assert "was released and has changed" in found(root)[0]


def test_releasing_again_does_not_forget_how_a_file_was(root: Path) -> None:
    before = (root / released.LOCK).read_text()
    write(root, 1, maybe("note"))

    assert released.release(Language.load(root)) == []
    assert (root / released.LOCK).read_text() == before


def test_the_lock_is_what_sha256sum_reads(root: Path) -> None:
    command = ["sha256sum", "--check", "--strict", released.LOCK]
    assert subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout == f"{FILE}: OK\n"


def test_the_registry_of_others_gets_released_versions_only(root: Path) -> None:
    write(root, 2, maybe("note"))

    with pytest.raises(LanguageBroken, match=r"Told\.v2\.avsc: is not released.*pavane schemas release"):
        push_schemas(NOBODY)


def test_the_command_releases_only_what_is_in_order(root: Path) -> None:
    write(root, 2, {"name": "note", "type": "string", "doc": "d"})

    result = pavane("release")
    assert result.exit_code == 1
    assert "nothing was released" in result.output
    assert "the field 'note' is missing there" in result.output
    assert "Told.v2" not in (root / released.LOCK).read_text()


def test_the_command_says_what_it_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(Path(released.__file__).parents[1] / "schemas", tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("PAVANE_SCHEMAS", str(tmp_path))
    released.release(Language.load(tmp_path))
    write(tmp_path, 1)

    assert "1 not released yet" in pavane("check").output
    assert pavane("release").output == "+ orders/Told.v1.avsc\n1 released\n"
    assert "every version was released before" in pavane("release").output
