"""`pavane rebuild` from what the operator wishes to what they see: progress, differences, the change-over."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from pavane.lines import a_console
from pavane.operators.agreeing import agreed
from pavane.operators.errors import NotAsked
from pavane.operators.words import aligned, count, plain
from pavane.rebuild.beside import SCHEMA
from pavane.rebuild.comparing import Difference
from pavane.rebuild.databases import expect_whole, made_whole
from pavane.rebuild.rebuilding import Rebuild, Size
from pavane.rebuild.swapping import Swap
from pavane.running import environment_of
from streams.kit import run

DONE, DIFFERENT = 0, 1
PLAIN_LINE_SECONDS = 2.0
HEADINGS = ("table", "rows", "equal", "newer", "changed", "missing", "unexplained")


class Wish(NamedTuple):
    """What the operator asked for."""

    service: str
    swap: bool
    reason: str
    who: str
    dry_run: bool
    restart: bool
    processes: int
    yes: bool
    backup: str = ""


class Operation:
    """One call of the command."""

    def __init__(self, wish: Wish, data: Path) -> None:
        self._wish = wish
        self._data = data
        self._console = a_console()

    async def carry_out(self) -> int:
        """The exit code. Raises `NotAsked` and what else cannot be asked; nothing live was changed then."""
        wish = self._wish
        if wish.swap and not wish.dry_run and not wish.reason.strip():
            raise NotAsked("--reason: say why the tables are changed over")
        run.find(wish.service)
        environment = environment_of(self._data)
        if wish.swap and not wish.dry_run:
            for line in await made_whole(wish.service, environment):
                self._say(line)
        else:
            await expect_whole(wish.service, environment, may_be_behind=wish.swap)
        async with AsyncExitStack() as stack:
            rebuild = await Rebuild.at(wish.service, self._data, stack)
            behind = await Swap(rebuild).behind()
            for line in _standing(rebuild, behind):
                self._say(line)
            if wish.dry_run:
                self._say(f"{count(sum(map(_total, (await rebuild.ends()).values())), 'record')} to fold.")
                self._say("Nothing was changed.")
                return DONE
            await self._fill(rebuild)
            different = self._tell(rebuild, await rebuild.compare(), in_full=not behind)
            if wish.swap:
                return await self._swap(rebuild, different)
            if not different:
                await rebuild.forget()
                return DONE
        self._say_they_stay()
        return DIFFERENT

    async def _fill(self, rebuild: Rebuild) -> None:
        wish = self._wish
        went_on = await rebuild.begin(restart=wish.restart, backup=wish.backup)
        size = await rebuild.size()
        if wish.backup and not went_on:
            self._say(f"The rows of the backup are there: {count(size.folded, 'record')} need not be folded.")
        elif went_on and size.folded:
            self._say(f"Going on behind {count(size.folded, 'record')} that are folded (--restart begins again).")
        begun = time.monotonic()
        with _progress(self._console, f"{wish.service}: records", size) as tell:
            await rebuild.fill(wish.processes, tell)
            folded = (await rebuild.size()).folded
            tell(folded)
        seconds = time.monotonic() - begun
        done = folded - size.folded
        self._say(f"{count(done, 'record')} folded in {seconds:.1f} s: {done / max(seconds, 0.001):,.0f} a second.")

    def _tell(self, rebuild: Rebuild, differences: Sequence[Difference], *, in_full: bool) -> int:
        """Print the comparison, `in_full` with the first rows that differ; how many do."""
        rows = [
            (
                each.table, f"{each.rows:,}", f"{each.rows - each.newer - each.changed - each.unexplained:,}",
                f"{each.newer:,}", f"{each.changed:,}", f"{each.missing:,}", f"{each.unexplained:,}",
            )
            for each in differences
        ]  # fmt: skip
        for line in aligned(HEADINGS, rows):
            self._say(line)
        for difference in differences if in_full else ():
            for line in difference.shown:
                self._say(f"  {plain(line)}")
            if difference.differing > len(difference.shown):
                self._say(f"  and {difference.differing - len(difference.shown):,} more of {difference.table}")
        different = sum(each.differing for each in differences)
        name = rebuild.service.name
        self._say(f"{count(different, 'row')} of {name} differ." if different else f"Every row of {name} is right.")
        return different

    async def _swap(self, rebuild: Rebuild, different: int) -> int:
        wish = self._wish
        question = f"{count(different, 'row')} differ. Change over?" if different else "Change over?"
        if not wish.yes and not await agreed(question):
            self._say("Nothing was changed.")
            self._say_they_stay()
            return DIFFERENT
        # What was said while rows were compared, and while somebody thought about it: the lanes must not wait for that.
        await rebuild.fill(wish.processes, lambda _: None)
        for line in await Swap(rebuild).carry_out(wish.who, wish.reason):
            self._say(line)
        return DONE

    def _say_they_stay(self) -> None:
        command = f"pavane rebuild {self._wish.service} --swap --reason ..."
        self._say(
            f"The fresh tables stay beside the live ones, in the schema {SCHEMA}: '{command}' goes on. Drop it if "
            f"nobody shall."
        )

    def _say(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


def _total(ends: object) -> int:
    return sum(ends.values()) if isinstance(ends, dict) else 0


def _standing(rebuild: Rebuild, behind: dict[int, int]) -> Iterator[str]:
    """What is wrong with the live database, if it is that."""
    if behind:
        lanes = ", ".join(f"lane {partition}: {facts:,}" for partition, facts in sorted(behind.items()))
        yield f"The database of {rebuild.service.name} is behind its log, by so many facts: {lanes}."
        yield "It was lost, or is an older one. Its rows are not what the facts make them; only --swap sets that right."


@contextmanager
def _progress(console: Console, what: str, size: Size) -> Iterator[Callable[[int], None]]:
    """Gives the function that is told how many records are folded: a bar with rate and time left, or plain lines."""
    if not console.is_terminal:
        yield _plain_lines(console, what, size)
        return
    rate = TextColumn("{task.fields[rate]:,.0f}/s")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn()
    begun = time.monotonic()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=size.records, completed=size.folded, rate=0.0)

        def tell(done: int) -> None:
            rate = (done - size.folded) / max(time.monotonic() - begun, 0.001)
            bar.update(task, completed=done, total=max(done, size.records), rate=rate)

        yield tell


def _plain_lines(console: Console, what: str, size: Size) -> Callable[[int], None]:
    begun = printed = time.monotonic()

    def tell(done: int) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed < PLAIN_LINE_SECONDS:
            return
        printed = now
        rate = (done - size.folded) / (now - begun)
        # Orders flow: there may be more by now than when it began.
        records = max(done, size.records)
        left = f", {(records - done) / rate:,.0f} s left" if rate else ""
        console.print(f"{what}: {done:,} of {records:,}, {rate:,.0f} a second{left}", soft_wrap=True)

    return tell
