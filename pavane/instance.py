"""One process of the platform: an instance of a service, or the gateway."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.errors import ExitedEarly, InfraError
from infra.processes import Child
from pavane.http import Connection, Unreachable
from streams.kit.run import find, services

GATEWAY = "gateway"
DESK = "desk"
#: What Python runs for those that are no services.
MODULES = {GATEWAY: "api", DESK: "pavane.desk"}
#: On one machine those who are waited for at the door come first: what a service does not do now waits in the log, and
#: its batches grow; a view is what nobody's next step waits for.
SERVICE_NICENESS, VIEW_NICENESS = 10, 19
STOP_SECONDS = 10.0
ANSWER_SECONDS = 5.0


def niceness_of(service: str) -> int:
    """How far a service gives way on a machine that it shares with all others."""
    return VIEW_NICENESS if find(service).is_projection else SERVICE_NICENESS


class LaneHalted(InfraError):
    """A service stopped hearing a lane, and waits for somebody to decide."""

    def __init__(self, instance: "Instance", halted: Mapping[str, str]) -> None:
        reasons = "; ".join(f"lane {lane}: {reason}" for lane, reason in halted.items())
        super().__init__(f"{instance.label} is not ready. {reasons}")


class Instance:
    """A process that was started; it may have ended since. It never outlives this process (`infra.processes`).

    It writes to its own log file, and there it says where it answers: free ports are chosen by itself. `module`: what
    Python runs, with its words, where it is not the service's own.
    """

    def __init__(
        self,
        name: str,
        number: int,
        environment: Mapping[str, str],
        log_file: Path,
        module: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.number = number
        self.label = f"{name}-{number}"
        self._log_start = log_file.stat().st_size if log_file.exists() else 0
        module = module or ([MODULES[name]] if name in MODULES else ["streams.kit.run", name])
        self.child = Child(self.label, [sys.executable, "-m", *module], environment, log_file)
        if name in services():
            self.child.give_way(niceness_of(name))
        #: Where it answers, once it said so: the gateway itself, or a service's management port.
        self.url = ""
        #: Whether somebody asked it to end, so that its end is no news.
        self.asked_to_end = False

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def log_file(self) -> Path:
        return self.child.log_file

    @property
    def is_running(self) -> bool:
        return self.child.poll() is None

    def kill(self) -> None:
        """SIGKILL: it loses everything that it had not written down."""
        self.asked_to_end = True
        self.child.kill()

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections and does nothing."""
        self.child.pause()

    def thaw(self) -> None:
        """SIGCONT after `freeze`."""
        self.child.resume()

    async def stop(self, timeout_seconds: float = STOP_SECONDS) -> int:
        """SIGTERM, and SIGKILL when it takes longer. Its exit code."""
        self.asked_to_end = True
        return await self.child.stop(timeout_seconds)

    async def health(self) -> Mapping[str, Any] | None:
        """What it answers to /health/ready; None while it does not answer.

        Raises `ExitedEarly` when it has ended, and `LaneHalted` when it will not become ready by itself.
        """
        code = self.child.poll()
        if code is not None:
            raise ExitedEarly(self.label, code, self.log_file, self.child.log_tail())
        self.url = self.url or self._said_url()
        if not self.url:
            return None
        connection = Connection(self.url, ANSWER_SECONDS)
        try:
            answer = await connection.ask("GET", "/health/ready")
        except Unreachable:
            return None
        finally:
            connection.close()
        found: Mapping[str, Any] = json.loads(answer.body)
        if found.get("halted"):
            raise LaneHalted(self, found["halted"])
        return {**found, "ready": answer.status == 200}

    def how_it_ended(self) -> str:
        """One sentence, and the last lines of its log; only after its end."""
        code = self.child.poll()
        assert code is not None, f"{self.label} still runs"
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        tail = "\n".join(f"    {line}" for line in self.child.log_tail(5)) or "    (nothing)"
        return f"{self.label} {how}. The last lines of {self.log_file}:\n{tail}"

    def _said_url(self) -> str:
        for line in self._json_lines():
            if line.get("event") == "listening":
                return str(line["address"])
            # A version before this one tells where it answers only once it has joined its group.
            if line.get("event") in ("starting", "started"):
                return str(line["management"])
        return ""

    def _json_lines(self) -> Iterator[Mapping[str, Any]]:
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            for line in log:
                if line.startswith(b"{") and line.endswith(b"}\n"):
                    yield json.loads(line)
