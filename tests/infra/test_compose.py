"""The containers of `compose.yaml`: each is given what it has a use for, and every secret is one that somebody made."""

import asyncio
import os
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml

from api.addresses import networks
from api.tokens import AUDIENCE, ISSUER
from infra.addresses import DATABASE, DATABASE_ADMIN, MASTER_KEYS, REDIS
from infra.postgres import Postgres, program
from infra.topics import PARTITIONS
from pavane.given import given
from pavane.instance import DESK, GATEWAY
from streams.billing import provider
from streams.kit.masters import Masters
from streams.kit.run import find, services
from streams.shipping import carrier

FOLDER = Path("infra/compose")
WRITTEN = Path("compose.yaml").read_text()
IMAGE = Path("Dockerfile").read_text()
CONTAINERS: dict[str, dict[str, Any]] = yaml.safe_load(WRITTEN)["services"]
OURS = [*services(), GATEWAY, DESK]
COMMANDS = "pavane"


def secrets_of(container: str) -> set[str]:
    return {name for name in CONTAINERS[container]["environment"] if name.startswith((DATABASE, MASTER_KEYS))}


def made() -> dict[str, str]:
    """What the script makes for somebody who starts the containers."""
    said = subprocess.run(["sh", FOLDER / "secrets.sh"], capture_output=True, text=True, check=True).stdout
    return dict(line.split("=", 1) for line in said.splitlines())


@pytest.mark.parametrize("container", OURS)
def test_a_container_is_given_no_secret_but_its_own(container: str) -> None:
    """The same as a process of a local platform."""
    everything = dict.fromkeys(secrets_of(COMMANDS), "")

    assert secrets_of(container) == given(container, everything).keys()
    assert DATABASE_ADMIN not in secrets_of(container)


def test_databases_are_made_by_commands_alone() -> None:
    assert {name for name in CONTAINERS if DATABASE_ADMIN in CONTAINERS[name].get("environment", {})} == {COMMANDS}


@pytest.mark.parametrize("container", OURS)
def test_redis_is_known_to_those_that_keep_something_there(container: str) -> None:
    keeps = container == GATEWAY or (container in services() and bool(find(container).answering))

    assert (REDIS in CONTAINERS[container]["environment"]) is keeps


def test_every_secret_is_made_and_no_two_are_the_same() -> None:
    first, second = made(), made()

    asked = set(re.findall(r"\$\{(\w+)(?!:-|\w)", WRITTEN)) - {"PAVANE_JWKS_FILE"}
    assert asked == first.keys()
    assert len({*first.values(), *second.values()}) == 2 * len(first)
    assert min(map(len, first.values())) >= 48
    Masters.read(first[MASTER_KEYS])


@pytest.mark.parametrize("container", CONTAINERS)
def test_no_password_stands_in_what_a_process_is_started_with(container: str) -> None:
    given = CONTAINERS[container]

    assert "PASSWORD" not in str([given.get("command"), given.get("healthcheck")])


def test_valkey_is_given_its_password_by_standard_input(tmp_path: Path) -> None:
    """The image's entry point ends being root, and is given the words that it knows."""
    entry = tmp_path / "docker-entrypoint.sh"
    entry.write_text('#!/bin/sh\necho "$@"\ncat\n')
    entry.chmod(0o755)
    command = [word.replace("$$", "$") for word in CONTAINERS["valkey"]["command"]]
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REDISCLI_AUTH": "a 'word'"}

    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert said.splitlines()[:2] == ["valkey-server -", "requirepass \"a 'word'\""]
    assert "appendonly yes" in said.splitlines()


@pytest.mark.parametrize("container", [name for name in CONTAINERS if name not in ("prepare", COMMANDS)])
def test_what_ended_is_started_again(container: str) -> None:
    assert CONTAINERS[container]["restart"] == "unless-stopped"


@pytest.mark.parametrize("container", [GATEWAY, DESK])
def test_tokens_of_any_provider_are_taken(container: str) -> None:
    environment = CONTAINERS[container]["environment"]

    assert environment["PAVANE_TOKEN_ISSUER"] == f"${{PAVANE_TOKEN_ISSUER:-{ISSUER}}}"
    assert environment["PAVANE_TOKEN_AUDIENCE"] == f"${{PAVANE_TOKEN_AUDIENCE:-{AUDIENCE}}}"
    assert environment["PAVANE_JWKS"] == "${PAVANE_JWKS:-/run/jwks.json}"


def test_a_proxy_is_believed_only_when_it_is_named() -> None:
    assert CONTAINERS[GATEWAY]["environment"]["PAVANE_TRUSTED_PROXIES"] == "${PAVANE_TRUSTED_PROXIES:-}"
    assert networks("") == ()


@pytest.mark.parametrize(
    ("variable", "containers"),
    [
        (provider.ADDRESS, {"billing", COMMANDS}),
        (carrier.ADDRESS, {"shipping", COMMANDS}),
        (PARTITIONS, {"prepare", COMMANDS}),
    ],
)
def test_what_somebody_exports_reaches_those_that_it_is_for(variable: str, containers: set[str]) -> None:
    passed = {name: given.get("environment", {}).get(variable) for name, given in CONTAINERS.items()}

    assert {name: value for name, value in passed.items() if value} == dict.fromkeys(containers, f"${{{variable}:-}}")
    assert re.search(rf"^#   {variable} ", WRITTEN, re.MULTILINE)


def test_postgres_is_given_each_password_that_its_script_asks_for() -> None:
    [names] = re.findall(r"^for name in (.+); do$", (FOLDER / "databases.sh").read_text(), re.MULTILINE)
    asked = {f"PAVANE_{name.upper()}_PASSWORD" for name in names.split()}
    given = CONTAINERS["postgres"]["environment"]

    assert {name: given.get(name) for name in asked} == {name: f"${{{name}}}" for name in asked}
    assert {*services(), "keys", "world", "registry"} == set(names.split())


def test_what_commands_keep_stays_when_their_container_goes() -> None:
    [_, folder] = CONTAINERS[COMMANDS]["volumes"][0].split(":")
    lines = IMAGE.splitlines()

    assert lines.index(f"WORKDIR {folder}") < lines.index("USER pavane")
    assert f"install --directory --owner=pavane {folder}" in IMAGE


def test_each_database_is_opened_by_a_password_of_its_own() -> None:
    found = {
        name: urlsplit(url)
        for name, url in CONTAINERS[COMMANDS]["environment"].items()
        if name.startswith(DATABASE) and name != DATABASE_ADMIN
    }
    for name, url in found.items():
        owner = name.removeprefix(DATABASE).lower()
        assert (url.username, url.path) == (owner, f"/{owner}")
        assert url.password == f"${{PAVANE_{owner.upper()}_PASSWORD}}"


# -- the script that makes the databases, on a real server -----------------------------------------------------------


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
async def server(home: Path) -> AsyncIterator[Postgres]:
    server = Postgres(home / "postgres", password="secret")
    await server.start()
    yield server
    await server.stop()


@pytest.mark.stack
async def test_roles_are_made_each_with_its_password_and_none_gets_into_anothers_database(server: Postgres) -> None:
    admin, passwords = urlsplit(server.admin_url), made()
    environment = {
        **passwords,
        "PATH": f"{program('psql', None).parent}:{os.environ['PATH']}",
        "POSTGRES_USER": str(admin.username),
        "PGHOST": str(admin.hostname),
        "PGPORT": str(admin.port),
        "PGPASSWORD": str(admin.password),
        "PGDATABASE": "postgres",
    }
    script = ["sh", str(FOLDER / "databases.sh")]
    await asyncio.to_thread(subprocess.run, script, env=environment, check=True, capture_output=True)

    def url(role: str, password_of: str, database: str) -> str:
        password = passwords[f"PAVANE_{password_of.upper()}_PASSWORD"]
        return f"postgresql://{role}:{password}@{admin.hostname}:{admin.port}/{database}"

    for name in (*services(), "keys", "world", "registry"):
        psycopg.connect(url(name, name, name)).close()
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(url("timeline", "timeline", "orders"))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url("orders", "timeline", "orders"))
