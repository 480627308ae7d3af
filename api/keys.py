"""The public keys that tokens are signed with: read from a JWKS (RFC 7517), and fetched from where it is published.

    fetched ──refresh──▶ fetched again in the background, callers go on with the keys that are known
       │ the provider is away
       ▼
    kept, for a bounded time ──keep──▶ none: nobody can be recognised, and nobody is (503)

A token whose key is not known makes the gateway look for it at once, though never more often than the floor allows: a
provider that rotates its keys is followed without waiting, and a flood of invented key ids does not reach it.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from api.errors import KeysAway
from api.telemetry import KEY_FETCHES
from streams.kit.calling_off import called_off
from streams.kit.errors import WrongSetting
from streams.kit.logs import logger

ALGORITHMS = {"OKP": ("Ed25519", "EdDSA"), "EC": ("ES256",), "RSA": ("RS256", "PS256")}
"""What a key of each type may sign with; its own `alg` narrows that down. Nothing symmetric, and no `none`."""

REFRESH_SECONDS = 300.0
FLOOR_SECONDS = 5.0
KEEP_SECONDS = 3_600.0
FETCH_SECONDS = 2.0
MOST_JWKS_BYTES = 256 * 1024
MOST_KEYS = 64

_TYPES: dict[str, type[OKPKey] | type[ECKey] | type[RSAKey]] = {"OKP": OKPKey, "EC": ECKey, "RSA": RSAKey}
_CURVES = {"OKP": "Ed25519", "EC": "P-256"}
_FEWEST_RSA_BITS = 2_048


@dataclass(frozen=True, eq=False)
class PublicKey:
    """A key, and what tokens may be signed with by it. Two are the same only if they were read at once."""

    kid: str
    material: OKPKey | ECKey | RSAKey
    algorithms: tuple[str, ...]


class UnusableKey(ValueError):
    """It is no public key that tokens may be signed with."""


def read_key(found: Any) -> PublicKey:
    """One key of a JWKS. Raises `UnusableKey`."""
    kind = found.get("kty") if isinstance(found, dict) else None
    if not isinstance(kind, str) or kind not in ALGORITHMS or "d" in found:
        raise UnusableKey("only public keys (kty OKP, EC or RSA, without 'd') may be in it")
    uses = found.get("key_ops", ["verify"])
    if found.get("use", "sig") != "sig" or not isinstance(uses, list) or "verify" not in uses:
        raise UnusableKey("the key is not for signatures (use sig)")
    if found.get("alg", ALGORITHMS[kind][0]) not in ALGORITHMS[kind]:
        raise UnusableKey(f"a key of type {kind} may sign with {' or '.join(ALGORITHMS[kind])}")
    if kind in _CURVES and found.get("crv") != _CURVES[kind]:
        raise UnusableKey(f"a key of type {kind} must be on the curve {_CURVES[kind]}")
    try:
        key = _TYPES[kind].import_key(found)
        key.ensure_kid()
    except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableKey(f"a key in it cannot be read: {error}") from error
    if isinstance(key, RSAKey) and key.raw_value.key_size < _FEWEST_RSA_BITS:
        raise UnusableKey(f"an RSA key must have {_FEWEST_RSA_BITS} bits")
    # EdDSA (RFC 8037) is the older name of Ed25519 (RFC 9864): on this curve they are the same signature.
    declared = found.get("alg")
    return PublicKey(str(key.kid), key, ALGORITHMS[kind] if declared is None or kind == "OKP" else (str(declared),))


def keys_of_file(jwks: Any) -> dict[str, PublicKey]:
    """All keys of a JWKS that an operator gave, by id. Raises `WrongSetting` if one of them is not what it must be."""
    if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list) or not jwks["keys"]:
        raise WrongSetting('PAVANE_JWKS: not a JWKS; it must be a JSON object {"keys": [...]} with a key in it')
    try:
        return {key.kid: key for key in map(read_key, jwks["keys"])}
    except UnusableKey as error:
        raise WrongSetting(f"PAVANE_JWKS: {error}") from error


def keys_published(jwks: Any) -> dict[str, PublicKey]:
    """Those keys of a provider's JWKS that tokens may be signed with, by id; others are passed over (RFC 7517, 5).

    None at all where it publishes none: all are withdrawn. Raises `UnusableKey` when there are some and none can be
    used, or more than a provider has.
    """
    found = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(found, list) or len(found) > MOST_KEYS:
        raise UnusableKey(f"it is not a JWKS of at most {MOST_KEYS} keys")
    keys: dict[str, PublicKey] = {}
    for each in found:
        try:
            key = read_key(each)
        except UnusableKey as error:
            logger().debug("key_passed_over", why=str(error))
            continue
        if keys.setdefault(key.kid, key) is not key:
            raise UnusableKey("two keys in it have the same kid")
    if found and not keys:
        raise UnusableKey("no key in it can be used")
    return keys


class PublishedKeys:
    """The keys at `url`, as they were published last.

    `refresh_seconds`: how old they may be before they are fetched again. `floor_seconds`: the least time between two
    fetches. `keep_seconds`: how old they may be at all.
    """

    def __init__(
        self,
        url: str,
        *,
        refresh_seconds: float = REFRESH_SECONDS,
        floor_seconds: float = FLOOR_SECONDS,
        keep_seconds: float = KEEP_SECONDS,
    ) -> None:
        self._url = url
        self._refresh_seconds = refresh_seconds
        self._floor_seconds = floor_seconds
        self._keep_seconds = keep_seconds
        # Not by the environment's proxies, and never to where an answer sends us: only the operator says who is asked.
        self._http = httpx.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False, trust_env=False)
        self._keys: Mapping[str, PublicKey] = {}
        self._fetched = self._tried = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._why = "not fetched yet"

    async def find(self, kid: str) -> PublicKey | None:
        """The key of that id; None if the provider has no such key. Raises `KeysAway` when that cannot be known."""
        if kid not in self._keys or not self._younger_than(self._keep_seconds):
            await self._fetch_unless_lately()
        elif not self._younger_than(2 * self._refresh_seconds) and not self._why:
            # Nobody has asked for long, and not because the provider is away: the key may have been withdrawn since.
            await self._fetch_unless_lately()
        elif not self._younger_than(self._refresh_seconds) and self._may_fetch():
            self._fetch()
        if not self._younger_than(self._keep_seconds):
            raise KeysAway
        return self._keys.get(kid)

    async def known(self) -> None:
        """Raises, with why, when nobody can be recognised."""
        await self._refresh()
        if not self._younger_than(self._keep_seconds):
            raise ConnectionError(self._why)
        if not self._keys:
            raise ConnectionError(f"{self._url} publishes no key")

    async def reachable(self) -> None:
        """Raises, with why, when the keys could not be fetched when they were due."""
        await self._refresh()
        if self._why:
            raise ConnectionError(self._why)

    async def close(self) -> None:
        await called_off(self._fetching)
        await self._http.aclose()

    def _younger_than(self, seconds: float) -> bool:
        return time.monotonic() - self._fetched < seconds

    async def _refresh(self) -> None:
        if not self._younger_than(self._refresh_seconds):
            await self._fetch_unless_lately()

    def _may_fetch(self) -> bool:
        return self._fetching is not None or time.monotonic() - self._tried >= self._floor_seconds

    async def _fetch_unless_lately(self) -> None:
        if self._may_fetch():
            # Shielded: many may wait for one fetch, and any of them may go away.
            await asyncio.shield(self._fetch())

    def _fetch(self) -> asyncio.Task[None]:
        """The fetch that is under way, or a new one. It does not raise."""
        if self._fetching is None:
            self._tried = time.monotonic()
            self._fetching = asyncio.create_task(self._try_to_fetch(), name="keys")
            self._fetching.add_done_callback(self._fetched_or_not)
        return self._fetching

    def _fetched_or_not(self, _task: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _try_to_fetch(self) -> None:
        asked = time.monotonic()
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                keys = keys_published(json.loads(await self._download()))
        except (httpx.HTTPError, OSError, TimeoutError, ValueError, RecursionError) as error:
            self._why = f"{self._url}: {type(error).__name__}: {error}".rstrip(": ")
            age = None if self._fetched == float("-inf") else round(asked - self._fetched)
            logger().warning("keys_away", why=self._why, age_seconds=age, kept_seconds=self._keep_seconds)
            KEY_FETCHES.labels("failed").inc()
            return
        if keys.keys() != self._keys.keys():
            logger().info("keys_fetched", kids=sorted(keys))
        self._keys, self._fetched, self._why = keys, asked, ""
        KEY_FETCHES.labels("fetched").inc()

    async def _download(self) -> bytes:
        document = bytearray()
        async with self._http.stream("GET", self._url, headers={"Accept": "application/json"}) as answer:
            if answer.status_code != 200:
                raise UnusableKey(f"status {answer.status_code}")
            async for piece in answer.aiter_bytes():
                document += piece
                if len(document) > MOST_JWKS_BYTES:
                    raise UnusableKey(f"it is longer than {MOST_JWKS_BYTES} bytes")
        return bytes(document)
