"""The table of settings in docs/operations.md is that of the code: each that may be left out, as it is declared."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import msgspec

from streams.kit.settings import PREFIX, WorkerSettings

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
ROW = re.compile(r"^\| `(PAVANE_\w+)` \| (\S+) \| ([^|]+) \|", re.MULTILINE)


def declared() -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning of each setting of a worker that has a default."""
    hints = get_type_hints(WorkerSettings, include_extras=True)
    for field in msgspec.structs.fields(WorkerSettings):
        if field.default is not msgspec.NODEFAULT:
            [meta] = hints[field.name].__metadata__
            default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
            yield f"{PREFIX}{field.name.upper()}", default or "none", meta.description


def test_every_setting_of_a_worker_that_has_a_default_is_told_with_it() -> None:
    assert ROW.findall(PAGE.read_text()) == list(declared())
