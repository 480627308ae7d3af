"""Who is believed to be who."""

import json
import time
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from api.errors import Forbidden, Unauthenticated
from api.tokens import AUDIENCE, ISSUER, SHOPPER, TYPE, Verifier, issue, make_key, public_jwks, require
from streams.kit.errors import WrongSetting

KEY = make_key()
VERIFIER = Verifier(public_jwks(KEY))


def signed(key: Any = KEY, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token with some claims changed, or left out where they are None."""
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "c7", "tenant": "shop", "scope": "orders:read", "exp": now + 60}
    told = {name: value for name, value in {**usual, **claims}.items() if value is not None}
    usual_header = {"alg": key.get("alg"), "kid": key.kid, "typ": TYPE}
    return jwt.encode({**usual_header, **(header or {})}, told, key, algorithms=[usual_header["alg"]])


async def test_a_token_names_tenant_customer_and_scopes():
    caller = await VERIFIER.caller(issue(KEY, "shop", "c7", SHOPPER, lifetime_seconds=60))

    assert (caller.tenant, caller.subject, caller.scopes) == ("shop", "c7", frozenset(SHOPPER))


async def test_es256_keys_are_good_as_well():
    key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)

    caller = await Verifier(public_jwks(key)).caller(issue(key, "shop", "c7", (), 60))

    assert caller.subject == "c7"


async def test_a_token_ends_with_its_lifetime_even_if_it_was_good_before(monkeypatch: pytest.MonkeyPatch):
    token = issue(KEY, "shop", "c7", SHOPPER, lifetime_seconds=60)
    await VERIFIER.caller(token)
    an_hour_later = time.time() + 3600
    monkeypatch.setattr("joserfc._rfc7519.claims.time.time", lambda: an_hour_later)

    with pytest.raises(Unauthenticated, match="expired"):
        await VERIFIER.caller(token)


async def test_a_token_that_comes_again_is_neither_read_nor_verified_again():
    verifier, token = Verifier(public_jwks(KEY)), signed()
    callers = [await verifier.caller(token) for _ in range(3)]

    assert len(set(callers)) == 1
    for remembered in (verifier._key_id, verifier._signed):
        assert (remembered.cache_info().misses, remembered.cache_info().hits) == (1, 2)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "somebody"},
        {"aud": "another-service"},
        {"iss": None},
        {"aud": None},
        {"exp": None},
        {"sub": None},
        {"tenant": None},
        {"tenant": "a/b"},
        {"tenant": ["shop"]},
        {"sub": "c7\n"},
        {"scope": 7},
        {"nbf": int(time.time()) + 3600},
        {"exp": float("nan")},
    ],
)
async def test_a_token_for_something_else_proves_nothing(claims: dict[str, Any]):
    with pytest.raises(Unauthenticated):
        await VERIFIER.caller(signed(**claims))


async def test_a_token_signed_by_another_key_proves_nothing():
    stranger = make_key()

    with pytest.raises(Unauthenticated, match="signature"):
        await VERIFIER.caller(signed(stranger))
    with pytest.raises(Unauthenticated, match="signature"):
        await VERIFIER.caller(signed(stranger, header={"kid": KEY.kid}))


async def test_a_public_key_is_no_shared_secret():
    """The classic confusion: signing HS256 with the text of the public key."""
    public = json.dumps(public_jwks(KEY)["keys"][0])
    forged = OctKey.import_key(public, {"alg": "HS256", "kid": KEY.kid})

    with pytest.raises(Unauthenticated):
        await VERIFIER.caller(signed(forged))


async def test_a_token_without_signature_proves_nothing():
    header, claims, _ = signed().split(".")

    for forged in (f"{header}.{claims}.", "eyJhbGciOiJub25lIn0." + claims + ".", "not a token", "", "a.b.c", "é.é.é"):
        with pytest.raises(Unauthenticated):
            await VERIFIER.caller(forged)


async def test_an_identity_token_is_no_access_token():
    with pytest.raises(Unauthenticated, match="access token"):
        await VERIFIER.caller(signed(header={"typ": "JWT"}))


async def test_an_endless_token_is_not_even_read():
    with pytest.raises(Unauthenticated, match="too long"):
        await VERIFIER.caller("a" * 5_000)


async def test_a_missing_scope_is_named():
    with pytest.raises(Forbidden, match="stock:write"):
        require(await VERIFIER.caller(signed()), "stock:write")


@pytest.mark.parametrize(
    "jwks",
    [
        {},
        [],
        {"keys": []},
        {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]},
        {"keys": [KEY.as_dict(private=True)]},
        {"keys": [{"kty": "OKP", "crv": "Ed25519"}]},
    ],
)
def test_only_public_keys_may_be_in_the_jwks(jwks: Any):
    with pytest.raises(WrongSetting, match="PAVANE_JWKS"):
        Verifier(jwks)


def test_the_published_keys_hold_no_secret():
    assert all("d" not in key for key in public_jwks(KEY)["keys"])


def test_a_jwks_that_cannot_be_read_names_its_setting(tmp_path: Any):
    (tmp_path / "jwks.json").write_text("{")

    for path in (tmp_path / "jwks.json", tmp_path / "none.json"):
        with pytest.raises(WrongSetting, match=r"PAVANE_JWKS \(.*json\)"):
            Verifier.of(str(path))
