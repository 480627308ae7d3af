"""The tokens of a real identity provider are believed, and only those that are meant for us."""

from collections.abc import AsyncIterator
from typing import NamedTuple

import httpx
import pytest

from api.app import build
from api.settings import GatewaySettings
from tests.api.conftest import eventually, new_key, order, serving
from tests.faults.harness import LONG
from tests.security.keycloak import OTHER_CLIENT, Keycloak, keycloak

pytestmark = [LONG, pytest.mark.timeout(600)]


class Trusting(NamedTuple):
    """A gateway that trusts Keycloak."""

    provider: Keycloak
    http: httpx.AsyncClient

    async def placed(self, token: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": new_key()}
        return await self.http.post("/v1/orders", json=order(), headers=headers)


@pytest.fixture(scope="module")
async def trusting(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Trusting]:
    async with keycloak(tmp_path_factory.mktemp("keycloak")) as provider:
        ours = {"PAVANE_JWKS": provider.jwks_url, "PAVANE_TOKEN_ISSUER": provider.issuer}
        async with (
            serving(build(GatewaySettings.read({**environment, **ours}))) as address,
            httpx.AsyncClient(base_url=address, timeout=30) as http,
        ):
            await eventually(lambda: _is_ready(http), 60.0)
            yield Trusting(provider, http)


async def _is_ready(http: httpx.AsyncClient) -> bool:
    return (await http.get("/health/ready")).json()["status"] == "ready"


async def test_who_signs_in_at_the_provider_orders_and_sees_only_their_own(trusting: Trusting):
    ada, bob = [(await trusting.provider.tokens(name))["access_token"] for name in ("ada", "bob")]

    placed = await trusting.placed(ada)
    assert placed.status_code == 202, placed.text
    seen = [
        (await trusting.http.get(placed.headers["location"], headers={"Authorization": f"Bearer {who}"})).status_code
        for who in (ada, bob)
    ]
    assert seen == [200, 404]


@pytest.mark.parametrize("algorithm", ["PS256", "ES256", "EdDSA"])
async def test_every_algorithm_that_we_take_is_taken(trusting: Trusting, algorithm: str):
    await trusting.provider.sign_with(algorithm)
    try:
        answer = await trusting.placed((await trusting.provider.tokens("ada"))["access_token"])
    finally:
        await trusting.provider.sign_with("RS256")

    assert answer.status_code == 202, answer.text


async def test_what_is_no_access_token_for_us_is_refused(trusting: Trusting):
    told = await trusting.provider.tokens("ada")
    refused = {
        "identity": told["id_token"],
        "refresh": told["refresh_token"],
        "for others": (await trusting.provider.tokens("ada", OTHER_CLIENT))["access_token"],
        "another realm's": (await trusting.provider.tokens("admin", "admin-cli", "master"))["access_token"],
    }
    for what, token in refused.items():
        answer = await trusting.placed(token)
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated"), what


async def test_a_new_key_is_believed_beside_the_old_one(trusting: Trusting):
    before = (await trusting.provider.tokens("ada"))["access_token"]
    await trusting.provider.rotate()
    after = (await trusting.provider.tokens("ada"))["access_token"]
    assert before.partition(".")[0] != after.partition(".")[0], "another key signs"

    # Unknown keys are looked for at most every five seconds.
    async def is_believed() -> bool:
        return (await trusting.placed(after)).status_code == 202

    await eventually(is_believed, 30.0)
    assert (await trusting.placed(before)).status_code == 202
