"""Tokens as an attacker would send them, each by name. `FORGED` must all be refused; `genuine()` must not."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import ECKey, OKPKey, RSAKey

from api.tokens import AUDIENCE, ISSUER, SHOPPER, TYPE, make_key, public_jwks
from tests.api.conftest import KEY

STRANGER = make_key()
_USUAL = object()


def genuine(**claims: Any) -> str:
    return token(claims)


def claims_now() -> dict[str, Any]:
    now = int(time.time())
    who = {"sub": "c7", "tenant": "shop", "scope": " ".join(SHOPPER)}
    return {"iss": ISSUER, "aud": AUDIENCE, **who, "iat": now, "exp": now + 60}


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(header: Any, claims: Any, key: Any = KEY) -> str:
    """Truly signed, whatever it says."""
    signed = f"{part(header)}.{part(claims)}"
    private: Ed25519PrivateKey = key.private_key
    return f"{signed}.{part(private.sign(signed.encode()))}"


def token(claims: dict[str, Any], header: dict[str, Any] | None = None, key: Any = KEY) -> str:
    """Truly signed, with some claims and some of the header changed; what is `...` is left out."""
    told = {name: value for name, value in {**claims_now(), **claims}.items() if value is not ...}
    head = {"alg": "Ed25519", "kid": KEY.kid, "typ": TYPE, **(header or {})}
    return sign({name: value for name, value in head.items() if value is not ...}, told, key)


def header(**changes: Any) -> Callable[[], str]:
    return lambda: token({}, changes)


def claim(**changes: Any) -> Callable[[], str]:
    return lambda: token(changes)


def later(**seconds: int) -> Callable[[], str]:
    """With times so many seconds from now."""
    return lambda: token({name: int(time.time()) + value for name, value in seconds.items()})


def hmac_with(secret: bytes, algorithm: str = "HS256") -> str:
    signed = f"{part({'alg': algorithm, 'kid': KEY.kid, 'typ': TYPE})}.{part(claims_now())}"
    digest = {"HS256": hashlib.sha256, "HS512": hashlib.sha512}[algorithm]
    return f"{signed}.{part(hmac.new(secret, signed.encode(), digest).digest())}"


def unsigned(algorithm: str, signature: str = "") -> str:
    return f"{part({'alg': algorithm, 'kid': KEY.kid, 'typ': TYPE})}.{part(claims_now())}.{signature}"


def altered() -> str:
    """A good signature under other claims."""
    head, _, signature = genuine().split(".")
    return f"{head}.{part({**claims_now(), 'tenant': 'other'})}.{signature}"


def twice(text: str) -> Callable[[], str]:
    """A name that stands twice in the claims: readers differ about which one counts."""
    plain = json.dumps(claims_now())
    return lambda: sign({"alg": "Ed25519", "kid": KEY.kid, "typ": TYPE}, f"{plain[:-1]}, {text}}}".encode())


def embedded(name: str) -> Callable[[], str]:
    """Signed by a key of the attacker's, which the header offers."""
    offered = public_jwks(STRANGER)["keys"][0]
    value = {
        "jwk": offered,
        "jku": "https://attacker.example/jwks.json",
        "x5u": "https://attacker.example/cert.pem",
        "x5c": ["MIIB"],
    }[name]
    return lambda: token({}, {name: value}, STRANGER)


def by_other_type(key: ECKey | OKPKey | RSAKey) -> Callable[[], str]:
    from joserfc import jwt

    def made() -> str:
        algorithm = "ES256" if isinstance(key, ECKey) else "RS256"
        return jwt.encode({"alg": algorithm, "kid": KEY.kid, "typ": TYPE}, claims_now(), key, algorithms=[algorithm])

    return made


PUBLIC_TEXT = json.dumps(public_jwks(KEY)["keys"][0]).encode()
DEEP = b'{"a":' + b"[" * 2_500

FORGED: dict[str, Callable[[], str]] = {
    "no token": lambda: "",
    "not a token": lambda: "secret",
    "two dots": lambda: "..",
    "four parts": lambda: genuine() + ".more",
    "five parts, as if encrypted": lambda: "a.b.c.d.e",
    "alg none": lambda: unsigned("none"),
    "alg none, with a signature": lambda: unsigned("none", "AAAA"),
    "alg NoNe": lambda: unsigned("NoNe", "AAAA"),
    "no signature": lambda: genuine().rpartition(".")[0] + ".",
    "half a signature": lambda: genuine()[:-40],
    "a signature of zeros": lambda: unsigned("Ed25519", part(bytes(64))),
    "HS256 with the public key": lambda: hmac_with(PUBLIC_TEXT),
    "HS512 with the public key": lambda: hmac_with(PUBLIC_TEXT, "HS512"),
    "HS256 with an empty secret": lambda: hmac_with(b""),
    "signed by a stranger": lambda: token({}, key=STRANGER),
    "signed by a stranger, who names himself": lambda: token({}, {"kid": STRANGER.kid}, STRANGER),
    "ES256 under the name of our key": by_other_type(ECKey.generate_key("P-256")),
    "RS256 under the name of our key": by_other_type(RSAKey.generate_key(2048)),
    "other claims under a good signature": altered,
    "a key in the header": embedded("jwk"),
    "an address of keys in the header": embedded("jku"),
    "an address of a certificate in the header": embedded("x5u"),
    "a certificate in the header": embedded("x5c"),
    "extensions that must be understood": header(crit=["exp"]),
    "the payload is not encoded (b64)": header(b64=False, crit=["b64"]),
    "compressed": header(zip="DEF"),
    "encrypted, it says": header(enc="A256GCM"),
    "kid leads out of a folder": header(kid="../../../../dev/null"),
    "kid is SQL": header(kid="' UNION SELECT 'secret' --"),
    "kid is a command": header(kid="x|/usr/bin/id"),
    "kid has a line break": header(kid=f"{KEY.kid}\n"),
    "kid is a list": header(kid=[KEY.kid]),
    "kid is an object": header(kid={"$ne": None}),
    "no kid": header(kid=...),
    "kid is empty": header(kid=""),
    "alg is a list": header(alg=["Ed25519"]),
    "no alg": header(alg=...),
    "typ JWT, an identity token": header(typ="JWT"),
    "typ of a logout token": header(typ="logout+jwt"),
    "no typ": header(typ=...),
    "typ is a list": header(typ=[TYPE]),
    "the header is a list": lambda: sign([1, 2], claims_now()),
    "the header is no JSON": lambda: sign(b"{", claims_now()),
    "the header has a name twice": lambda: sign(
        f'{{"alg":"Ed25519","alg":"none","kid":"{KEY.kid}","typ":"{TYPE}"}}'.encode(), claims_now()
    ),
    "the header is nested without end": lambda: sign(DEEP, claims_now()),
    "the header is not UTF-8": lambda: sign(b'{"alg":"\xff"}', claims_now()),
    "the claims are a list": lambda: sign({"alg": "Ed25519", "kid": KEY.kid, "typ": TYPE}, [1]),
    "the claims are nested without end": lambda: sign({"alg": "Ed25519", "kid": KEY.kid, "typ": TYPE}, DEEP),
    "the tenant twice": twice('"tenant": "other"'),
    "the subject twice": twice('"sub": "admin"'),
    "the expiry twice": twice(f'"exp": {int(time.time()) + 9_999}'),
    "a number that is none": twice('"more": NaN'),
    "another issuer": claim(iss="https://attacker.example"),
    "an issuer that begins like ours": claim(iss=f"{ISSUER}.attacker.example"),
    "issuers": claim(iss=[ISSUER, "https://attacker.example"]),
    "no issuer": claim(iss=...),
    "another audience": claim(aud="another-service"),
    "other audiences": claim(aud=["another-service", "a-third"]),
    "an audience in another case": claim(aud=AUDIENCE.upper()),
    "no audience": claim(aud=...),
    "an audience that is an object": claim(aud={AUDIENCE: True}),
    "expired": later(exp=-60),
    "no expiry": claim(exp=...),
    "an expiry in words": claim(exp="never"),
    "an expiry of true": claim(exp=True),
    "an endless expiry": twice('"nbf": 1e999'),
    "good only in an hour": later(nbf=3_600, exp=7_200),
    "issued in an hour": later(iat=3_600, exp=7_200),
    "an empty subject": claim(sub=""),
    "no subject": claim(sub=...),
    "a subject that is a number": claim(sub=7),
    "a subject with a line break": claim(sub="c7\nadmin"),
    "a subject with a NUL": claim(sub="c7\x00"),
    "a subject without end": claim(sub="c" * 1_000),
    "an empty tenant": claim(tenant=""),
    "no tenant": claim(tenant=...),
    "a tenant with a path": claim(tenant="shop/../other"),
    "a tenant for everybody": claim(tenant="*"),
    "tenants": claim(tenant=["shop", "other"]),
    "a tenant in look-alike letters": claim(tenant="\u0455hop"),
    "scopes as a list": claim(scope=["orders:write"]),
    "far too long": claim(more="x" * 8_000),
    "blanks inside": lambda: genuine().replace(".", ". ", 1),
    "padding": lambda: genuine() + "==",
    "the other base64 alphabet": lambda: unsigned("Ed25519", "+/" * 43),
}
