"""`pavane dead-letters`: the words of each command; what they do is imported when it is called.

Exit codes: 0 done; 1 stopped at a record that failed (of a dry run: one that would); 2 it could not be asked.
"""

from typing import Annotated

import typer

from pavane.options import DEFAULT_DATA, Data, Reason, Who, Yes, carry_out

RATE = 50.0
PATIENCE = 30.0

dead_letters_app = typer.Typer(
    help="Records that services could not handle: see them, try them again, or discard them.", no_args_is_help=True
)

Ids = Annotated[list[str] | None, typer.Argument(help="Ids such as billing/0/12. None: what the filters let pass.")]
Services = Annotated[list[str] | None, typer.Option("--service", help="Only of this service; may be repeated.")]
Because = Annotated[str, typer.Option("--because", help="Only parked for this reason, such as KeyError or Unanswered.")]
Fact = Annotated[str, typer.Option("--fact", help="Only this event, such as StockReserved or PlaceOrder.")]
Key = Annotated[str, typer.Option("--key", help="Only about this key: an order id, or tenant/sku.")]
Older = Annotated[str, typer.Option("--older-than", help="Only parked for at least so long: 90s, 10m, 2h, 3d.")]
Newer = Annotated[str, typer.Option("--newer-than", help="Only parked for at most so long.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
Limit = Annotated[int, typer.Option("--limit", min=0, help="Show so many lines at most; 0: all.")]
Patience = Annotated[
    float, typer.Option("--patience", min=0.1, help="Seconds without any progress to wait for workers.")
]


@dead_letters_app.command("list")
def list_(
    service: Services = None,
    because: Because = "",
    fact: Fact = "",
    key: Key = "",
    older_than: Older = "",
    newer_than: Newer = "",
    behind: Annotated[bool, typer.Option("--behind", help="Also what waits behind others.")] = False,
    done: Annotated[bool, typer.Option("--operations", help="Instead: who redrove or discarded what.")] = False,
    limit: Limit = 100,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """What waits at each service, and why: one line a record that is next of its key, and totals by reason."""

    async def work() -> int:
        from pavane.dead_letters import carrying_out
        from pavane.dead_letters.selection import Selection
        from pavane.operators.reach import Reach

        reach = Reach.at(data)
        if done:
            return await carrying_out.list_operations(reach, service or (), limit, as_json=as_json)
        selection = Selection.of(service, because, fact, key, older_than, newer_than)
        return await carrying_out.list_parked(reach, selection, limit, behind=behind, as_json=as_json)

    carry_out(work())


@dead_letters_app.command()
def show(item: Annotated[str, typer.Argument(metavar="ID")], data: Data = DEFAULT_DATA) -> None:
    """Everything about one record: origin, event, reason, stack, what waits behind it, and what to do."""

    async def work() -> int:
        from pavane.dead_letters import carrying_out
        from pavane.dead_letters.items import ItemId
        from pavane.operators.reach import Reach

        wanted = ItemId.parse(item)
        return await carrying_out.show_one(Reach.at(data), wanted)

    carry_out(work())


@dead_letters_app.command()
def redrive(
    ids: Ids = None,
    service: Services = None,
    because: Because = "",
    fact: Fact = "",
    key: Key = "",
    older_than: Older = "",
    newer_than: Newer = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what today's code would decide.")] = False,
    rate: Annotated[float, typer.Option("--rate", min=0.01, help="Records a second, after the first one.")] = RATE,
    reason: Reason = "",
    who: Who = "",
    yes: Yes = False,
    patience: Patience = PATIENCE,
    data: Data = DEFAULT_DATA,
) -> None:
    """Try parked records again, in order: one first, then the others, up to the first that fails."""

    async def work() -> int:
        from pavane.dead_letters import carrying_out
        from pavane.dead_letters.items import ItemId
        from pavane.dead_letters.selection import Selection
        from pavane.operators.reach import Reach

        selection = Selection.of(service, because, fact, key, older_than, newer_than)
        wanted = [ItemId.parse(each) for each in ids or ()]
        reach = Reach.at(data)
        if dry_run:
            return await carrying_out.foretell(reach, selection, wanted)
        orders = carrying_out.Orders(reach, who, reason, asks=not yes, patience_seconds=patience)
        return await orders.redrive(selection, wanted, rate)

    carry_out(work())


@dead_letters_app.command()
def discard(
    item: Annotated[str, typer.Argument(metavar="ID")],
    reason: Annotated[str, typer.Option("--reason", help="Why it may be given up, for the record.")],
    who: Who = "",
    yes: Yes = False,
    patience: Patience = PATIENCE,
    data: Data = DEFAULT_DATA,
) -> None:
    """Take one record out for good: its service will never have heard it, and what waits behind it goes on."""

    async def work() -> int:
        from pavane.dead_letters import carrying_out
        from pavane.dead_letters.items import ItemId
        from pavane.operators.errors import NotAsked
        from pavane.operators.reach import Reach

        wanted = ItemId.parse(item)
        if not reason.strip():
            raise NotAsked("--reason: say why; it is the only thing that is left of the record here")
        orders = carrying_out.Orders(Reach.at(data), who, reason, asks=not yes, patience_seconds=patience)
        return await orders.discard(wanted)

    carry_out(work())
