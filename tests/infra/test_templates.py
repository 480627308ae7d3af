"""The cluster that every fresh one is a copy of: whoever else keeps one in the same cache, its password is at hand."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra import postgres
from infra.postgres import Postgres


class Initdb:
    """Makes a cluster of nothing but the password that it was told."""

    def __init__(self, name: str, command: list[str], *given: Any, cwd: Path, **more: Any) -> None:
        self._cluster = cwd

    def wait_here(self) -> int:
        (self._cluster / "PG_VERSION").write_text("18\n")
        (self._cluster / "made-with").write_text((self._cluster.parent / "password").read_text())
        return 0


def test_checkouts_with_different_wheels_share_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def connect(url: str, **given: Any) -> None:
        tried.append(url)
        raise psycopg.OperationalError("password authentication failed")

    monkeypatch.setenv("PAVANE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(postgres, "Child", Initdb)
    monkeypatch.setattr(postgres, "program", lambda name, user: Path(name))
    monkeypatch.setattr(postgres.os, "sync", lambda: None)
    monkeypatch.setattr(psycopg, "connect", connect)
    for folder, version in (("old", "18.6.0"), ("new", "18.7.0"), ("old again", "18.6.0")):
        monkeypatch.setattr(postgres, "_wheel_version", lambda version=version: version)
        server = Postgres(tmp_path / folder / "postgres", password="secret")
        server.ports = (5432,)
        server.prepare()
        server.ask()

        assert (server.folder / "cluster" / "made-with").read_text() in tried[-1]
