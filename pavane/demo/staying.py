"""After the count: everything stays up for the user to try, until Ctrl-C."""

import asyncio
import os
import sys
from pathlib import Path

from pavane.demo.plan import TENANT, Order
from pavane.lines import Lines
from pavane.platform import Platform
from pavane.servers import keep_all

DEFAULT_DATA = Path(".data")
TRIED = "billing"
TOKEN, OPERATOR_TOKEN = "token", "operator-token"


async def stay(platform: Platform, lines: Lines, order: Order | None) -> None:
    """Tell what there is to try, and keep everything running. Never returns: it is called off."""
    tell(platform, lines, order)
    async with asyncio.TaskGroup() as group:
        group.create_task(keep_all(platform.stack, lines.say))
        group.create_task(platform.supervise(lines.say))


def tell(platform: Platform, lines: Lines, order: Order | None) -> None:
    """Addresses, tokens, and three commands."""
    addresses, data = platform.stack.addresses, shown(platform.stack.data.path)
    lines.heading("Everything stays up until Ctrl-C")
    lines.done("gateway", platform.gateway_url)
    lines.done("Kafka", addresses.kafka_bootstrap)
    lines.done("registry", addresses.registry_url)
    lines.done("all, with passwords", str(data / "stack.json"))
    lines.done("logs", str(data / "logs"))
    customer = order.customer if order else "00001"
    token = platform.issuer.token(TENANT, customer)
    for name, kept in ((TOKEN, token), (OPERATOR_TOKEN, platform.issuer.operator_token(TENANT))):
        file = platform.stack.data.path / name
        file.touch(mode=0o600)
        file.write_text(kept)
    also = f"also in {data / TOKEN}; an operator's is in {OPERATOR_TOKEN}"
    lines.say(f"\n  A bearer token of customer {customer} ({also}):")
    lines.say(f"  {token}")
    lines.heading("Worth trying in another terminal")
    if order is not None:
        bearer = f'"Authorization: Bearer $(cat {data / TOKEN})"'
        lines.say(f"  curl -s -H {bearer} {platform.gateway_url}/v1/orders/{order.id} | python3 -m json.tool")
    lines.say(f"  {pavane(platform)} audit")
    lines.say(f"  kill -9 {platform.children[TRIED][-1].pid}    # {TRIED}; and see here how it is started again")


def pavane(platform: Platform) -> str:
    """How the user calls this program for this data folder."""
    data = shown(platform.stack.data.path)
    folder = "" if data == DEFAULT_DATA else f"DATA={data} "
    return f"{folder}{shown(Path(sys.argv[0]))}"


def shown(path: Path) -> Path:
    """As short as it can be written from here."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  # links stay as the user wrote them
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
