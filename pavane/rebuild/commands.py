"""`pavane rebuild`: its words; what it does is imported when it is called.

Exit codes: 0 the live rows are what the facts make them, or were changed over; 1 some are not, or nobody agreed; 2 it
could not be done, and nothing was changed.
"""

from pathlib import Path
from typing import Annotated

import typer

COULD_NOT_ASK = 2
DEFAULT_DATA = Path(".data")
PROCESSES = 2


def rebuild(
    service: Annotated[str, typer.Argument(help="Whose tables are made once more.")],
    swap: Annotated[bool, typer.Option("--swap", help="Change over to the fresh tables, while orders flow.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record; needed with --swap.")] = "",
    who: Annotated[str, typer.Option("--as", help="Who does it. Default: the user of this process.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what there is to do.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="From the beginning, though some of it is done.")] = False,
    backup: Annotated[
        str, typer.Option("--from-backup", envvar="PAVANE_BACKUP", help="URL of a restored copy: begin with its rows.")
    ] = "",
    processes: Annotated[int, typer.Option(min=1, max=64, help="How many fold at once.")] = PROCESSES,
    yes: Annotated[bool, typer.Option("--yes", help="Change over without asking, whatever differs.")] = False,
    data: Annotated[Path, typer.Option("--data", envvar="DATA", help="Folder of the embedded stack.")] = DEFAULT_DATA,
) -> None:
    """Make a service's tables once more from its topic, beside the live ones, and compare row by row.

    Exit code 0: equal, or changed over; 1: some rows differ; 2: it could not be done. Interrupted, it goes on later.
    """
    from pavane import console
    from pavane.rebuild.operation import Operation, Wish

    wish = Wish(service, swap, reason, who, dry_run, restart, processes, yes, backup)
    console.run(Operation(wish, data).carry_out(), failed=COULD_NOT_ASK)


log_app = typer.Typer(help="The log itself: say again what it has lost.", no_args_is_help=True)


@log_app.command()
def restore(
    service: Annotated[str, typer.Argument(help="Whose topic has lost its end.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")],
    give_up: Annotated[bool, typer.Option("--give-up", help="Go on without what is gone.")] = False,
    who: Annotated[str, typer.Option("--as", help="Who does it. Default: the user of this process.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what is lost, and what can be said.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    data: Annotated[Path, typer.Option("--data", envvar="DATA", help="Folder of the embedded stack.")] = DEFAULT_DATA,
) -> None:
    """Say again, from a service's outbox, the facts that its topic has lost; list those that nobody can say again.

    Exit code 0: done, or nothing is lost; 1: nobody agreed; 2: it could not be done, and nothing was changed.
    """
    from pavane import console

    async def work() -> int:
        from pavane.operators.reach import Reach
        from pavane.rebuild.restoring import Restore

        wanted = Restore(Reach.at(data), service)
        return await wanted.carry_out(who, reason, give_up=give_up, asks=not yes, dry_run=dry_run)

    console.run(work(), failed=COULD_NOT_ASK)
