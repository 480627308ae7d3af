"""A service that stands still while the others go on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from pavane.instance import Instance
from pavane.platform import Platform
from tests.waiting import eventually


@asynccontextmanager
async def silent(platform: Platform, service: str) -> AsyncIterator[None]:
    """Within the block, no process of the service does anything; it hears what it missed afterwards."""
    instances = [instance for instance in platform.children[service] if instance.is_running]
    try:
        for instance in instances:
            await fall_silent(instance)
        yield
    finally:
        for instance in instances:
            instance.thaw()


async def fall_silent(instance: Instance) -> None:
    """Freeze the process; it stands still when this returns, which is some moments after the signal was sent."""
    instance.freeze()
    process = psutil.Process(instance.pid)
    await eventually(lambda: process.status() == psutil.STATUS_STOPPED, what=f"{instance.label} stands still")
