"""A small HTTP/1.1 client: one connection, one question at a time.

The demonstration shares its processors with the platform that it drives, so its client must cost next to nothing.
It knows what our own servers answer: a length, or the end of the connection.
"""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

LONGEST_HEAD = 64 * 1024


class Answer(NamedTuple):
    """What a server answered. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Unreachable(Exception):
    """The server did not answer: nobody knows whether it did what it was asked."""


class Connection:
    """A connection to `url` (http://host:port), opened at the first question and again after it was lost."""

    def __init__(self, url: str, timeout_seconds: float = 30.0) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._timeout_seconds = timeout_seconds
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """The answer to one question. Raises `Unreachable`."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._exchange("\r\n".join((*lines, "", "")).encode() + body)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self.close()
            raise Unreachable(f"{self._host}:{self._port}: {error or type(error).__name__}") from None
        except BaseException:
            # Called off in the middle: the next answer on this connection would be that to another question.
            self.close()
            raise

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self, question: bytes) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=LONGEST_HEAD)
        reader, writer = self._streams
        writer.write(question)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status, *_ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        length = headers.get("content-length")
        body = await reader.read() if length is None else await reader.readexactly(int(length))
        if length is None or version == "HTTP/1.0" or headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(status), headers, body)
