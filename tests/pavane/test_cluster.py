"""The commands about schemas: where there is no registry."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from contracts import registry
from pavane.main import app
from streams.kit.errors import RegistryAway

AWAY = ("http://127.0.0.1:1", "http://nowhere.invalid", "http://127.0.0.1:port", "127.0.0.1:1", "")


@pytest.mark.parametrize("url", AWAY)
def test_a_registry_that_is_away_is_named_with_its_variable(url: str) -> None:
    with pytest.raises(RegistryAway, match=r"cannot be asked: .*Is PAVANE_REGISTRY right"):
        registry.by_id(url, [1])


@pytest.mark.parametrize("words", [("schemas", "diff"), ("schemas", "push")])
def test_commands_that_need_the_registry_end_without_a_trace_while_it_is_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PAVANE_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("PAVANE_REGISTRY", "http://127.0.0.1:1")

    ended = CliRunner().invoke(app, [*words, "--data", str(tmp_path)])

    assert ended.exit_code == 1, ended.output
    assert ended.output.startswith("pavane: the schema registry at http://127.0.0.1:1 cannot be")
