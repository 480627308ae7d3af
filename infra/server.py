"""What every part of the stack is: a process on a port of 127.0.0.1 that can be started, stopped, killed, frozen.

The parts differ in three answers: how their data folder is made ready, with which words they are started, and what a
real question to them is. Each is one module: `kafka.py`, `postgres.py`, `apicurio.py`, `valkey.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from infra.errors import ExitedEarly, InfraError, NotReady, PortLost
from infra.processes import Child

HOST = "127.0.0.1"
#: Below those that Linux and macOS choose from for whoever asks for any.
PORTS = range(15_000, 32_000)
_chance = random.SystemRandom()
STARTS_WITH_NEW_PORTS = 3
BETWEEN_QUESTIONS_SECONDS = 0.03

#: How the servers say that somebody took the port between our choosing and their binding.
PORT_TAKEN = ("address already in use", "address in use", "bindexception", "could not create any tcp/ip sockets")


class Server(ABC):
    """One server process of the stack.

    The first `start` chooses free ports and, when one is lost to somebody else in between, chooses again. A later
    `start`, after `stop` or `kill`, comes back on the same ports, so that clients find it again.
    """

    name: str
    version: str
    #: How long it may take to answer, on a busy machine.
    ready_within_seconds = 60.0
    #: How long it may take to end when asked to, before it is killed.
    stops_within_seconds = 20.0
    ports_needed = 1

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_file = folder / f"{folder.name}.log"
        self.ports: tuple[int, ...] = ()
        self.child: Child | None = None
        #: How long the last start took.
        self.seconds = 0.0
        self.was_ready = False

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    @abstractmethod
    def address(self) -> str:
        """What a user would type to reach it, without secrets."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the data folder and the files the process reads; called in a thread, before each start."""

    @abstractmethod
    def launch(self) -> Child:
        """Start the process; called after `prepare`, on the loop: quick."""

    @abstractmethod
    def ask(self) -> str | None:
        """A real question. None when it was answered, else why not; called in a thread, may take some seconds."""

    async def start(self) -> None:
        """Start and wait until a real question is answered. `ExitedEarly` or `NotReady` tell why it was not."""
        await start_together([self])

    async def stop(self, timeout_seconds: float | None = None) -> None:
        """Ask it to end and wait; killed when it takes too long. Nothing happens when it does not run."""
        if self.child is not None:
            await self.child.stop(timeout_seconds or self.stops_within_seconds)

    def kill(self) -> None:
        """SIGKILL: as if the machine had lost it."""
        assert self.child is not None
        self.child.kill()

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing."""
        assert self.child is not None
        self.child.pause()

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        assert self.child is not None
        self.child.resume()

    @property
    def is_running(self) -> bool:
        return self.child is not None and self.child.poll() is None

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid

    async def start_on_these_ports(self) -> None:
        """One try to start on `ports`; `PortLost` when somebody else took one meanwhile."""
        assert not self.is_running, f"{self.name} runs already"
        started = time.monotonic()
        await asyncio.to_thread(self.prepare)
        # Not in a thread: a start called off in the middle would leave a child that nobody knows.
        self.child = self.launch()
        await self._wait_until_ready(self.child)
        self.was_ready = True
        self.seconds = time.monotonic() - started

    async def _wait_until_ready(self, child: Child) -> None:
        deadline = time.monotonic() + self.ready_within_seconds
        why: str | None = "it does not listen yet"
        while time.monotonic() < deadline:
            if (code := child.poll()) is not None:
                tail = child.log_tail()
                taken = any(words in line.lower() for line in tail for words in PORT_TAKEN)
                raise (PortLost if taken else ExitedEarly)(self.name, code, self.log_file, tail)
            if child.listens(self.port):
                why = await asyncio.to_thread(self.ask)
                if why is None:
                    return
            await asyncio.sleep(BETWEEN_QUESTIONS_SECONDS)
        tail = child.log_tail()
        child.kill()
        raise NotReady(self.name, self.ready_within_seconds, str(why), self.log_file, tail)


async def start_together(servers: Sequence[Server]) -> None:
    """Start servers that must know each other's ports; when one loses a port, all stop and start on new ones.

    Servers that were ready before keep their ports, whatever happens: clients know them.
    """
    for attempts_left in reversed(range(STARTS_WITH_NEW_PORTS)):
        for server in servers:
            if not server.was_ready:
                server.ports = free_ports(server.ports_needed)
        try:
            async with asyncio.TaskGroup() as group:
                for server in servers:
                    group.create_task(server.start_on_these_ports())
            return
        except BaseExceptionGroup as group_of_errors:
            await asyncio.gather(*(server.stop() for server in servers))
            error = first_error(group_of_errors)
            if not isinstance(error, PortLost) or servers[0].was_ready or not attempts_left:
                raise error from None


def first_error(error: BaseException) -> BaseException:
    """Of what failed side by side, the first that has a message for the user."""
    while isinstance(error, BaseExceptionGroup):
        error = next((each for each in error.exceptions if isinstance(each, InfraError)), error.exceptions[0])
    return error


def write_news(file: Path, text: str) -> None:
    """The file has this text; it is only written where it has not, as there may be no room to write it again."""
    if not file.exists() or file.read_text() != text:
        file.write_text(text)


def free_ports(count: int) -> tuple[int, ...]:
    """Ports of 127.0.0.1 that nobody uses now, all different.

    They are of those that the system gives to nobody who asks for any: an outgoing connection, of which there are many
    here, could have one before it is listened on, or while what listens is started again.
    """
    found: set[int] = set()
    while len(found) < count:
        port = _chance.choice(PORTS)
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            found.add(port)
    return tuple(found)


def lean_environment(**more: str) -> dict[str, str]:
    """What a server needs of our environment, and nothing of its settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "TZ") if name in os.environ}
    return {"LC_ALL": "C.UTF-8", **kept, **more}
