"""Kafka's files: what it reads of them does not depend on where they lie."""

from pathlib import Path
from typing import Any

import pytest

from infra import kafka
from infra.kafka import kafka_nodes


class Recorded:
    """Kafka's tool, which formats the folder that it is told: relative to its own."""

    properties = ""

    def __init__(self, name: str, command: list[str], environment: Any, log_file: Path, cwd: Path) -> None:
        Recorded.properties = (cwd / command[-1]).read_bytes().decode("latin-1")
        [where] = [line for line in Recorded.properties.splitlines() if line.startswith("log.dirs=")]
        (cwd / where.removeprefix("log.dirs=") / "bootstrap.checkpoint").touch()

    def wait_here(self) -> int:
        return 0


def test_a_home_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka reads its properties as Latin-1, and takes a comma for the end of a folder's name."""
    home = tmp_path / "Zoë, 草"
    monkeypatch.setenv("PAVANE_CACHE", str(home / "cache"))
    monkeypatch.setattr(kafka, "Child", Recorded)
    monkeypatch.setattr(kafka, "java_command", lambda *words: ["java"])
    monkeypatch.setattr(kafka, "_class_path", lambda: "")
    (home / "data").mkdir(parents=True)
    [node] = kafka_nodes(home / "data", brokers=1)
    node.ports = (1, 2)

    node.prepare()

    assert (node.folder / "log" / "bootstrap.checkpoint").exists()
    assert Recorded.properties.isascii()
    assert (node.folder / "server.properties").read_text().isascii()
