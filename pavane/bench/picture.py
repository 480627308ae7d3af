"""The picture of a run, as PNG and SVG. Needs matplotlib (the extra `bench`), which `make bench` installs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PANEL_INCHES = 4.5
BLUE, GREY, ORANGE = "#2b6cb0", "#a0aec0", "#dd6b20"


def draw(document: Mapping[str, Any], folder: Path) -> str:
    """Draw what was measured; one sentence for the user on where it is, or why it is not there."""
    try:
        import matplotlib
    except ImportError:
        return "No picture was drawn: matplotlib is missing; 'make bench' installs it from bench.lock."
    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = document["scenarios"]
    panels = [(panel, found[name]) for name, panel in _PANELS if name in found]
    if not panels:
        return "There is nothing to draw."
    figure, axes = pyplot.subplots(1, len(panels), figsize=(PANEL_INCHES * len(panels), PANEL_INCHES), squeeze=False)
    for place, (panel, result) in zip(axes[0], panels, strict=True):
        panel(place, result)
    machine = document["machine"]
    figure.suptitle(f"Pavane on {machine['cores']} cores of {machine['cpu']}, {document['at']}", fontsize=9)
    figure.tight_layout()
    for ending in ("png", "svg"):
        figure.savefig(folder / f"bench.{ending}", dpi=120)
    pyplot.close(figure)
    return f"The picture is {folder / 'bench.png'} (and .svg)."


def _drain(axes: Any, found: Mapping[str, Any]) -> None:
    bars = {
        "raw twin": (max(each["sagas_per_second"] for each in found["raw_twin"]), GREY),
        "all confirmed": (found["all_confirmed"]["sagas_per_second"], BLUE),
        "one in ten fails": (found["one_in_ten_fails"]["sagas_per_second"], ORANGE),
    }
    drawn = axes.bar(list(bars), [height for height, _ in bars.values()], color=[colour for _, colour in bars.values()])
    axes.bar_label(drawn, fmt="{:,.0f}")
    axes.set_title("Whole sagas a second")


def _latency(axes: Any, found: Mapping[str, Any]) -> None:
    rates = [each["orders_a_second"] for each in found["rates"]]
    for name, colour in (("p50", BLUE), ("p99", ORANGE), ("p99.9", GREY)):
        values = [1000 * each["intended_to_confirmed_seconds"][name] for each in found["rates"]]
        axes.plot(rates, values, marker="o", color=colour, label=name)
    axes.set(title="From intended to confirmed", xlabel="orders a second", ylabel="milliseconds", ylim=(0, None))
    axes.legend()


def _cpu(axes: Any, found: Mapping[str, Any]) -> None:
    drained = found["all_confirmed"]
    used = {name: 1000 * each / drained["orders"] for name, each in drained["cpu_seconds"].items() if each >= 0.1}
    ordered = sorted(used.items(), key=lambda item: item[1])
    axes.barh([name for name, _ in ordered], [each for _, each in ordered], color=BLUE)
    axes.set(title="CPU a saga, all confirmed", xlabel="milliseconds")


def _growth(axes: Any, found: Mapping[str, Any]) -> None:
    columns = {name: each["sagas_per_second"] for name, each in found.items() if isinstance(each, Mapping)}
    axes.bar_label(axes.bar(list(columns), list(columns.values()), color=BLUE), fmt="{:,.0f}")
    axes.set_title("Whole sagas a second, growing")
    axes.tick_params(axis="x", labelsize=7)


_PANELS: tuple[tuple[str, Callable[[Any, Mapping[str, Any]], None]], ...] = (
    ("drain", _drain),
    ("drain", _cpu),
    ("latency", _latency),
    ("growth", _growth),
)
