"""`pavane forget` and `pavane keys`: their words; what they do is imported when it is called.

Exit codes: 0 done, or nothing to do; 1 nothing was changed as nobody agreed, or other master keys are in use (`show`);
2 it could not be done, for a reason that is told.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pavane.options import DEFAULT_DATA, Data, Who, Yes, carry_out

if TYPE_CHECKING:
    from pavane.operators.reach import Connection
    from streams.kit.keystore import KeyStore
    from streams.kit.masters import Masters


keys_app = typer.Typer(help="The keys of persons, and the master keys that wrap them.", no_args_is_help=True)


def forget(
    tenant: Annotated[str, typer.Argument(help="The shop.")],
    customer: Annotated[str, typer.Argument(help="The customer, by the shop's own customer number.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record. Name nobody.")] = "the customer asked",
    who: Who = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be forgotten.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also with orders under way: they may be cancelled.")] = False,
    yes: Yes = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Make everything personal of a customer unreadable, in the log and everywhere, for ever; facts stay."""

    async def work() -> int:
        from pavane.forget.forgetting import Forgetting
        from pavane.operators.reach import Reach
        from pavane.running import environment_of, migrated
        from streams.kit.keystore import KeyStore

        reach = Reach.at(data)
        store = KeyStore(_masters(environment_of(data)))
        # The database of keys belongs to no service.
        everywhere = reach._replace(databases=migrated(data))
        wanted = Forgetting(everywhere, store, tenant, customer)
        return await wanted.carry_out(who, reason, asks=not yes, dry_run=dry_run, force=force)

    carry_out(work())


@keys_app.command()
def show(data: Data = DEFAULT_DATA) -> None:
    """How many keys each master key wraps. Exit code 1: another one than the first is still in use."""

    async def work() -> int:
        from pavane.forget import upkeep

        async with _opened(data) as (store, masters, connection):
            return await upkeep.show(store, masters, connection)

    carry_out(work())


@keys_app.command()
def rewrap(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show how many.")] = False, data: Data = DEFAULT_DATA
) -> None:
    """Wrap all keys with the first of PAVANE_MASTER_KEYS; only older backups need the others then."""

    async def work() -> int:
        from pavane.forget import upkeep

        async with _opened(data) as (store, masters, connection):
            return await upkeep.rewrap(store, masters, connection, dry_run=dry_run)

    carry_out(work())


@keys_app.command()
def destroy_again(
    cut_off: Annotated[
        bool, typer.Option("--cut-off", help="Also of a forget that was cut off, before or after it destroyed the key.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """After the database of keys was restored from a backup: destroy again what receipts name as destroyed."""

    async def work() -> int:
        from pavane.forget import upkeep
        from pavane.operators.reach import Reach

        async with _opened(data) as (store, _, connection), Reach.at(data).database("orders") as orders:
            return await upkeep.destroy_again(store, connection, orders, dry_run=dry_run, cut_off=cut_off)

    carry_out(work())


@asynccontextmanager
async def _opened(data: Path) -> "AsyncIterator[tuple[KeyStore, Masters, Connection]]":
    from infra.stack import KEYS_DATABASE
    from pavane.operators.reach import Reach
    from pavane.running import environment_of, migrated
    from streams.kit.keystore import KeyStore

    masters = _masters(environment_of(data))
    async with Reach.at(data)._replace(databases=migrated(data)).database(KEYS_DATABASE) as connection:
        yield KeyStore(masters), masters, connection


def _masters(environment: dict[str, str]) -> "Masters":
    from streams.kit.masters import VARIABLE, Masters

    return Masters.read(environment.get(VARIABLE, ""))
