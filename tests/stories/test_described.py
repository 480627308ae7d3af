"""The gateway keeps to its description, whatever it is sent: schemathesis with all its checks, and real tokens.

All checks are its default. It asks with the description's examples, the bounds of every parameter, what is just outside
them, values drawn at random, and in whole conversations along the links from one answer to the next question.
`FUZZ=long` asks ten times as much, with a new seed (`make security`); `SEED=7` does a certain one again.
"""

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api import streams
from api.app import build
from api.settings import GatewaySettings
from pavane.given import DESK_FILE, LOCAL_GATEWAY
from pavane.platform import Platform
from tests.api.conftest import serving

CONFIGURATION = Path(__file__).with_name("described.toml")
LONG = os.environ.get("FUZZ") == "long"
SEED = int(os.environ.get("SEED") or (random.randrange(10**9) if LONG else 7))
EXAMPLES = 50 if LONG else 5
USERS = ("ada", "bob")
PHASES = ("examples", "coverage", "fuzzing", "stateful")
SECONDS = 1_500 if LONG else 240


@pytest.fixture
async def gateway(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """One more gateway on the platform. Its streams are short, as whoever asks reads them to their end."""
    monkeypatch.setattr(streams, "LONGEST_SECONDS", 0.2)
    environment = {**platform.stack.addresses.environment(), "PAVANE_JWKS": platform.issuer.jwks_url, **LOCAL_GATEWAY}
    environment["PAVANE_DESK"] = (platform.stack.data.path / DESK_FILE).read_text().strip()
    async with serving(build(GatewaySettings.read(environment))) as address:
        yield address


async def asked(address: str, platform: Platform, folder: Path) -> dict[str, Any]:
    """What schemathesis tells when it has found nothing; else the test fails with what it found."""
    users = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {token}"}]}
        for name, token in ((name, platform.issuer.operator_token(f"{name}s-shop-{SEED}", name)) for name in USERS)
    ]
    (folder / "users.json").write_text(json.dumps({"auth": users}))
    words = [f"--max-examples={EXAMPLES}", f"--seed={SEED}", "--no-color", "--report=json"]
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("schemathesis")), f"--config-file={CONFIGURATION}", "run"),
        *(f"{address}/openapi.json", *words, f"--report-json-path={folder / 'report.json'}"),
        env={**os.environ, "WFC": str(folder / "users.json"), "PYTHONPATH": str(Path.cwd())},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said.decode()
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


@pytest.mark.timeout(SECONDS + 60)
async def test_the_gateway_keeps_to_its_description(platform: Platform, gateway: str, tmp_path: Path):
    print(f"\nSEED={SEED}")  # noqa: T201
    report = await asked(gateway, platform, tmp_path)

    assert report["complete"]
    assert report["operations"]["tested"] == report["operations"]["total"] > 10
    assert {name: phase["status"] for name, phase in report["phases"].items()} == dict.fromkeys(PHASES, "success")
    assert report["test_cases"]["generated"] > 400
    # Every route was entered with a real token and good values; nothing was only turned away.
    told = report["valid_rates"]
    turned_away = {name for name, of_phase in told.items() if not sum(each["accepted"] for each in of_phase.values())}
    # Nobody makes a dead letter over HTTP: tests/stories/test_dead_letters_door.py enters these with a real one.
    of_dead_letters = {name for name in told if "/v1/dead-letters/{service}/" in name}
    assert turned_away <= of_dead_letters
    assert not [found for found in report["warnings"].values() if set(found) - of_dead_letters]
