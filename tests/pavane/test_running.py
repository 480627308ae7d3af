"""Where a running platform is found: by the environment first, else by its data folder, else not at all."""

import json
import os
from pathlib import Path

import pytest

from infra.errors import SettingWrong
from pavane.running import NothingRuns, databases, environment_of
from streams.kit.run import services


@pytest.fixture(autouse=True)
def without_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PAVANE_")]:
        monkeypatch.delenv(name)


def note(folder: Path, pid: int) -> None:
    addresses = {"PAVANE_KAFKA": "127.0.0.1:1"}
    (folder / "stack.json").write_text(json.dumps({"pid": pid, "addresses": addresses, "processes": {}}))


def test_a_running_stack_is_found_by_its_folder(tmp_path: Path) -> None:
    note(tmp_path, os.getpid())

    environment = environment_of(tmp_path)

    assert environment["PAVANE_KAFKA"] == "127.0.0.1:1"
    assert environment["PAVANE_JWKS"] == str(tmp_path / "jwks.json")


def test_an_identity_provider_of_ones_own_is_believed_beside_a_running_platform_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(tmp_path, os.getpid())
    monkeypatch.setenv("PAVANE_JWKS", "https://id.example/keys")

    assert environment_of(tmp_path)["PAVANE_JWKS"] == "https://id.example/keys"


def test_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note(tmp_path, os.getpid())
    monkeypatch.setenv("PAVANE_KAFKA", "elsewhere:9092")

    assert environment_of(tmp_path)["PAVANE_KAFKA"] == "elsewhere:9092"


def test_a_folder_whose_stack_died_runs_nothing(tmp_path: Path) -> None:
    note(tmp_path, pid=2**22 + 1)

    with pytest.raises(NothingRuns, match="Nothing runs on the folder"):
        environment_of(tmp_path)


def test_an_empty_folder_runs_nothing(tmp_path: Path) -> None:
    with pytest.raises(NothingRuns, match="make run"):
        environment_of(tmp_path)


def test_a_database_that_is_not_named_is_told_by_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAVANE_KAFKA", "elsewhere:9092")
    for name in services():
        monkeypatch.setenv(f"PAVANE_DATABASE_{name.upper()}", f"postgresql://elsewhere/{name}")
    assert databases(tmp_path)["billing"] == "postgresql://elsewhere/billing"

    monkeypatch.delenv("PAVANE_DATABASE_BILLING")
    with pytest.raises(SettingWrong, match="PAVANE_DATABASE_BILLING must name"):
        databases(tmp_path)
