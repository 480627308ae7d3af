"""The tables of metrics in docs/operations.md are those of the code: name, labels, meaning."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

import api.telemetry
import streams.kit.telemetry

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations.md"
ROW = re.compile(r"^\| `(pavane_\w+)` \| ([^|]*?) ?\| ([^|]+) \|$", re.MULTILINE)
DECLARES = re.compile(r"^from prometheus_client import .*\b(Counter|Gauge|Histogram|Summary)\b", re.MULTILINE)
MODULES = [streams.kit.telemetry, api.telemetry]


def declared(module: ModuleType) -> Iterator[tuple[str, str, str]]:
    """Name as it is served, labels and meaning of each metric of a module."""
    for metric in vars(module).values():
        if isinstance(metric, MetricWrapperBase):
            [described] = metric.describe()
            name = f"{described.name}_total" if isinstance(metric, Counter) else described.name
            yield name, ", ".join(f"`{label}`" for label in metric._labelnames), described.documentation


def test_every_metric_is_told_with_its_labels() -> None:
    assert ROW.findall(PAGE.read_text()) == [each for module in MODULES for each in declared(module)]


def test_metrics_are_declared_nowhere_else() -> None:
    files = (file for package in ("api", "pavane", "streams") for file in (ROOT / package).rglob("*.py"))
    declaring = {file for file in files if DECLARES.search(file.read_text())}

    assert declaring == {Path(str(module.__file__)) for module in MODULES}
