"""Who is calling: JSON Web Tokens (RFC 7519, access tokens as in RFC 9068), signed with asymmetric keys.

The gateway knows only public keys (`keys`). A local stack makes its own key at start with `make_key` and signs with
`issue`; elsewhere the identity provider does both.

The header of a token says which key and which algorithm, and the key has the last word about that (RFC 8725, 3.1).
Whatever else a header may say to be believed, such as a key of its own or where to fetch one, is refused unread.
"""

import base64
import json
import re
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import ECKey, KeySet, KeySetSerialization, OKPKey, RSAKey

from api.errors import Forbidden, Unauthenticated
from api.keys import PublicKey, PublishedKeys, keys_of_file
from streams.kit.errors import WrongSetting

ISSUER = "pavane"
AUDIENCE = "pavane-gateway"
TYPE = "at+jwt"
LEEWAY_SECONDS = 5

SHOPPER = ("orders:write", "orders:read", "stock:read", "prices:read")
OPERATOR = (
    *SHOPPER,
    *("stock:write", "prices:write", "overdue:read", "dead-letters:read", "dead-letters:redrive", "health:read"),
)

_MOST_TOKEN_BYTES = 4_096
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_KID = re.compile(r"[!-~]{1,256}")
_REFUSED_HEADERS = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc"})
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:|-]{0,127}")


class Caller(NamedTuple):
    """Who is calling: `subject` is the customer (or operator) within `tenant`."""

    tenant: str
    subject: str
    scopes: frozenset[str]


def make_key() -> OKPKey:
    """A new Ed25519 signing key, named by its thumbprint (RFC 7638)."""
    return OKPKey.generate_key("Ed25519", {"use": "sig", "alg": "Ed25519"}, private=True, auto_kid=True)


def public_jwks(*keys: OKPKey | ECKey | RSAKey) -> KeySetSerialization:
    """What verifiers may know of `keys`."""
    return KeySet(list(keys)).as_dict(private=False)


def issue(key: OKPKey | ECKey | RSAKey, tenant: str, subject: str, scopes: Iterable[str], lifetime_seconds: int) -> str:
    """A token for `subject` of `tenant` that is good for `lifetime_seconds`."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "tenant": tenant,
        "scope": " ".join(scopes),
        "iat": now,
        "exp": now + lifetime_seconds,
    }
    algorithm = str(key.get("alg", "ES256"))
    header = {"alg": algorithm, "kid": key.kid, "typ": TYPE}
    return jwt.encode(header, claims, key, algorithms=[algorithm])


class Verifier:
    """Turns tokens into callers, by the keys of a JWKS or by those that a provider publishes.

    What a token says of its key is remembered, and a verified signature for as long as that key is known; times are
    checked at every call.
    """

    def __init__(
        self,
        jwks: KeySetSerialization | None = None,
        *,
        published: PublishedKeys | None = None,
        issuer: str = ISSUER,
        audience: str = AUDIENCE,
    ) -> None:
        """Exactly one of `jwks` and `published` is given. Raises `WrongSetting` when `jwks` is not what it must be."""
        self.published = published
        self._given = {} if published is not None else keys_of_file(jwks)
        self._claims = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            sub={"essential": True},
            tenant={"essential": True},
        )
        self._key_id = lru_cache(maxsize=1_024)(_key_id)
        self._signed = lru_cache(maxsize=1_024)(_verify_signature)

    @classmethod
    def of(cls, source: str, issuer: str = ISSUER, audience: str = AUDIENCE) -> "Verifier":
        """By the keys in a JWKS file, or published at an http(s) address. Raises `WrongSetting`."""
        if source.startswith(("http://", "https://")):
            return cls(published=PublishedKeys(source), issuer=issuer, audience=audience)
        try:
            return cls(json.loads(Path(source).read_text(encoding="utf-8")), issuer=issuer, audience=audience)
        except (OSError, ValueError) as error:
            raise WrongSetting(f"PAVANE_JWKS ({source}): cannot be read: {error}") from error

    async def caller(self, token: str) -> Caller:
        """Whom the token proves. Raises `Unauthenticated`, and `KeysAway` when nobody can be recognised for now."""
        kid = self._key_id(token)
        key = self._given.get(kid) if self.published is None else await self.published.find(kid)
        if key is None:
            raise Unauthenticated("The token's signature cannot be verified.")
        claims, caller = self._signed(token, key)
        try:
            self._claims.validate(claims)
        except ExpiredTokenError:
            raise Unauthenticated("The token has expired.") from None
        except (JoseError, ValueError):
            raise Unauthenticated("The token is not for this service, or not now.") from None
        return caller

    async def close(self) -> None:
        if self.published is not None:
            await self.published.close()


def _key_id(token: str) -> str:
    """Which key the token says that it was signed with. Nothing of this is proven yet."""
    if len(token) > _MOST_TOKEN_BYTES:
        raise Unauthenticated("The token is too long.")
    if not _TOKEN.fullmatch(token):
        raise Unauthenticated("This is not a signed token.")
    header = _strict_json(token.partition(".")[0])
    if not header.keys().isdisjoint(_REFUSED_HEADERS):
        raise Unauthenticated("The token's header says more than is understood here.")
    if header.get("typ") != TYPE:
        raise Unauthenticated(f"The token is not an access token (typ {TYPE}).")
    kid = header.get("kid")
    if not (isinstance(kid, str) and _KID.fullmatch(kid)):
        raise Unauthenticated("The token does not name its key.")
    return kid


def _verify_signature(token: str, key: PublicKey) -> tuple[jwt.Claims, Caller]:
    try:
        jwt.decode(token, key.material, algorithms=list(key.algorithms))
    except (JoseError, ValueError, KeyError, TypeError, RecursionError):
        raise Unauthenticated("The token's signature cannot be verified.") from None
    claims = _strict_json(token.split(".")[1])
    tenant, subject, scope = claims.get("tenant"), claims.get("sub"), claims.get("scope", "")
    if not (isinstance(tenant, str) and _TENANT.fullmatch(tenant)):
        raise Unauthenticated("The token names no tenant.")
    if not (isinstance(subject, str) and _SUBJECT.fullmatch(subject) and isinstance(scope, str)):
        raise Unauthenticated("The token names no subject.")
    return claims, Caller(tenant, subject, frozenset(scope.split()))


def _strict_json(part: str) -> dict[str, Any]:
    """A part of a token: a JSON object in which no name stands twice (RFC 7519, section 4) and numbers are numbers."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands twice")
        return found

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    try:
        text = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode("utf-8")
        found = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise Unauthenticated("A part of the token cannot be read.") from None
    if not isinstance(found, dict):
        raise Unauthenticated("A part of the token cannot be read.")
    return found


def bearer_token(headers: Sequence[str]) -> str:
    """The token of a request with these Authorization headers (RFC 6750, 2.1). Raises `Unauthenticated`."""
    if len(headers) != 1:
        raise Unauthenticated("Send one header 'Authorization: Bearer <token>'.", error="")
    scheme, _, token = headers[0].partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Send a header 'Authorization: Bearer <token>'.", error="")
    return token.strip(" \t")


def require(caller: Caller, scope: str) -> Caller:
    """The caller, if `scope` is among the token's. Raises `Forbidden`."""
    if scope not in caller.scopes:
        raise Forbidden(scope)
    return caller
