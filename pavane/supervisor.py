"""Keeping processes running: one that has died, hangs or gets nowhere is told of, and started again.

    supervisor = Supervisor(say=print)
    await supervisor.keep(instance, again=lambda ended: Instance(...))

Nothing is done silently: every end, every reason for one, and every new start is one line or more.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from typing import NamedTuple

from infra.errors import ExitedEarly, InfraError
from pavane.http import Connection, Unreachable
from pavane.instance import Instance, LaneHalted

BETWEEN_DEATH_WATCHES_SECONDS = 0.2
BETWEEN_LOOKS_SECONDS = 2.0
ANSWER_SECONDS = 5.0
MOST_DOUBLINGS = 20

Say = Callable[[str], None]
Again = Callable[[Instance], Instance]


class NeverRan(InfraError):
    """A process ended before it had ever answered: what it says about it needs somebody, and no new start."""


class Bounds(NamedTuple):
    """What is borne, and for how long.

    `patience_seconds`: how long a process may not answer, or not be live, or be idle beyond `idle_seconds`, before it
    is killed. One that was idle from its start on may be so twice as long the next time, up to `longest_idle_seconds`:
    it may wait for what no new start brings. A process that has lived for `steady_seconds` has its earlier deaths
    forgiven; `most_deaths` within that time, and it is started only every `longest_pause_seconds`.
    """

    patience_seconds: float = 15.0
    idle_seconds: float = 60.0
    longest_idle_seconds: float = 3_600.0
    first_pause_seconds: float = 1.0
    longest_pause_seconds: float = 30.0
    steady_seconds: float = 60.0
    most_deaths: int = 5


class Pauses:
    """How long to wait before one process is started again: each time twice as long, while it does not live long."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._deaths: list[float] = []
        #: It has died so often that it is only tried now and then.
        self.is_slow = False

    def after_death(self, at: float, lived_seconds: float) -> float:
        """The pause after this death, in seconds. `at`: of a clock that only goes forward."""
        bounds = self._bounds
        if lived_seconds >= bounds.steady_seconds:
            self._deaths.clear()
            self.is_slow = False
        self._deaths.append(at)
        recent = self._deaths[-bounds.most_deaths :]
        if len(recent) == bounds.most_deaths and at - recent[0] <= bounds.steady_seconds:
            self.is_slow = True
        if self.is_slow:
            return bounds.longest_pause_seconds
        doublings = min(len(self._deaths) - 1, MOST_DOUBLINGS)
        return min(bounds.first_pause_seconds * 2.0**doublings, bounds.longest_pause_seconds)


class Look(NamedTuple):
    """What a process answered: whether anything at all, and what is wrong with it."""

    answered: bool
    trouble: str | None = None
    is_idle: bool = False


class Supervisor:
    """Keeps processes running, each by a `keep` of its own. `how_it_ended` describes one that has ended."""

    def __init__(
        self,
        say: Say,
        bounds: Bounds = Bounds(),
        how_it_ended: Callable[[Instance], str] = Instance.how_it_ended,
    ) -> None:
        self._say = say
        self._bounds = bounds
        self._how_it_ended = how_it_ended

    async def keep(self, instance: Instance, again: Again, came_up: bool = False) -> None:
        """Start it again, by `again`, whenever it ends; returns when somebody has asked it to end.

        A process that has not answered yet is starting, however long that takes: it waits for what it needs, and its
        log says so. `came_up`: this one has answered before. Raises `NeverRan` if it ends without ever having.
        """
        pauses = Pauses(self._bounds)
        answers, idle_seconds = came_up, self._bounds.idle_seconds
        while True:
            begun = time.monotonic()
            runs = "runs again" if came_up else "runs"
            answered, was_idle = await self._watch(instance, answers, runs, idle_seconds)
            came_up, answers = came_up or answered, False
            idle_seconds = self._idle_next(idle_seconds, was_idle, time.monotonic() - begun)
            if instance.asked_to_end:
                return
            how = self._how_it_ended(instance)
            if not came_up:
                raise NeverRan(how)
            started: Instance | None = None
            while started is None:
                was_slow = pauses.is_slow
                now = time.monotonic()
                pause = pauses.after_death(now, now - begun)
                self._say(f"\n{how}")
                if pauses.is_slow and not was_slow:
                    self._say(self._what_to_do(instance))
                self._say(f"Nothing is lost. {instance.label} is started again in {pause:g} s.")
                await asyncio.sleep(pause)
                if instance.asked_to_end:
                    return
                begun = time.monotonic()
                try:
                    started = again(instance)
                except OSError as error:  # no room for its log, no process or open file left
                    how = f"{instance.label} could not be started: {error}."
            instance = started

    async def _watch(
        self, instance: Instance, answered: bool, runs: str, idle_seconds: float
    ) -> tuple[bool, bool]:
        """Return when it has ended, by itself or because it had to be killed. Whether it has answered, and whether it
        was killed for being idle.

        `answered`: it has already; otherwise it is told, with the words `runs`, when it does.
        """
        troubled_since: float | None = None
        look_at, was_idle = 0.0, False
        while instance.is_running:
            if time.monotonic() >= look_at:
                look = await look_at_it(instance, idle_seconds)
                look_at = time.monotonic() + BETWEEN_LOOKS_SECONDS
                if look.answered and not answered:
                    self._say(f"{instance.label} {runs}, with pid {instance.pid}, at {instance.url}.")
                answered = answered or look.answered
                # Counted from the first bad look, so that a time in which nobody looked is held against nobody.
                troubled_since = (troubled_since or time.monotonic()) if look.trouble and answered else None
                if troubled_since and time.monotonic() - troubled_since >= self._bounds.patience_seconds:
                    self._say(f"\n{instance.label}, pid {instance.pid}, {look.trouble}. It is killed.")
                    was_idle = look.is_idle
                    instance.child.kill()
            await asyncio.sleep(BETWEEN_DEATH_WATCHES_SECONDS)
        return answered, was_idle

    def _idle_next(self, idle_seconds: float, was_idle: bool, lived_seconds: float) -> float:
        """How long the next one may be idle: twice as long, if this one got nowhere from its start on."""
        bounds = self._bounds
        if not was_idle or lived_seconds > idle_seconds + bounds.patience_seconds + bounds.steady_seconds:
            return bounds.idle_seconds
        return min(idle_seconds * 2, bounds.longest_idle_seconds)

    def _what_to_do(self, instance: Instance) -> str:
        bounds = self._bounds
        return (
            f"{instance.label} has died {bounds.most_deaths} times within {bounds.steady_seconds:g} s: it needs you. "
            f"Its last lines above say why it ends. It is tried every {bounds.longest_pause_seconds:g} s from now on; "
            "what it has to hear waits in the log meanwhile."
        )


async def look_at_it(instance: Instance, idle_seconds: float) -> Look:
    """Ask a process how it is."""
    answered = False
    if not instance.url:
        # Its end is seen anyway; and a lane that is halted waits for somebody to decide, not for a new start.
        with contextlib.suppress(ExitedEarly, LaneHalted):
            answered = await instance.health() is not None
    if not instance.url:
        return Look(answered=False)
    connection = Connection(instance.url, ANSWER_SECONDS)
    is_live = False
    try:
        live = await connection.ask("GET", "/health/live")
        if live.status != 200:
            return Look(True, f"hangs; its event loop has not turned: {live.body.decode(errors='replace')}")
        is_live = True
        ready = await connection.ask("GET", "/health/ready")
    except Unreachable as error:
        # One that is live may wait for others before it says whether it is ready: a new start would not help.
        return Look(True) if is_live else Look(answered, f"does not answer: {error}")
    finally:
        connection.close()
    try:
        idle = json.loads(ready.body).get("idle_with_lag_seconds", 0.0)
    except ValueError:
        return Look(True, f"cannot say whether it is ready: {ready.body[:200].decode(errors='replace')}")
    if idle > idle_seconds:
        return Look(True, f"has made no progress for {idle:.0f} s although there is something to hear", is_idle=True)
    return Look(True)
