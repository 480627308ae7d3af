"""What a process is given: no secret that it has no use for; and beside a running platform, what the others have."""

import json
import os
from pathlib import Path

import pytest

from infra.addresses import KAFKA, Addresses
from pavane.given import LOCAL_GATEWAY, given
from pavane.running import environment_of

EVERYTHING = {
    **Addresses(
        kafka_bootstrap="k:1",
        registry_url="http://r:1",
        postgres={name: f"postgresql://{name}" for name in ("orders", "billing", "timeline", "world", "keys")},
        postgres_admin="postgresql://admin",
        redis_url="redis://r:1",
        master_keys="1:secret",
    ).environment(),
    "PAVANE_LOG_LEVEL": "info",
}


@pytest.mark.parametrize(
    ("name", "secrets"),
    [
        ("gateway", {"PAVANE_DATABASE_TIMELINE", "PAVANE_DATABASE_KEYS", "PAVANE_MASTER_KEYS"}),
        ("desk", {"PAVANE_DATABASE_ORDERS", "PAVANE_DATABASE_BILLING", "PAVANE_DATABASE_TIMELINE"}),
        ("orders", {"PAVANE_DATABASE_ORDERS", "PAVANE_DATABASE_KEYS", "PAVANE_MASTER_KEYS"}),
        ("billing", {"PAVANE_DATABASE_BILLING", "PAVANE_DATABASE_WORLD"}),
        ("timeline", {"PAVANE_DATABASE_TIMELINE"}),
    ],
)
def test_a_process_is_given_no_secret_but_its_own(name: str, secrets: set[str]) -> None:
    found = given(name, EVERYTHING)

    assert {key for key in found if key.startswith(("PAVANE_DATABASE", "PAVANE_MASTER"))} == secrets
    assert found["PAVANE_KAFKA"] == "k:1"


def test_a_gateway_that_is_started_beside_a_running_platform_has_its_tokens_and_its_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KAFKA, raising=False)
    monkeypatch.setenv("PAVANE_LIMIT_USER", "1")
    (tmp_path / "stack.json").write_text(json.dumps({"pid": os.getpid(), "addresses": EVERYTHING}))

    (tmp_path / "desk.url").write_text("http://127.0.0.1:7\n")

    second = given("gateway", environment_of(tmp_path))

    assert {name: second[name] for name in LOCAL_GATEWAY} == LOCAL_GATEWAY
    assert second["PAVANE_JWKS"] == str(tmp_path / "jwks.json")
    assert second["PAVANE_DESK"] == "http://127.0.0.1:7"


def test_servers_of_ones_own_come_with_ones_own_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KAFKA, "own:1")
    monkeypatch.delenv("PAVANE_LIMIT_USER", raising=False)

    assert "PAVANE_LIMIT_USER" not in environment_of(tmp_path)
