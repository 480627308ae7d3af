"""The commands that stay in the foreground: the stack alone, some services, or everything.

What they start is supervised: it is started again when it has died, hangs or gets nowhere; a server, when it has ended.
"""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.processes import STDERR
from infra.server import HOST, free_ports
from infra.stack import Stack
from pavane.given import JWKS, given
from pavane.instance import MODULES, Instance
from pavane.lines import Lines
from pavane.platform import Platform
from pavane.running import environment_of
from pavane.servers import keep_all
from pavane.supervisor import Supervisor
from streams.kit.errors import WrongSetting
from streams.kit.run import services

EVERYWHERE = ("0.0.0.0", "::")


async def up(data: Path) -> int:
    """The stack alone. Never returns: it is called off."""
    lines = Lines()
    lines.heading(f"The stack, on {data}")
    stack = Stack(data)
    await lines.start(stack)
    try:
        lines.heading("To use it from another terminal")
        for variable, value in stack.addresses.environment().items():
            lines.say(f"  export {variable}='{value}'")
        lines.say("\nCtrl-C stops it.")
        await keep_all(stack, lines.say)
    finally:
        await stack.stop()
    return 0


async def run_everything(data: Path) -> int:
    """A stack and the whole platform on it, kept running. Never returns: it is called off.

    `PAVANE_JWKS` names an identity provider of one's own, whose tokens the gateway takes then, and no others.
    """
    lines = Lines()
    lines.heading(f"The stack, on {data}")
    stack = Stack(data)
    await lines.start(stack)
    try:
        lines.heading("The platform")
        provider = {name: os.environ[name] for name in (JWKS,) if os.environ.get(name)}
        async with Platform(stack, environment=provider, on_step=lines.step) as platform:
            lines.say(f"\nOrders are taken at {platform.gateway_url}. Logs are in {data / 'logs'}. Ctrl-C stops it.")
            async with asyncio.TaskGroup() as group:
                group.create_task(keep_all(stack, lines.say))
                group.create_task(platform.supervise(lines.say))
    finally:
        await stack.stop()
    return 0


async def run_services(names: Sequence[str], data: Path) -> int:
    """These services, one process each, kept running, with their logs on standard error. Never returns.

    Raises `NeverRan` when one ends before it has ever answered: a wrong setting is not made right by a new start.
    """
    known = [*services(), *MODULES]
    if unknown := [name for name in names if name not in known]:
        raise WrongSetting(f"there is no service {unknown[0]!r}; there are {', '.join(known)}")
    environment = environment_of(data)
    # Chosen here and once: there is no log file to read a port from, and a gateway comes back where it was.
    free = free_ports(len(names))
    running: dict[int, Instance] = {}

    def start(name: str, number: int) -> Instance:
        running[number] = instance = _answering(name, number, environment, free[number - 1])
        return instance

    supervisor = Supervisor(_say_beside_the_logs, how_it_ended=_how_it_ended)
    try:
        async with asyncio.TaskGroup() as group:
            for number, name in enumerate(names, start=1):
                first = start(name, number)
                group.create_task(supervisor.keep(first, lambda ended: start(ended.name, ended.number)))
    finally:
        await asyncio.gather(*(instance.stop() for instance in running.values()))
    return 0


def _answering(name: str, number: int, environment: Mapping[str, str], free_port: int) -> Instance:
    """A process that was started, and where it answers: on the port that the user has set, or else on this free one."""
    what = name.upper() if name in MODULES else "MANAGEMENT"
    chosen = environment.get(f"PAVANE_{what}_PORT", "0")
    port = str(free_port) if chosen in ("", "0") else chosen
    host = environment.get(f"PAVANE_{what}_HOST") or HOST
    instance = Instance(name, number, {**given(name, environment), f"PAVANE_{what}_PORT": port}, STDERR)
    instance.url = f"http://{HOST if host in EVERYWHERE else host}:{port}"
    return instance


def _how_it_ended(instance: Instance) -> str:
    code = instance.child.poll()
    assert code is not None, f"{instance.label} still runs"
    how = f"was ended by signal {-code}" if code < 0 else f"has ended with exit code {code}"
    return f"{instance.name} {how}; see above."


def _say_beside_the_logs(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
