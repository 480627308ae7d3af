"""The command `bench`: scenarios one after the other, each on a fresh stack; a report, JSON, a picture."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from infra.errors import SettingWrong
from pavane.bench.goals import Goal
from pavane.bench.picture import draw
from pavane.bench.proof import NotProven
from pavane.bench.report import Report
from pavane.bench.scenario import Given, Options
from pavane.lines import Lines

SCENARIOS = ("drain", "latency", "hot", "big", "poisoned", "growth", "scale", "rebuild")
#: Only by name: it needs locust, which 'make load' installs.
ASKED_FOR = ("load",)
WRONG, MISSED = 1, 3


async def bench(names: Sequence[str], options: Options, out: Path) -> int:
    """Measure; the exit code. `WRONG`: something did not come out right. `MISSED`: everything did, but a goal of time,
    rate or memory was missed."""
    chosen = [scenario(name) for name in names or SCENARIOS]
    lines = Lines()
    report = Report(out, lines)
    report.begin()
    without: list[str] = []
    missed: list[Goal] = []
    for name, module in zip(names or SCENARIOS, chosen, strict=True):
        lines.heading(module.TITLE)
        try:
            result = await module.run(Given(options, report.progress))
            report.add(name, result)
            missed += [goal for goal in result.goals if not goal.is_met]
        except (NotProven, TimeoutError) as error:
            lines.say(f"  No figure: {str(error) or 'it took too long'}")
            without.append(name)
    if report.document["scenarios"]:
        lines.say(f"\nEverything is in {out / 'bench.json'}. {draw(report.document, out)}")
    else:
        lines.say(f"\nNothing was written: what may be in {out / 'bench.json'} is of an earlier run.")
    if without:
        lines.say(f"Not proven, and so not in it: {', '.join(without)}.")
    if missed:
        lines.say(f"Missed: {'; '.join(f'{goal.what} ({goal.missed})' for goal in missed)}.")
    return exit_code(without, missed)


def exit_code(without: Sequence[str], missed: Sequence[Goal]) -> int:
    """`without`: scenarios of which there is no figure."""
    if without or not all(goal.is_figure for goal in missed):
        return WRONG
    return MISSED if missed else 0


def scenario(name: str) -> ModuleType:
    """The module of that name. Raises `SettingWrong` for a name without one."""
    if name not in (known := (*SCENARIOS, *ASKED_FOR)):
        raise SettingWrong(f"there is no scenario {name!r}; there are {', '.join(known)}")
    return importlib.import_module(f"pavane.bench.scenarios.{name}")
