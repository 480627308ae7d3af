"""The AsyncAPI document says what services declare, and the official parser takes it."""

import html.parser
import json
import shutil
import subprocess
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

import pytest

from choreography import asyncapi
from choreography.declared import Dance
from contracts.views import services
from pavane import dance
from pavane.version import version
from streams.kit.language import Language

HERE = Path(__file__).parent / "asyncapi"
DANCE, LANGUAGE = Dance(services()), Language.load()
DOCUMENT = asyncapi.document(DANCE, LANGUAGE, "1")
NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT")


def test_every_topic_and_event_of_the_language_is_there() -> None:
    channels = {channel["address"]: set(channel["messages"]) for channel in DOCUMENT["channels"].values()}

    assert channels == {topic: set(LANGUAGE.names(topic)) for topic in LANGUAGE.topics}


def test_it_is_written_where_nothing_is_installed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container."""

    def found(name: str) -> Distribution:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(Distribution, "from_name", found)

    assert dance.write_asyncapi(tmp_path) == 0
    assert json.loads((tmp_path / "asyncapi.json").read_text())["info"]["version"] == version()


def test_every_reference_leads_somewhere() -> None:
    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [each for value in node.values() for each in references(value)]
        return [each for value in node for each in references(value)] if isinstance(node, list) else []

    found = references(DOCUMENT)
    for reference in found:
        node = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
    assert found


def test_a_service_says_what_it_declares_and_nobody_else_says_it() -> None:
    says = {name: each for name, each in DOCUMENT["operations"].items() if each["action"] == "send"}

    assert set(says) == {"orders_says", "inventory_says", "billing_says", "shipping_says"}
    assert len(says["orders_says"]["messages"]) == 6


def test_the_page_names_every_event_and_needs_nothing_else() -> None:
    page = asyncapi.page(DANCE, LANGUAGE, "1")
    links: list[str] = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            links.extend(value or "" for name, value in attrs if name in ("href", "src"))

    Reader().feed(page)
    assert all(f'id="{schema.topic}/{schema.name}"' in page for schema in LANGUAGE)
    assert all(link.startswith("#") for link in links)


@pytest.mark.slow
def test_the_official_parser_takes_the_document(tmp_path: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not here: the official validator of AsyncAPI is a program for node")
    for file in HERE.iterdir():
        shutil.copy(file, tmp_path)
    installed = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    if installed.returncode and any(each in installed.stderr for each in NO_NETWORK):
        pytest.skip("the packages of the official validator cannot be fetched from here")
    assert installed.returncode == 0, installed.stderr
    validated = subprocess.run(
        [node, "validate.mjs"], cwd=tmp_path, input=json.dumps(DOCUMENT), capture_output=True, text=True, timeout=100
    )

    assert validated.returncode == 0, validated.stdout + validated.stderr
    events = sum(len(LANGUAGE.names(topic)) for topic in LANGUAGE.topics)
    assert f"messages: {events}," in validated.stdout
