"""What nginx refuses before any gateway is asked looks as if a gateway had refused it: `infra/nginx/pavane.conf`."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from api.app import routed
from api.explained import types
from infra.server import free_ports
from tests.api.conftest import NOWHERE, Door, serving
from tests.nginx import MOST_OF_AN_ADDRESS, nginx
from tests.security.test_others_are_served import MORE_BODY, SLOW_BODY, Bad, come, files_for
from tests.waiting import eventually

KINDS = {kind.slug: kind for kind in types()}
REST = b"Host: shop\r\nConnection: close\r\nX-Correlation-Id: mine-7\r\n\r\n"
#: By name: how a request begins, which goes on with `REST`, and the type of problem that comes back.
REFUSED = {
    "an unreadable line": (b"\0\1\2\r\n", "malformed-request"),
    "an address that leads out": (b"GET /../../etc/passwd HTTP/1.1\r\n", "malformed-request"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: other\r\n", "malformed-request"),
    "two lengths": (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n", "malformed-request"),
    "a version there is not": (b"GET / HTTP/3.7\r\n", "malformed-request"),
    "an encoding there is not": (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n", "malformed-request"),
    "TLS in clear": (bytes.fromhex("16030100c8010000c40303") + bytes(60) + b"\r\n", "malformed-request"),
    "TRACE": (b"TRACE /v1/orders HTTP/1.1\r\n", "method-not-allowed"),
    "CONNECT": (b"CONNECT other:443 HTTP/1.1\r\n", "method-not-allowed"),
    "a long address": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n", "head-too-large"),
    "a long header": (b"GET / HTTP/1.1\r\nX-A: " + b"a" * 20_000 + b"\r\n", "head-too-large"),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"X-A: a\r\n" * 3_000, "head-too-large"),
    "a large body": (b"POST /v1/orders HTTP/1.1\r\nContent-Length: 65537\r\n", "body-too-large"),
    "operators' figures": (b"GET /metrics HTTP/1.1\r\n", "no-such-route"),
    "them by another way": (b"GET /v1/%2e%2e/met%72ics?a=b HTTP/1.1\r\n", "no-such-route"),
    "a page of the proxy's own": (b"GET /problems/by-proxy/away HTTP/1.1\r\n", "no-such-route"),
    "no gateway": (b"GET /v1/orders HTTP/1.1\r\n", "unavailable"),
}


class Proxy(NamedTuple):
    """nginx, in front of nobody."""

    port: int
    tls_port: int


@pytest.fixture(scope="module")
async def proxy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxy]:
    folder, (port, tls_port) = tmp_path_factory.mktemp("nginx"), free_ports(2)
    certificate(folder)
    more = f"listen 127.0.0.1:{tls_port} ssl;\nssl_certificate own.pem;\nssl_certificate_key own.pem;\n"
    async with nginx(folder, [NOWHERE], port, more=more):
        yield Proxy(port, tls_port)


def certificate(folder: Path) -> None:
    """A key and what it signed of itself, in `own.pem`."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1))
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (folder / "own.pem").write_bytes(pem)


async def told(
    port: int,
    beginning: bytes,
    tls: ssl.SSLContext | None = None,
    rest: bytes = REST,
    comes_from: str = "127.0.0.1",
) -> httpx.Response:
    """The answer to exactly these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, local_addr=(comes_from, 0))
    try:
        writer.write(beginning + rest)
        async with asyncio.timeout(20):
            head, _, body = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
            answer = httpx.Response(int(first.split()[1]), headers=headers)
            body = await reader.readexactly(int(answer.headers["content-length"]))
    finally:
        writer.close()
    return httpx.Response(answer.status_code, headers=headers, content=body)


def is_as_a_gateway_says_it(answer: httpx.Response, slug: str) -> None:
    problem = answer.json()
    assert problem.keys() == {"type", "title", "status", "detail", "correlation_id"}
    assert problem["type"] == f"/problems/{slug}"
    assert (problem["title"], problem["status"]) == (KINDS[slug].title, KINDS[slug].status)
    assert answer.status_code == KINDS[slug].status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["link"] == f'</problems/{slug}>; rel="help"'
    assert answer.headers["x-correlation-id"] == problem["correlation_id"]
    assert not any(word in answer.text for word in ("nginx", "127.0.0.1", "html"))


@pytest.mark.parametrize("name", REFUSED)
async def test_what_nginx_refuses_itself_is_a_problem_of_the_same_form(proxy: Proxy, name: str):
    beginning, slug = REFUSED[name]

    is_as_a_gateway_says_it(await told(proxy.port, beginning), slug)


async def test_clear_text_where_tls_is_spoken_is_told_so(proxy: Proxy):
    answer = await told(proxy.tls_port, b"GET / HTTP/1.1\r\n")

    is_as_a_gateway_says_it(answer, "malformed-request")
    assert "HTTPS" in answer.json()["detail"]
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    is_as_a_gateway_says_it(await told(proxy.tls_port, REFUSED["no gateway"][0], trusting), "unavailable")


async def test_a_refusal_of_nginx_has_every_header_of_a_gateways_and_so_has_one_of_what_was_not_read(
    proxy: Proxy, door: Door
):
    """But the caller's correlation id only if a gateway would take it; and `Server`, which nginx cannot leave out."""
    async with serving(door.app) as address:
        port = httpx.URL(address).port or 0
        theirs = await told(port, b"GET /nothing HTTP/1.1\r\n")
        unread = await told(port, REFUSED["an unreadable line"][0])
    ours = await told(proxy.port, REFUSED["operators' figures"][0])

    passing = {"date", "content-length", "connection", "server"}
    assert {**theirs.headers, **dict.fromkeys(passing)} == {**ours.headers, **dict.fromkeys(passing)}
    assert unread.headers.keys() == theirs.headers.keys()
    assert ours.headers["x-correlation-id"] == "mine-7"
    assert ours.headers["server"] == "nginx"
    forged = REST.replace(b"mine-7", b'x","type":"y')
    assert '"' not in (await told(proxy.port, REFUSED["no gateway"][0], rest=forged)).json()["correlation_id"]


async def test_bodies_that_never_end_take_no_connection_from_another_address(tmp_path: Path):
    files_for(MOST_OF_AN_ADDRESS + 20)
    async with nginx(tmp_path, [NOWHERE], free_ports(1)[0], connections=MOST_OF_AN_ADDRESS + 1_000) as address:
        bad = await come(address, [Bad(SLOW_BODY, MORE_BODY) for _ in range(MOST_OF_AN_ADDRESS + 20)])
        try:
            await eventually(lambda: sum(one.told == 503 for one in bad) == 20, 20.0, "those beyond are sent away")
            port = httpx.URL(address).port or 0
            is_as_a_gateway_says_it(await told(port, REFUSED["no gateway"][0]), "too-many-connections")
            other = await told(port, REFUSED["no gateway"][0], comes_from="127.0.0.2")
            is_as_a_gateway_says_it(other, "unavailable")
        finally:
            for one in bad:
                one.close()


@pytest.mark.parametrize(
    ("crowded", "same", "another"),
    [
        ("2001:db8:0:7::1", "2001:db8:0:7:ffff:1:2:3", "2001:db8:0:8::1"),
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.7", "::ffff:192.0.2.8"),
        # Bytes that a pattern could take for the end of a line.
        ("2001:db8:a0a:a0a::a", "2001:db8:a0a:a0a:a0a:a0a:a0a:a0a", "2001:db8:a0a:a0b::a"),
    ],
)
async def test_of_an_ipv6_address_its_network_is_counted(tmp_path: Path, crowded: str, same: str, another: str):
    """Whose address it is says the PROXY protocol here, before the request."""
    port, other = free_ports(2)
    more = f"listen 127.0.0.1:{other} proxy_protocol;\nset_real_ip_from 127.0.0.1;\nreal_ip_header proxy_protocol;\n"

    def comes(address: str) -> bytes:
        family, here = ("TCP6", "::1") if ":" in address else ("TCP4", "127.0.0.1")
        return f"PROXY {family} {address} {here} 5000 80\r\n".encode()

    async def answer(address: str) -> str:
        told_it = await told(other, comes(address) + REFUSED["no gateway"][0])
        return str(told_it.json()["type"]).removeprefix("/problems/")

    async with nginx(tmp_path, [NOWHERE], port, more=more, most_of_an_address=3):
        bad = await come(f"http://127.0.0.1:{other}", [Bad(comes(crowded) + SLOW_BODY, MORE_BODY) for _ in range(3)])
        try:
            await eventually(lambda: _is(answer(same), "too-many-connections"), 20.0, "its network has all its places")
            assert await answer(another) == "unavailable"
        finally:
            for one in bad:
                one.close()


async def _is(asked: Awaitable[str], what: str) -> bool:
    return await asked == what


async def test_nginx_says_when_to_come_again_and_which_methods_there_are(proxy: Proxy):
    methods = {method.upper() for path in routed().openapi()["paths"].values() for method in path}

    assert (await told(proxy.port, REFUSED["no gateway"][0])).headers["retry-after"] == "1"
    assert set((await told(proxy.port, REFUSED["TRACE"][0])).headers["allow"].split(", ")) == methods | {"HEAD"}
    assert not {"allow", "retry-after"} & (await told(proxy.port, REFUSED["two hosts"][0])).headers.keys()
