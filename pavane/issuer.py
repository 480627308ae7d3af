"""Tokens for a local platform: signed with a key made at its start, which is nowhere written down."""

import json
from collections.abc import Iterable
from pathlib import Path

from api.tokens import OPERATOR, SHOPPER, issue, make_key, public_jwks

LIFETIME_SECONDS = 24 * 3600


class Issuer:
    """Plays the identity provider. The public key is in `jwks_file`, where the gateway reads it."""

    def __init__(self, jwks_file: Path) -> None:
        self._key = make_key()
        jwks_file.parent.mkdir(parents=True, exist_ok=True)
        jwks_file.write_text(json.dumps(public_jwks(self._key)) + "\n")

    def token(
        self,
        tenant: str,
        subject: str,
        scopes: Iterable[str] = SHOPPER,
        lifetime_seconds: int = LIFETIME_SECONDS,
    ) -> str:
        """A token for a customer of a shop."""
        return issue(self._key, tenant, subject, scopes, lifetime_seconds)

    def operator_token(self, tenant: str, subject: str = "operator") -> str:
        """A token that may also receive stock and set prices."""
        return self.token(tenant, subject, OPERATOR)
