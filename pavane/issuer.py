"""Tokens for a local platform: signed with a key made at its start, which is nowhere written down."""

import json
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from joserfc.jwk import OKPKey

from api.tokens import OPERATOR, SHOPPER, issue, make_key, public_jwks

LIFETIME_SECONDS = 24 * 3600


class Issuer:
    """Plays the identity provider: signs, and publishes its public keys at `jwks_url`, on this machine only.

    They are in `jwks_file` too, for a gateway that is started by itself. `rotate` signs with a new key from then on and
    leaves the old one published; `retire` takes all old ones away, and with them the tokens that they have signed.
    """

    def __init__(self, jwks_file: Path) -> None:
        self._keys = [make_key()]
        self._file = jwks_file
        jwks_file.parent.mkdir(parents=True, exist_ok=True)
        self._publish()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="issuer", daemon=True).start()

    @property
    def jwks_url(self) -> str:
        """Where the public keys are published."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/jwks.json"

    def token(
        self,
        tenant: str,
        subject: str,
        scopes: Iterable[str] = SHOPPER,
        lifetime_seconds: int = LIFETIME_SECONDS,
    ) -> str:
        """A token for a customer of a shop."""
        return issue(self._keys[-1], tenant, subject, scopes, lifetime_seconds)

    def operator_token(self, tenant: str, subject: str = "operator") -> str:
        """A token that may also receive stock and set prices."""
        return self.token(tenant, subject, OPERATOR)

    def rotate(self) -> None:
        """Sign with a new key. The old one stays published, for the tokens that are on their way."""
        self._keys.append(make_key())
        self._publish()

    def retire(self) -> None:
        """Publish nothing but the newest key."""
        del self._keys[:-1]
        self._publish()

    def close(self) -> None:
        """Publish no more. What was signed stays good for those who know the keys."""
        threading.Thread(target=self._server.shutdown, daemon=True).start()
        self._server.server_close()

    def _publish(self) -> None:
        self._file.write_text(_document(self._keys) + "\n")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        keys = self._keys

        class Published(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = _document(keys).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/jwk-set+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Nobody reads here who asked for keys."""

        return Published


def _document(keys: list[OKPKey]) -> str:
    return json.dumps(public_jwks(*keys))
