"""Personal text that can be forgotten: encrypted under a key of its person, and unreadable once that key is destroyed.

    pv1.<key id>.<base64url of ciphertext and tag>

The cipher is AES-256-GCM-SIV (RFC 8452) under a fixed nonce, for which it is made: equal texts of one person in one
field give equal tokens. So a request that is sent again is the same bytes, a customer's orders are found by the token
of the customer's number, and a decision that passes a token on stays pure. What that tells somebody without the key is
that two texts of one person are equal, and the length of a text in bytes.

A token is bound to its key and to its field: moved to another field it does not open. Everything here is pure.
"""

import base64
import binascii
import re
import secrets
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from streams.kit.errors import PavaneError
from streams.kit.keys import TEXT_CHARACTERS

KEY_BYTES = 32
ID_CHARACTERS = 8
TAG_BYTES = 16
_NONCE = bytes(12)
#: The longest text that any field may hold, each of its characters four bytes of UTF-8, in base64.
_MOST_CHARACTERS = (TEXT_CHARACTERS * 4 + TAG_BYTES) * 4 // 3 + 1
#: Its group 1 is the key's id.
TOKEN = re.compile(rf"pv1\.([A-Za-z0-9_-]{{{ID_CHARACTERS}}})\.([A-Za-z0-9_-]{{22,{_MOST_CHARACTERS}}})")


class Unreadable(PavaneError):
    """A token does not open with its key: it was changed, or stood in another field."""


class DataKey:
    """The key of one person's texts. `is_closing`: the person is being forgotten, so nothing new is to be protected."""

    def __init__(self, name: str, secret: bytes, is_closing: bool = False) -> None:
        self.id = name
        self.secret = secret
        self.is_closing = is_closing

    @classmethod
    def new(cls) -> "DataKey":
        return cls(secrets.token_urlsafe(ID_CHARACTERS * 3 // 4), secrets.token_bytes(KEY_BYTES))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataKey) and (self.id, self.secret) == (other.id, other.secret)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"DataKey({self.id!r})"

    def protect(self, field: str, text: str) -> str:
        """The token that stands for `text` in a field of that name."""
        sealed = self._cipher.encrypt(_NONCE, text.encode(), self._bound_to(field))
        return f"pv1.{self.id}.{base64.urlsafe_b64encode(sealed).rstrip(b'=').decode()}"

    def reveal(self, field: str, token: str) -> str:
        """The text that a token of this key stands for. Raises `Unreadable`."""
        found = TOKEN.fullmatch(token)
        if found is None or found[1] != self.id:
            raise Unreadable(f"what stands in {field} is no token of the key {self.id}")
        try:
            sealed = base64.urlsafe_b64decode(found[2] + "=" * (-len(found[2]) % 4))
            return self._cipher.decrypt(_NONCE, sealed, self._bound_to(field)).decode()
        except (InvalidTag, binascii.Error) as error:
            raise Unreadable(f"the token in {field} does not open with its key {self.id}: it was changed") from error

    @cached_property
    def _cipher(self) -> AESGCMSIV:
        return AESGCMSIV(self.secret)

    def _bound_to(self, field: str) -> bytes:
        return f"pv1/{self.id}/{field}".encode()


def key_id(text: str) -> str | None:
    """Under which key a text is protected; None for plain text."""
    found = TOKEN.fullmatch(text)
    return found[1] if found else None


def is_protected(text: str) -> bool:
    """It has the form of a token; whether it opens, only its key tells."""
    return TOKEN.fullmatch(text) is not None
