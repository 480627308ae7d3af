"""The command `bench`: scenarios one after the other, each on a fresh stack; a report, JSON, a picture."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from infra.errors import SettingWrong
from pavane.bench.picture import draw
from pavane.bench.proof import NotProven
from pavane.bench.report import Report
from pavane.bench.scenario import Given, Options
from pavane.lines import Lines

SCENARIOS = ("drain", "latency", "hot", "big", "poisoned", "growth", "scale", "rebuild")
#: Only by name: it needs locust, which 'make load' installs.
ASKED_FOR = ("load",)


async def bench(names: Sequence[str], options: Options, out: Path) -> int:
    """Measure. 0: every figure is there; 1: of some scenario there is none, since something did not come out right."""
    chosen = [scenario(name) for name in names or SCENARIOS]
    lines = Lines()
    report = Report(out, lines)
    report.begin()
    without: list[str] = []
    for name, module in zip(names or SCENARIOS, chosen, strict=True):
        lines.heading(module.TITLE)
        try:
            report.add(name, await module.run(Given(options, report.progress)))
        except NotProven as error:
            lines.say(f"  No figure: {error}")
            without.append(name)
    lines.say(f"\nEverything is in {out / 'bench.json'}. {draw(report.document, out)}")
    if without:
        lines.say(f"Not proven, and so not in it: {', '.join(without)}.")
    return 1 if without else 0


def scenario(name: str) -> ModuleType:
    """The module of that name. Raises `SettingWrong` for a name without one."""
    if name not in (known := (*SCENARIOS, *ASKED_FOR)):
        raise SettingWrong(f"there is no scenario {name!r}; there are {', '.join(known)}")
    return importlib.import_module(f"pavane.bench.scenarios.{name}")
