"""The identity provider rotates its keys, floods are kept from it, and it may be away, for a bounded time."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from api import keys
from api.errors import KeysAway, Unauthenticated
from api.keys import PublishedKeys, UnusableKey, keys_published
from api.settings import GatewaySettings
from api.tokens import SHOPPER, Verifier, issue, make_key, public_jwks
from pavane.issuer import Issuer
from streams.kit.errors import WrongSetting

OLD, NEW = make_key(), make_key()
RSA, CURVE = RSAKey.generate_key(2_048), ECKey.generate_key("P-256")


def by(key: Any) -> str:
    return issue(key, "shop", "c7", SHOPPER, 60)


class Provider:
    """Publishes what it is told, and counts how often it was asked."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\n"
        self.body = b""
        self.asked = 0
        self.url = ""
        self.publish(OLD)

    def publish(self, *published: Any) -> None:
        self.body = json.dumps(public_jwks(*published)).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        head = self.answer + f"Content-Length: {len(self.body)}\r\nConnection: close\r\n\r\n".encode()
        writer.write(head + self.body)
        writer.close()


@asynccontextmanager
async def publishing(provider: Provider, port: int = 0) -> AsyncIterator[int]:
    async with await asyncio.start_server(provider.serve, "127.0.0.1", port) as server:
        port = server.sockets[0].getsockname()[1]
        provider.url = f"http://127.0.0.1:{port}/jwks.json"
        yield port


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    async with publishing(provider):
        yield provider


def verifier_of(provider: Provider, **seconds: float) -> Verifier:
    published = PublishedKeys(provider.url, **{"floor_seconds": 0.0, **seconds})
    return Verifier(published=published)


async def test_when_all_keys_are_withdrawn_nobody_gets_in_and_the_gateway_is_not_ready(provider: Provider):
    verifier = verifier_of(provider, refresh_seconds=0.0)
    await verifier.caller(by(OLD))

    provider.publish()

    with pytest.raises(ConnectionError, match="publishes no key"):
        await verifier.published.known()  # type: ignore[union-attr]
    with pytest.raises(Unauthenticated):
        await verifier.caller(by(OLD))


async def test_a_gateway_that_was_idle_does_not_believe_a_key_that_was_withdrawn_meanwhile(
    provider: Provider,
):
    verifier = verifier_of(provider)
    await verifier.caller(by(OLD))
    provider.publish(NEW)
    verifier.published._fetched -= 2 * keys.REFRESH_SECONDS  # type: ignore[union-attr]

    with pytest.raises(Unauthenticated):
        await verifier.caller(by(OLD))


async def test_a_new_key_is_believed_at_once_and_the_old_one_until_it_is_withdrawn(provider: Provider):
    verifier = verifier_of(provider, refresh_seconds=0.0)
    assert (await verifier.caller(by(OLD))).subject == "c7"

    provider.publish(OLD, NEW)
    assert (await verifier.caller(by(NEW))).subject == "c7"
    assert (await verifier.caller(by(OLD))).subject == "c7"

    provider.publish(NEW)
    await verifier.published.reachable()  # type: ignore[union-attr]
    with pytest.raises(Unauthenticated):
        await verifier.caller(by(OLD))
    assert (await verifier.caller(by(NEW))).subject == "c7"
    await verifier.close()


async def test_a_key_that_is_replaced_under_its_id_takes_its_remembered_tokens_along(provider: Provider):
    first = make_key()
    second = make_key()
    same = {"kid": "k1"}
    provider.body = json.dumps({"keys": [{**public_jwks(first)["keys"][0], **same}]}).encode()
    verifier = verifier_of(provider, refresh_seconds=0.0)
    first_token = by(type(first).import_key({**first.as_dict(private=True), **same}))
    await verifier.caller(first_token)

    provider.body = json.dumps({"keys": [{**public_jwks(second)["keys"][0], **same}]}).encode()
    await verifier.published.reachable()  # type: ignore[union-attr]

    with pytest.raises(Unauthenticated):
        await verifier.caller(first_token)
    await verifier.close()


async def test_a_flood_of_invented_key_ids_asks_the_provider_once(provider: Provider):
    verifier = verifier_of(provider, floor_seconds=60.0)
    await verifier.caller(by(OLD))

    async def invented() -> None:
        with pytest.raises(Unauthenticated):
            await verifier.caller(by(make_key()))

    await asyncio.gather(*(invented() for _ in range(200)))

    assert provider.asked == 1
    await verifier.close()


async def test_many_callers_wait_for_one_fetch(provider: Provider):
    verifier = verifier_of(provider)

    callers = await asyncio.gather(*(verifier.caller(by(OLD)) for _ in range(100)))

    assert {caller.subject for caller in callers} == {"c7"}
    assert provider.asked == 1
    await verifier.close()


async def test_while_the_provider_is_away_its_keys_are_good_for_a_bounded_time_then_nobody_gets_in():
    provider = Provider()
    async with publishing(provider) as port:
        verifier = verifier_of(provider, refresh_seconds=0.0, keep_seconds=3_600.0)
        await verifier.caller(by(OLD))
    published = verifier.published
    assert published is not None
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1"):
        await published.reachable()

    assert (await verifier.caller(by(OLD))).subject == "c7"

    published._keep_seconds = 0.0
    with pytest.raises(KeysAway) as refused:
        await verifier.caller(by(OLD))
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "2"})
    with pytest.raises(ConnectionError):
        await published.known()

    published._keep_seconds = 3_600.0
    async with publishing(provider, port):
        await published.reachable()
        assert (await verifier.caller(by(OLD))).subject == "c7"
    await verifier.close()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 500 No\r\n", b"{}"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n", b""),
        (b"HTTP/1.1 200 OK\r\n", b"<html>"),
        (b"HTTP/1.1 200 OK\r\n", b"[]"),
        (b"HTTP/1.1 200 OK\r\n", b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}'),
        (b"HTTP/1.1 200 OK\r\n", b"[" * 100_000),
        (b"HTTP/1.1 200 OK\r\n", b" " * (keys.MOST_JWKS_BYTES + 1)),
    ],
    ids=["500", "a redirect", "a page", "a list", "only a secret", "nested", "too long"],
)
async def test_what_is_no_set_of_keys_leaves_the_known_ones_as_they_are(provider: Provider, answer: bytes, body: bytes):
    verifier = verifier_of(provider, refresh_seconds=0.0)
    await verifier.caller(by(OLD))
    provider.answer, provider.body = answer, body

    with pytest.raises(ConnectionError):
        await verifier.published.reachable()  # type: ignore[union-attr]

    assert provider.asked >= 2
    assert (await verifier.caller(by(OLD))).subject == "c7"
    await verifier.close()


@pytest.mark.filterwarnings("ignore:Key size")
def test_of_what_a_provider_publishes_only_public_signing_keys_count():
    rsa = RSAKey.generate_key(2048, {"kid": "rsa"}).as_dict(private=False)
    short = RSAKey.generate_key(1024, {"kid": "short"}).as_dict(private=False)
    curve = ECKey.generate_key("P-384", {"kid": "curve"}).as_dict(private=False)
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"}
    private = make_key().as_dict(private=True)
    encrypting = {**rsa, "kid": "enc", "use": "enc"}
    unknown = {"kty": "PQC", "kid": "new"}

    found = keys_published({"keys": [rsa, short, curve, secret, private, encrypting, unknown, None, "x"]})

    assert found.keys() == {"rsa"}
    assert found["rsa"].algorithms == ("RS256", "PS256")


MEMBERS = ("kty", "use", "key_ops", "alg", "crv", "kid", "x", "y", "n", "e", "x5c", "x5t", "ext")


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("odd", [[], {}, [[]], {"a": []}, 5, -1, 1.5, True, None, "", "verify", "\0"], ids=repr)
def test_an_odd_key_takes_no_other_along(member: str, odd: Any):
    for key in (NEW, RSA, CURVE):
        [published] = public_jwks(key)["keys"] if key is NEW else [key.as_dict(private=False)]
        found = keys_published({"keys": [{**published, member: odd}, *public_jwks(OLD)["keys"]]})

        assert any(found[kid].material.as_dict() == public_jwks(OLD)["keys"][0] for kid in found), found


def test_two_keys_of_one_id_are_not_a_choice():
    one, other = (make_key().as_dict(private=False) for _ in range(2))

    with pytest.raises(UnusableKey, match="same kid"):
        keys_published({"keys": [{**one, "kid": "k"}, {**other, "kid": "k"}]})


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
async def test_rsa_keys_are_good_as_well(algorithm: str):
    key = RSAKey.generate_key(2048, {"use": "sig", "alg": algorithm}, auto_kid=True)

    caller = await Verifier(public_jwks(key)).caller(by(key))

    assert caller.tenant == "shop"


@pytest.mark.parametrize("address", ["http://id.example/jwks.json", "http://127.0.0.1.attacker.example/k", "https://"])
def test_keys_come_in_clear_from_this_machine_only(address: str):
    given = {
        "PAVANE_KAFKA": "127.0.0.1:9092",
        "PAVANE_REGISTRY": "http://127.0.0.1:1",
        "PAVANE_REDIS": "redis://127.0.0.1:1",
        "PAVANE_DATABASE_TIMELINE": "postgresql://127.0.0.1:1/x",
        "PAVANE_DATABASE_KEYS": "postgresql://127.0.0.1:1/x",
        "PAVANE_MASTER_KEYS": "2027:0123456789abcdef0123456789abcdef",
        "PAVANE_JWKS": address,
    }

    with pytest.raises(WrongSetting, match="PAVANE_JWKS"):
        GatewaySettings.read(given)


async def test_the_local_issuer_rotates_with_overlap(tmp_path: Path):
    issuer = Issuer(tmp_path / "jwks.json")
    verifier = Verifier(published=PublishedKeys(issuer.jwks_url, refresh_seconds=0.0, floor_seconds=0.0))
    old = issuer.token("shop", "c7")
    await verifier.caller(old)

    issuer.rotate()
    await verifier.caller(issuer.token("shop", "c7"))
    await verifier.caller(old)
    issuer.retire()
    await verifier.published.reachable()  # type: ignore[union-attr]

    with pytest.raises(Unauthenticated):
        await verifier.caller(old)
    await verifier.caller(issuer.token("shop", "c7"))
    issuer.close()
    await verifier.close()
