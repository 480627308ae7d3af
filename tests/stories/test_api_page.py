"""The page for integrating developers is true: its own code blocks are run, against the whole platform."""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from pavane.demo.staying import tell
from pavane.lines import Lines
from pavane.platform import Platform
from streams.kit.testing import Shop
from tests.api.conftest import serving

PAGE = Path("docs/api.md").read_text()
SECTIONS = {section.partition("\n")[0]: section for section in PAGE.split("\n## ")[1:]}
SECONDS = 90


def blocks(section: str, language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", SECTIONS[section], re.MULTILINE | re.DOTALL)
    assert found, f"docs/api.md, {section}: no {language}"
    return found


@pytest.fixture
def environment(platform: Platform, shop: Shop) -> dict[str, str]:
    """What the page asks its reader to export, for a shop of their own."""
    return {
        **os.environ,
        "GATEWAY": platform.gateway_url,
        "TOKEN": platform.issuer.token(shop.tenant, "reader"),
        "OPERATOR_TOKEN": platform.issuer.operator_token(shop.tenant),
    }


async def run(command: list[str], environment: Mapping[str, str], folder: Path) -> str:
    code, said, complained = await ended(command, environment, folder)
    assert code == 0, complained + said
    return said


async def ended(command: list[str], environment: Mapping[str, str], folder: Path) -> tuple[int | None, str, str]:
    """How the program ended, and what it said and complained about."""
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(SECONDS):
            said, complained = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode, said.decode(), complained.decode()


def test_no_example_of_the_page_has_a_key_that_somebody_may_have_used():
    assert not re.findall(r"Idempotency-Key: [\w-]+", PAGE)


async def test_every_step_of_the_page_does_what_it_says(environment: dict[str, str], tmp_path: Path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not here")
    steps = [title for title in SECTIONS if title[0] in "1256"]
    shell = "\n".join(block for step in steps for block in [f'echo "== {step}"', *blocks(step, "sh")])

    said = await run(["bash", "-euo", "pipefail", "-c", shell], environment, tmp_path)

    parts = dict(part.split("\n", 1) for part in said.split("== ")[1:])
    facts = re.findall("event: (.*)", parts[steps[1]])
    assert (facts[0], len(facts), facts[-1]) == ("OrderPlaced", 9, "StockDispatched")
    assert '"status":"confirmed"' in parts[steps[1]]
    refused = json.loads(parts[steps[2]])
    assert (refused["type"], refused["errors"][0]["pointer"]) == ("/problems/invalid-request", "#/lines/0/quantity")
    assert [order["status"] for order in json.loads(parts[steps[3]])["orders"]] == ["confirmed"]

    (tmp_path / "order.py").write_text(blocks("3. With Python", "python")[0])
    assert await run([sys.executable, "order.py"], environment, tmp_path) == "confirmed 1999 EUR\n"

    if shutil.which("node") is None:
        pytest.skip("node is not here: the JavaScript was not run")
    (tmp_path / "order.mjs").write_text(blocks("4. With JavaScript", "js")[0])
    told = (await run(["node", "order.mjs"], environment, tmp_path)).splitlines()
    assert [line.split()[-1] for line in told[:-1]][::8] == ["OrderPlaced", "StockDispatched"]
    assert told[-1] == "confirmed"


async def test_what_the_page_asks_its_reader_to_export_is_where_a_platform_that_stays_up_leaves_it(platform: Platform):
    tell(platform, Lines(), None)

    exported = dict(re.findall(r"^export (\w+)=\$\(cat \.data/([\w-]+)\)", PAGE, re.MULTILINE))
    files = {name: platform.stack.data.path / file for name, file in exported.items()}
    assert {file.stat().st_mode & 0o777 for file in files.values()} == {0o600}
    bearers = {name: {"Authorization": f"Bearer {file.read_text()}"} for name, file in files.items()}
    async with httpx.AsyncClient(base_url=platform.gateway_url, timeout=30) as http:
        assert (await http.get("/v1/orders", headers=bearers["TOKEN"])).status_code == 200
        price = {"amount_minor": 1999, "currency": "EUR"}
        set_price = await http.put("/v1/prices/lamp", json=price, headers=bearers["OPERATOR_TOKEN"])
        assert set_price.status_code == 202
        for path in ("/v1/overdue", "/v1/dead-letters", "/health/deep"):
            assert (await http.get(path, headers=bearers["OPERATOR_TOKEN"])).status_code == 200, path


def problem(status: int) -> Response:
    return Response(json.dumps({"detail": f"refused with {status}"}), status, {"Retry-After": "0"})


PLACED = Response(b"{}", 202, {"Location": "/v1/orders/1"})
#: Each is asked again, or followed: an order that was accepted just now may not be known yet.
PASSING = [problem(503), PLACED, problem(404), problem(429)]
UNCHANGED = Response(status_code=304, headers={"Preference-Applied": "wait=10"})
BROKEN_OFF = Response(b'id: 1\nevent: OrderPlaced\ndata: {"fact": "OrderPlaced"}\n\n', media_type="text/event-stream")


@pytest.mark.parametrize(
    ("section", "language", "program", "answers"),
    [
        *(("3. With Python", "python", sys.executable, [*PASSING, UNCHANGED, problem(status)])
          for status in (401, 403, 500)),
        *(("4. With JavaScript", "js", "node", [*PASSING, BROKEN_OFF, problem(status)]) for status in (401, 403, 500)),
    ],
)  # fmt: skip
async def test_what_passes_is_asked_again_with_the_same_key_and_what_does_not_ends_the_program(
    section: str, language: str, program: str, answers: list[Response], tmp_path: Path
):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here")
    asked: list[Request] = []

    async def gateway(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            asked.append(Request(scope, receive))
            await answers[min(len(asked), len(answers)) - 1](scope, receive, send)

    (tmp_path / "order.mjs").write_text(blocks(section, language)[0])
    async with serving(gateway) as address:
        environment = {**os.environ, "GATEWAY": address, "TOKEN": "t"}
        code, _, complained = await ended([program, "order.mjs"], environment, tmp_path)

    assert code != 0
    assert re.search("refused with|HTTPStatusError", complained), complained
    assert [request.method for request in asked] == ["POST", "POST", *["GET"] * 4]
    assert len({request.headers["idempotency-key"] for request in asked[:2]}) == 1
