"""What the commands share: where the platform is, who asks, and how a command ends that may not be able to ask."""

from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

#: The exit code of a command that could not be carried out; nothing was changed then.
COULD_NOT_ASK = 2
DEFAULT_DATA = Path(".data")

Data = Annotated[Path, typer.Option("--data", envvar="DATA", help="Folder of the embedded stack.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
Who = Annotated[str, typer.Option("--as", help="Who does it, for the record. Default: the user of this process.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


def carry_out(work: Coroutine[Any, Any, int]) -> None:
    """Run it to its exit code."""
    from pavane import console

    console.run(work, failed=COULD_NOT_ASK)
