"""Who is calling: JSON Web Tokens (RFC 7519, access tokens as in RFC 9068), signed with asymmetric keys.

The gateway knows only public keys, as a JWKS (RFC 7517). A local stack makes its own key at start with `make_key` and
signs with `issue`; elsewhere the identity provider does both.
"""

import json
import re
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import ECKey, KeySet, KeySetSerialization, OKPKey

from api.errors import Forbidden, Unauthenticated
from streams.kit.errors import WrongSetting

ISSUER = "pavane"
AUDIENCE = "pavane-gateway"
ALGORITHMS = ("Ed25519", "ES256")
TYPE = "at+jwt"
LEEWAY_SECONDS = 5

SHOPPER = ("orders:write", "orders:read", "stock:read", "prices:read")
OPERATOR = (*SHOPPER, "stock:write", "prices:write")

_MOST_TOKEN_BYTES = 4_096
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


def public_jwks(*keys: OKPKey | ECKey) -> KeySetSerialization:
    """What verifiers may know of `keys`."""
    return KeySet(list(keys)).as_dict(private=False)


def issue(key: OKPKey | ECKey, tenant: str, subject: str, scopes: Iterable[str], lifetime_seconds: int) -> str:
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
    """Turns tokens into callers by a fixed set of public keys.

    A verified signature is remembered with its token (it cannot become wrong); times are checked at every call.
    """

    def __init__(self, jwks: KeySetSerialization) -> None:
        """Raises `WrongSetting` unless every key is a public key for one of `ALGORITHMS`."""
        if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list) or not jwks["keys"]:
            raise WrongSetting('PAVANE_JWKS: not a JWKS; it must be a JSON object {"keys": [...]} with a key in it')
        for key in jwks["keys"]:
            if not isinstance(key, dict) or key.get("kty") not in ("OKP", "EC") or "d" in key:
                raise WrongSetting("PAVANE_JWKS: only public keys (kty OKP or EC, without 'd') may be in it")
        try:
            self._keys = KeySet.import_key_set(jwks)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise WrongSetting(f"PAVANE_JWKS: a key in it cannot be read: {error}") from error
        self._claims = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": ISSUER},
            aud={"essential": True, "value": AUDIENCE},
            exp={"essential": True},
            sub={"essential": True},
            tenant={"essential": True},
        )
        self._signed = lru_cache(maxsize=1_024)(self._verify_signature)

    @classmethod
    def from_file(cls, path: str) -> "Verifier":
        """By the keys in a JWKS file. Raises `WrongSetting`."""
        try:
            return cls(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise WrongSetting(f"PAVANE_JWKS ({path}): cannot be read: {error}") from error

    def caller(self, token: str) -> Caller:
        """Whom the token proves. Raises `Unauthenticated`."""
        if len(token) > _MOST_TOKEN_BYTES:
            raise Unauthenticated("The token is too long.")
        claims, caller = self._signed(token)
        try:
            self._claims.validate(claims)
        except ExpiredTokenError:
            raise Unauthenticated("The token has expired.") from None
        except (JoseError, ValueError):
            raise Unauthenticated("The token is not for this service, or not now.") from None
        return caller

    def _verify_signature(self, token: str) -> tuple[jwt.Claims, Caller]:
        try:
            verified = jwt.decode(token, self._keys, algorithms=list(ALGORITHMS))
        except (JoseError, ValueError, KeyError, TypeError):
            raise Unauthenticated("The token's signature cannot be verified.") from None
        claims = verified.claims
        tenant, subject, scope = claims.get("tenant"), claims.get("sub"), claims.get("scope", "")
        if verified.header.get("typ") != TYPE:
            raise Unauthenticated(f"The token is not an access token (typ {TYPE}).")
        if not (isinstance(tenant, str) and _TENANT.fullmatch(tenant)):
            raise Unauthenticated("The token names no tenant.")
        if not (isinstance(subject, str) and _SUBJECT.fullmatch(subject) and isinstance(scope, str)):
            raise Unauthenticated("The token names no subject.")
        return claims, Caller(tenant, subject, frozenset(scope.split()))


def require(caller: Caller, scope: str) -> Caller:
    """The caller, if `scope` is among the token's. Raises `Forbidden`."""
    if scope not in caller.scopes:
        raise Forbidden(scope)
    return caller
