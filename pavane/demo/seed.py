"""The seed of a data folder: once orders were placed in it, their fates are decided."""

import json
from pathlib import Path

from infra.errors import InfraError

DEFAULT = 1997


class OtherSeed(InfraError):
    """The orders in the data folder were chosen by another seed."""

    def __init__(self, data: Path, before: int, wanted: int) -> None:
        super().__init__(
            f"The orders in {data} were chosen by seed {before}; seed {wanted} would ask for other ends of the same "
            "orders. Leave SEED= out, or choose another folder with DATA=."
        )


def seed_of(data: Path, wanted: int | None) -> int:
    """The seed that holds for this folder. Raises `OtherSeed`."""
    note = _note(data)
    if not note.exists():
        return DEFAULT if wanted is None else wanted
    before = int(json.loads(note.read_text())["seed"])
    if wanted not in (None, before):
        raise OtherSeed(data, before, wanted or 0)
    return before


def remember(data: Path, seed: int) -> None:
    """From now on the folder has this seed."""
    _note(data).write_text(json.dumps({"seed": seed}) + "\n")


def _note(data: Path) -> Path:
    return data / "demo.json"
