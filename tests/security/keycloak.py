"""Keycloak, as an operator would set it up for a shop: fetched by Maven coordinates, run by the Java of our servers."""

import asyncio
import os
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from api.tokens import AUDIENCE, SHOPPER
from infra.cache import cache_folder
from infra.jars import ensure, locked
from infra.java import java
from infra.server import free_ports
from tests.waiting import eventually

LOCK = Path(__file__).with_name("keycloak.lock")
READY_SECONDS = 420.0
REALM, CLIENT, OTHER_CLIENT = "shop", "webshop", "newsletter"
PASSWORD = "only-on-this-machine"


def mapper(name: str, kind: str, **config: str) -> dict[str, Any]:
    config = {"access.token.claim": "true", "id.token.claim": "false", **config}
    return {"name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": config}


TENANT = mapper(
    *("tenant", "oidc-hardcoded-claim-mapper"),
    **{"claim.name": "tenant", "claim.value": "shop", "jsonType.label": "String"},
)
FOR_US = mapper("audience", "oidc-audience-mapper", **{"included.custom.audience": AUDIENCE})


def client(name: str, mappers: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "clientId": name,
        "publicClient": True,
        "directAccessGrantsEnabled": True,
        "defaultClientScopes": ["basic", *SHOPPER],
        "protocolMappers": mappers,
        # RFC 9068: an access token says that it is one, so that no identity token is taken for it.
        "attributes": {"access.token.header.type.rfc9068": "true"},
    }


def user(name: str) -> dict[str, Any]:
    return {
        "username": name, "email": f"{name}@shop.example", "firstName": name, "lastName": "Shopper",
        "enabled": True, "emailVerified": True,
        "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
    }  # fmt: skip


def scope(name: str) -> dict[str, Any]:
    return {"name": name, "protocol": "openid-connect", "attributes": {"include.in.token.scope": "true"}}


#: What an operator imports: our scopes, a client whose tokens are for us, one whose tokens are not, two users.
SETTING: dict[str, Any] = {
    "realm": REALM,
    "enabled": True,
    "sslRequired": "none",
    "accessTokenLifespan": 300,
    "clients": [client(CLIENT, [TENANT, FOR_US]), client(OTHER_CLIENT, [TENANT])],
    "users": [user("ada"), user("bob")],
}


class Keycloak:
    """A running one. `http` is at its root."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.issuer = f"{url}/realms/{REALM}"
        self.jwks_url = f"{self.issuer}/protocol/openid-connect/certs"
        self._http = http

    async def tokens(self, name: str, client_id: str = CLIENT, realm: str = REALM) -> dict[str, Any]:
        """All that somebody gets who signs in: access, identity and refresh token."""
        asked = {"grant_type": "password", "client_id": client_id, "username": name, "password": PASSWORD}
        address = f"/realms/{realm}/protocol/openid-connect/token"
        answer = await self._http.post(address, data={**asked, "scope": "openid"})
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def admin(self, method: str, path: str, body: Any = None) -> Any:
        bearer = (await self.tokens("admin", "admin-cli", "master"))["access_token"]
        headers = {"Authorization": f"Bearer {bearer}"}
        answer = await self._http.request(method, f"/admin{path}", json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def set_up(self) -> None:
        await self.admin("POST", "/realms", SETTING)
        for name in SHOPPER:
            await self.admin("POST", f"/realms/{REALM}/client-scopes", scope(name))
        ids = {each["name"]: each["id"] for each in await self.admin("GET", f"/realms/{REALM}/client-scopes")}
        for client_id in (CLIENT, OTHER_CLIENT):
            found = await self.client(client_id)
            for name in SHOPPER:
                await self.admin("PUT", f"/realms/{REALM}/clients/{found['id']}/default-client-scopes/{ids[name]}")

    async def client(self, client_id: str) -> dict[str, Any]:
        [found] = await self.admin("GET", f"/realms/{REALM}/clients?clientId={client_id}")
        return dict(found)

    async def sign_with(self, algorithm: str) -> None:
        """From now on tokens of our client are signed so."""
        found = await self.client(CLIENT)
        found["attributes"]["access.token.signed.response.alg"] = algorithm
        await self.admin("PUT", f"/realms/{REALM}/clients/{found['id']}", found)

    async def rotate(self) -> None:
        """A new RSA key, before the one that there is."""
        config = {"priority": ["200"], "algorithm": ["RS256"], "keySize": ["2048"]}
        kind = {"providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider"}
        await self.admin("POST", f"/realms/{REALM}/components", {"name": "newer", **kind, "config": config})


def unpacked(folder: Path) -> Path:
    """Keycloak in that folder; fetched when missing."""
    [packed] = ensure(locked("keycloak", LOCK), cache_folder() / "jars")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("keycloak-*"))


@asynccontextmanager
async def keycloak(folder: Path) -> AsyncIterator[Keycloak]:
    home = await asyncio.to_thread(unpacked, folder)
    port, management = free_ports(2)
    words = ("--http-host=127.0.0.1", f"--http-port={port}", f"--http-management-port={management}", "--db=dev-mem")
    environment = {
        **os.environ,
        "JAVA": str(java()),
        "JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx400m",
        "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
        "KC_BOOTSTRAP_ADMIN_PASSWORD": PASSWORD,
    }
    with (folder / "keycloak.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(home / "bin" / "kc.sh"), "start-dev", *words, env=environment, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            await eventually(lambda: _is_up(process, http), READY_SECONDS, f"Keycloak answers ({folder}/keycloak.log)")
            found = Keycloak(url, http)
            await found.set_up()
            yield found
    finally:
        # The script starts Java as a child of its own.
        os.killpg(process.pid, 15)
        await process.wait()


async def _is_up(process: asyncio.subprocess.Process, http: httpx.AsyncClient) -> bool:
    assert process.returncode is None, f"Keycloak ended with code {process.returncode}"
    try:
        return (await http.get("/realms/master")).status_code == 200
    except httpx.TransportError:
        return False
