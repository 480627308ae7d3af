"""Whatever is made up, stolen from another service or bent: no forged token opens or breaks anything."""

from collections.abc import Callable

import httpx
import pytest

from api.errors import Unauthenticated
from api.tokens import Verifier, public_jwks
from tests.api.conftest import KEY, Door
from tests.security.forging import FORGED, genuine

NAMES = sorted(FORGED)


async def test_a_genuine_token_is_believed():
    """The forger's own craft is good: what he makes without a flaw passes."""
    caller = await Verifier(public_jwks(KEY)).caller(genuine())

    assert (caller.tenant, caller.subject) == ("shop", "c7")


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
async def test_a_forged_token_proves_nothing(forged: Callable[[], str]):
    verifier = Verifier(public_jwks(KEY))

    with pytest.raises(Unauthenticated):
        await verifier.caller(forged())


async def test_there_are_enough_ways_to_forge():
    assert len(FORGED) >= 80


async def test_the_running_gateway_refuses_every_forged_token_on_every_way_in(shop: httpx.AsyncClient):
    order_id = "10b6bc1c-0ad5-5c71-a7c2-e4ea5c1ae4c1"
    ways = [("GET", f"/v1/orders/{order_id}"), ("POST", f"/v1/orders/{order_id}/cancellation"), ("GET", "/v1/stock/x")]
    assert (await shop.get(ways[0][1], headers={"Authorization": f"Bearer {genuine()}"})).status_code == 404

    for name, forged in FORGED.items():
        for method, path in ways:
            header = (b"Bearer " + forged().encode()).strip()
            answer = await shop.request(method, path, headers={"Authorization": header})
            told = answer.json()

            assert (answer.status_code, told["type"]) == (401, "/problems/unauthenticated"), name
            assert answer.headers["www-authenticate"].startswith('Bearer realm="pavane"'), name


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Basic YzdzOnNlY3JldA==")],
        [("Authorization", "Bearer")],
        [("Authorization", genuine())],
        [("Cookie", f"token={genuine()}")],
        [("X-Forwarded-User", "c7"), ("X-Tenant", "shop")],
        [("Authorization", f"Bearer {genuine()}"), ("Authorization", f"Bearer {genuine(sub='c8')}")],
    ],
    ids=["basic", "no token", "no scheme", "a cookie", "a proxy's headers", "two tokens"],
)
async def test_only_one_bearer_token_in_its_header_counts(door: Door, headers: list[tuple[str, str]]):
    answer = await door.http.get("/v1/stock/lamp", headers=headers)

    assert answer.status_code == 401


async def test_only_blanks_of_http_may_stand_around_a_token(door: Door):
    async def status(header: str) -> int:
        return (await door.http.get("/v1/stock/lamp", headers={"Authorization": header.encode("latin-1")})).status_code

    assert await status(f"Bearer  {genuine()} ") == 404
    assert await status(f"Bearer {genuine()}\xa0") == 401


async def test_a_token_in_the_address_counts_for_nothing(door: Door):
    answer = await door.http.get(f"/v1/stock/lamp?access_token={genuine()}")

    assert answer.status_code == 401
