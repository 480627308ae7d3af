"""A command that somebody is told to run can be run: it parses as it stands, once placeholders are filled in."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from pavane.main import app

ROOT = Path(__file__).parents[2]
PACKAGES = ("choreography", "contracts", "infra", "pavane", "streams")
PAGES = (
    *("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"),
    *("docs/operations.md", "docs/privacy.md", "docs/speed.md"),
)
#: A command in a message.
QUOTED = re.compile(r"'pavane ((?:[^']|'\.\.\.')+)'")
PROMPT = re.compile(r"^(?:\$ |\.venv/bin/)?pavane ([^#\n]+)", re.MULTILINE)
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\|.*$", re.MULTILINE)
CELL = re.compile(r"`(pavane|…) ([^`]+)`")
#: `[--json]`: what may be left out; `{at}`: what a message fills in.
OPTIONAL, FILLED_IN = re.compile(r"\[[^\]]*\]"), "1"


class Printed(NamedTuple):
    """A command, and where it stands. `may_only_name`: without anything behind it, it says which one is meant."""

    where: str
    command: str
    may_only_name: bool = True


def in_code() -> Iterator[Printed]:
    """The commands that messages name."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.JoinedStr | ast.Constant):
                    for command in QUOTED.findall(_text(node)):
                        yield Printed(str(file.relative_to(ROOT)), command)


def _text(node: ast.JoinedStr | ast.Constant) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else FILLED_IN for part in node.values)
    return node.value if isinstance(node.value, str) else ""


def in_pages() -> Iterator[Printed]:
    """The commands of code blocks and of tables."""
    for page in PAGES:
        text = (ROOT / page).read_text()
        for block in BLOCK.findall(text):
            for command in PROMPT.findall(block):
                yield Printed(page, command, may_only_name=False)
        first = ""
        for begins, command in CELL.findall("\n".join(ROW.findall(text))):
            # "… --swap": the command before it, with that.
            first = first if begins == "…" else command
            yield Printed(page, f"{first} {command}" if begins == "…" else first)


def problem(command: str, *, may_only_name: bool = True) -> str:
    """Why it could not be run; nothing when it could."""
    *before, last = OPTIONAL.sub("", command).split("\\|")
    if before:  # names of commands, without what each of them takes
        *path, first = before[0].split()
        ways = [[*path, name] for name in (first, *before[1:], last.split()[0])]
        return "; ".join(f"there is no {' '.join(way)}" for way in ways if _found(way)[1])
    chosen, words = _found(shlex.split(last))
    if not words and may_only_name:
        return ""
    if isinstance(chosen, TyperGroup):
        return "" if chosen.invoke_without_command and not words else f"no command: {' '.join(words)}"
    try:
        given = chosen.make_context("pavane", words).params
    except TyperException as error:
        return error.format_message()
    # Asked for only then.
    lacks_a_reason = given.get("swap") and not (given["reason"] or given["dry_run"])
    return "Missing option '--reason' of --swap" if lacks_a_reason else ""


def _found(words: list[str]) -> tuple[TyperCommand | TyperGroup, list[str]]:
    """The command, or the group of some, that the first words name, and the other words."""
    place = typer.main.get_group(app)
    for number, word in enumerate(words):
        chosen = place.commands.get(word)
        if not isinstance(chosen, TyperGroup):
            return (place, words[number:]) if chosen is None else (chosen, words[number + 1 :])
        place = chosen
    return place, []


COMMANDS = sorted({*in_code(), *in_pages()})


@pytest.mark.parametrize("printed", COMMANDS, ids=lambda printed: f"{printed.where}: {printed.command}")
def test_every_command_that_is_told_to_be_run_can_be_run(printed: Printed) -> None:
    assert not problem(printed.command, may_only_name=printed.may_only_name)


def test_commands_are_found_in_code_and_on_every_page() -> None:
    assert {"streams/kit/errors.py", *PAGES} <= {printed.where for printed in COMMANDS}


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("log restore billing", "Missing option '--reason'"),
        ("rebuild billing --swap", "Missing option '--reason'"),
        ("lanes skip orders 1 billing --reason ...", "Missing option '--to'"),
        ("dead-letters redrive --why mended", "No such option"),
        ("lanes settel --reason ...", "no command: settel"),
        ("lanes list\\|skipp", "there is no lanes skipp"),
        ("lanes settle --reason ...", ""),
        ("dead-letters redrive", ""),
    ],
)
def test_what_lacks_something_or_is_not_there_is_found(command: str, why: str) -> None:
    assert why in problem(command)
    assert bool(why) == bool(problem(command))


def test_a_command_at_a_prompt_is_run_as_it_stands_and_elsewhere_may_only_be_named() -> None:
    assert not problem("lanes settle")
    assert problem("lanes settle", may_only_name=False) == "Missing option '--reason'."
