"""`pavane choreography`: the dance for people, and what is wrong with it."""

import sys
from pathlib import Path

import psycopg

from choreography import asyncapi, picture
from choreography.checks import check
from choreography.declared import Dance, Name, table
from contracts.views import services
from pavane import running
from pavane.version import version
from streams.kit.errors import WrongSetting
from streams.kit.language import Language


def show() -> int:
    """Print the table and the findings; 1 if there are any."""
    dance = Dance(services())
    sys.stdout.write(table(dance))
    findings = check(dance, Language.load())
    told = "\n".join(map(str, findings)) or "Nothing is wrong with it by its declarations."
    sys.stdout.write(f"\n{told}\n")
    return 1 if findings else 0


def write_asyncapi(folder: Path) -> int:
    """Write the AsyncAPI document and its page."""
    dance, language, ours = Dance(services()), Language.load(), version()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "asyncapi.json").write_text(asyncapi.text(dance, language, ours), encoding="utf-8")
    (folder / "index.html").write_text(asyncapi.page(dance, language, ours), encoding="utf-8")
    sys.stdout.write(f"{folder / 'asyncapi.json'}\n{folder / 'index.html'}\n")
    return 0


def draw(file: Path, order: str | None, data: Path) -> int:
    """Draw the picture in the format that the file's name asks for."""
    dance = Dance(services())
    path = [] if order is None else path_of(running.databases(data)["timeline"], order)
    match file.suffix:
        case ".dot":
            file.write_text(picture.dot(dance, path), encoding="utf-8")
        case ".svg":
            file.write_bytes(picture.svg(dance, path))
        case ".png":
            file.write_bytes(picture.png(dance, path))
        case other:
            raise WrongSetting(f"{file}: a picture is a .svg, a .png or a .dot file, not {other or 'without an end'}")
    sys.stdout.write(f"{file}\n")
    return 0


def path_of(timeline: str, order: str) -> list[Name]:
    """The events of one order, as the timeline's database tells them: also the requests that caused them."""
    with psycopg.connect(timeline) as connection:
        told = connection.execute(
            "SELECT speaker, fact, cause FROM entries WHERE order_id = %s ORDER BY ordinal", [order]
        ).fetchall()
    if not told:
        raise WrongSetting(f"the timeline knows no order {order}: see GET /v1/orders for those that it knows")
    asked = {name for _, name, _ in told} & {"OrderPlaced", "OrderRejected"}
    return [*([("orders.requests", "PlaceOrder")] if asked else []), *((speaker, fact) for speaker, fact, _ in told)]
