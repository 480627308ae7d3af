"""The picture shows every event and every arrow of the declared dance, and one order's path in colours."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from choreography import picture
from choreography.declared import Dance
from contracts.views import services
from pavane.main import app

DANCE = Dance(services())
REFUSED = [("orders.requests", "PlaceOrder"), ("orders", "OrderPlaced"), ("inventory", "StockRejected")]


def test_every_event_and_every_arrow_is_drawn() -> None:
    drawn = picture.svg(DANCE).decode()

    assert all(f">{name}</text>" in drawn for _, name in DANCE.events)
    assert drawn.count('class="edge"') == sum(len(reaction.says) for reaction in DANCE.reactions)


def test_the_picture_in_the_readme_is_the_dance_that_the_services_declare() -> None:
    root = Path(picture.__file__).parents[1]
    file = "choreography/dance.svg"

    assert f"({file})" in (root / "README.md").read_text()
    assert (root / file).read_bytes() == picture.svg(DANCE), f"run 'pavane choreography picture {file}'"


def test_only_the_path_of_the_order_has_colours() -> None:
    dot = picture.dot(DANCE, REFUSED)
    coloured = [line for line in dot.splitlines() if "label=" in line and picture.PALE not in line and "[label" in line]

    assert len(coloured) == len(REFUSED)
    assert '"orders/OrderPlaced" -> "inventory/StockRejected" [color="#c0392b", penwidth=2.4]' in dot


STARTS = [("dance.svg", b"<?xml"), ("dance.png", b"\x89PNG"), ("dance.dot", b"digraph")]


@pytest.mark.parametrize(("name", "starts"), STARTS)
def test_the_command_draws_what_the_name_of_the_file_asks_for(name: str, starts: bytes, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["choreography", "picture", str(tmp_path / name)])

    assert result.exit_code == 0, result.output
    assert (tmp_path / name).read_bytes().startswith(starts)


def test_the_command_writes_the_document_and_its_page(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["choreography", "asyncapi", str(tmp_path)])

    assert result.exit_code == 0, result.output
    assert {file.name for file in tmp_path.iterdir()} == {"asyncapi.json", "index.html"}


def test_the_command_prints_the_table_and_finds_nothing_wrong() -> None:
    result = CliRunner().invoke(app, ["choreography"])

    assert result.exit_code == 0, result.output
    assert "Nothing is wrong with it by its declarations." in result.output
