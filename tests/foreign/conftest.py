"""A platform of its own, and the programs of the page as anybody would run them."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import msgspec
import pytest

from infra.stack import Stack
from pavane.platform import Platform
from streams.kit.shop import CUSTOMER, Order, Shop
from tests.foreign import java
from tests.foreign.page import programs


class Client(NamedTuple):
    """One program of the page: how it is started, and with which servers."""

    command: list[str]
    environment: dict[str, str]

    async def place(self, shop: Shop, sku: str) -> Order:
        said = await java.output([*self.command, "place", shop.tenant, sku], self.environment)
        return Order(said.strip(), CUSTOMER)

    async def read(self, order: Order) -> list[Any]:
        said = await java.output([*self.command, "read", order.id], self.environment)
        return [msgspec.json.decode(line) for line in said.splitlines()]


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with Stack(tmp_path_factory.mktemp("foreign")) as stack, Platform(stack) as platform:
        yield platform


@pytest.fixture(scope="module")
async def shop(platform: Platform) -> AsyncIterator[Shop]:
    """A shop that has lamps."""
    async with httpx.AsyncClient(base_url=platform.gateway_url, timeout=20.0) as http:
        shop = Shop(http, platform.issuer, f"shop-{uuid4().hex[:10]}", patience_seconds=60.0)
        await shop.price("lamp", 1999)
        await shop.receive("lamp", 2)
        yield shop


@pytest.fixture(scope="module")
async def clients(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Client]:
    """The programs of the page, by the names of their files, each started as it stands there."""
    folder: Path = tmp_path_factory.mktemp("programs")
    addresses = platform.stack.addresses
    environment = {"PAVANE_KAFKA": addresses.kafka_bootstrap, "PAVANE_REGISTRY": addresses.registry_url}
    found = {}
    for name, text in programs().items():
        file = folder / name
        await asyncio.to_thread(file.write_text, text)
        if file.suffix == ".java":
            command = java.words(file.stem, classes=await java.compiled(file))
        else:
            command = [sys.executable, str(file)]
        found[name] = Client(command, environment)
    return found
