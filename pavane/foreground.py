"""The commands that stay in the foreground: the stack alone, some services, or everything."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from infra.errors import InfraError
from infra.stack import Stack
from pavane.instance import GATEWAY, Instance
from pavane.lines import Lines
from pavane.platform import Platform
from pavane.running import environment_of
from streams.kit.errors import WrongSetting
from streams.kit.run import services

STDERR = Path("/dev/stderr")


class Ended(InfraError):
    """A process that was to stay has ended."""


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
        await asyncio.Event().wait()
    finally:
        await stack.stop()
    return 0


async def run_everything(data: Path) -> int:
    """A stack and the whole platform on it, until it is called off or a process ends."""
    lines = Lines()
    lines.heading(f"The stack, on {data}")
    stack = Stack(data)
    await lines.start(stack)
    try:
        lines.heading("The platform")
        async with Platform(stack, on_step=lines.step) as platform:
            lines.say(f"\nOrders are taken at {platform.gateway_url}. Logs are in {data / 'logs'}. Ctrl-C stops it.")
            while True:
                instance = await platform.next_death()
                lines.say(f"\n{instance.how_it_ended()}")
                lines.say(f"Nothing is lost. It goes on where it was with: pavane run {instance.name}")
    finally:
        await stack.stop()


async def run_services(names: Sequence[str], data: Path) -> int:
    """These services, one process each, with their logs on standard error, until one ends or it is called off."""
    known = [*services(), GATEWAY]
    if unknown := [name for name in names if name not in known]:
        raise WrongSetting(f"there is no service {unknown[0]!r}; there are {', '.join(known)}")
    environment = {**environment_of(data), "PAVANE_MANAGEMENT_PORT": os.environ.get("PAVANE_MANAGEMENT_PORT", "0")}
    instances = [Instance(name, number, environment, STDERR) for number, name in enumerate(names, start=1)]
    try:
        while all(instance.is_running for instance in instances):  # noqa: ASYNC110  # a process sets no event
            await asyncio.sleep(0.1)
        ended = next(instance for instance in instances if not instance.is_running)
        raise Ended(f"{ended.name} has ended with exit code {ended.child.poll()}; see above.")
    finally:
        await asyncio.gather(*(instance.stop() for instance in instances))
