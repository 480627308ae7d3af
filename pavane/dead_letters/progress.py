"""How far a redrive is: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

PLAIN_LINE_SECONDS = 2.0


@contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Gives the function that is told how many are done."""
    if not console.is_terminal:
        yield _plain_lines(console, what, total)
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=min(done, total))


def _plain_lines(console: Console, what: str, total: int) -> Callable[[int], None]:
    printed, at = -1, 0.0

    def show(done: int) -> None:
        nonlocal printed, at
        now = time.monotonic()
        if done != printed and (now - at >= PLAIN_LINE_SECONDS or done >= total):
            printed, at = done, now
            console.print(f"{what}: {done:,} of {total:,}", soft_wrap=True)

    return show
