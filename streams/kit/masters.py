"""Master keys: what the keys of persons are wrapped with where they are stored. They come from the environment alone.

    PAVANE_MASTER_KEYS=2027:<secret>,2026:<secret>

The first wraps what is stored from now on; all of them unwrap. To change the master key, put a new one first, restart
what reads keys, run `pavane keys rewrap`, and only then leave the old one out; but keep it elsewhere until no backup of
the database of keys is left that is older than that.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from streams.kit.errors import PavaneError, WrongSetting

VARIABLE = "PAVANE_MASTER_KEYS"
LEAST_SECRET_CHARACTERS = 32
_NONCE_BYTES = 12
_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")


class NoSuchMaster(PavaneError):
    """A stored key cannot be unwrapped with the master keys that are given."""


class Wrapped(NamedTuple):
    """A secret as it is stored, and the master key that it was wrapped with."""

    master: str
    secret: bytes


class Masters:
    """All master keys that a process was given, the one for new secrets first."""

    def __init__(self, secrets_by_name: Mapping[str, str]) -> None:
        self.first = next(iter(secrets_by_name))
        self._ciphers = {name: AESGCM(_derived(secret)) for name, secret in secrets_by_name.items()}

    @classmethod
    def read(cls, setting: str) -> "Masters":
        """As the variable says. Raises `WrongSetting`, which never repeats a secret."""
        given: dict[str, str] = {}
        for number, each in enumerate(setting.split(","), start=1):
            name, _, secret = each.strip().partition(":")
            if not _ID.fullmatch(name) or len(secret) < LEAST_SECRET_CHARACTERS or name in given:
                raise WrongSetting(
                    f"{VARIABLE} (master keys, 'id:secret,id:secret', the one for new keys first): number {number} is "
                    f"not an id of its own, a colon and {LEAST_SECRET_CHARACTERS} characters or more, such as "
                    f"2027:$(openssl rand -base64 32)"
                )
            given[name] = secret
        return cls(given)

    def wrap(self, secret: bytes, about: str) -> Wrapped:
        """`about`: whose secret it is; it does not open for anybody else."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return Wrapped(self.first, nonce + self._ciphers[self.first].encrypt(nonce, secret, about.encode()))

    def unwrap(self, wrapped: Wrapped, about: str) -> bytes:
        """Raises `NoSuchMaster`."""
        cipher = self._ciphers.get(wrapped.master)
        if cipher is None:
            raise NoSuchMaster(
                f"{VARIABLE} has no master key {wrapped.master!r}, with which {about} is wrapped: put it back, after "
                f"the first one"
            )
        nonce, sealed = wrapped.secret[:_NONCE_BYTES], wrapped.secret[_NONCE_BYTES:]
        try:
            return cipher.decrypt(nonce, sealed, about.encode())
        except InvalidTag:
            raise NoSuchMaster(
                f"{about} does not open with the master key {wrapped.master!r} of {VARIABLE}: it has another secret "
                f"now, or what is stored was changed"
            ) from None


def index_of(index_key: bytes, tenant: str, customer: str) -> bytes:
    """By what a person's key is found, without the person being written down (HMAC-SHA-256)."""
    return hmac.digest(index_key, f"{len(tenant)}/{tenant}/{customer}".encode(), hashlib.sha256)


def _derived(secret: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"pavane master key").derive(secret.encode())
