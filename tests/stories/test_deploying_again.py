"""What runs may run: `pavane can-deploy` says so, by what all processes have announced."""

import asyncio
import json
import os
import sys

import pytest

from infra.stack import Stack
from pavane.instance import GATEWAY
from pavane.platform import Platform
from streams.kit.run import services

ANSWER_SECONDS = 60.0


@pytest.mark.parametrize("service", ["orders", GATEWAY])
async def test_the_version_that_runs_could_be_deployed(service: str, platform: Platform, stack: Stack) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pavane", "can-deploy", service, "--json"),
        env={**os.environ, **stack.addresses.environment()},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(process.communicate(), ANSWER_SECONDS)
    answer = json.loads(said)

    assert (process.returncode, answer["reasons"]) == (0, []), answer
    assert answer["running"].keys() == {*services(), GATEWAY}
    assert [each["version"] for each in answer["running"][service] if each["is_live"]] == [answer["version"]]
