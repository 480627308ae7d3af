"""`pavane lanes`: the words of each command; what they do is imported when it is called.

Exit codes: 0 done; 1 some lane is halted (`list`), or nothing was changed as nobody agreed; 2 it could not be asked, or
not all of it (`list`).
"""

from pathlib import Path
from typing import Annotated

import typer

from pavane.options import DEFAULT_DATA, Data, Reason, Who, Yes, carry_out

lanes_app = typer.Typer(
    help="Lanes: how far services have heard, which ones are halted, and how to go on.", no_args_is_help=True
)


@lanes_app.command("list")
def list_(
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Every lane: its epoch, what it has to hear and to say, what is parked, and how it stands."""

    async def work() -> int:
        from pavane.lanes import listing
        from pavane.operators.reach import Reach

        return await listing.print_lanes(Reach.at(data), services or (), as_json=as_json)

    carry_out(work())


@lanes_app.command()
def skip(
    service: Annotated[str, typer.Argument(help="The service whose lane is halted.")],
    partition: Annotated[int, typer.Argument(min=0)],
    topic: Annotated[str, typer.Argument(help="The topic that it cannot go on hearing.")],
    to: Annotated[str, typer.Option("--to", help="The offset to hear next, or 'start' or 'end' of the log.")],
    reason: Reason,
    who: Who = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be lost.")] = False,
    yes: Yes = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Go on behind records that are foreign or gone: the service will never have heard what lies before."""

    async def work() -> int:
        from pavane.lanes.skipping import Skip
        from pavane.operators.errors import NotAsked
        from pavane.operators.reach import Reach

        if not reason.strip():
            raise NotAsked("--reason: say why; it is the only thing that is left of what is skipped")
        wanted = Skip(Reach.at(data), service, partition, topic, to)
        return await wanted.carry_out(who, reason, asks=not yes, dry_run=dry_run)

    carry_out(work())


@lanes_app.command()
def settle(
    reason: Reason,
    lanes: Annotated[int | None, typer.Option(min=1, max=1000, help="Their number, if no database remembers.")] = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="File for what is found. Default: astray-DATE-TIME.jsonl, here.")
    ] = None,
    keep_only: Annotated[bool, typer.Option("--keep-only", help="Keep what is found, and say none again.")] = False,
    who: Who = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    yes: Yes = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Topics have more or fewer partitions than there are lanes: say again what was written where nobody hears."""

    async def work() -> int:
        from pavane.lanes.settling import Settle
        from pavane.operators.errors import NotAsked
        from pavane.operators.reach import Reach

        if not reason.strip():
            raise NotAsked("--reason: say why, for the record")
        wish = Settle(Reach.at(data), lanes, keep, says=not keep_only)
        return await wish.carry_out(who, reason, asks=not yes, dry_run=dry_run)

    carry_out(work())
