"""All keys of persons: which master key wraps them, a new one for all of them, and those that a backup brought back.

No text is encrypted anew for any of that.
"""

from collections.abc import Collection, Sequence
from typing import LiteralString

from pavane.forget.receipt import DESTROYED, FORGET, late_receipt
from pavane.lines import a_console
from pavane.operators.errors import NotAsked
from pavane.operators.operations import UNDER_WAY
from pavane.operators.reach import Connection
from pavane.operators.words import count
from pavane.rebuild.swapping import FROM_LOG, SWAP
from streams.kit.keystore import KeyStore
from streams.kit.masters import Masters

DONE, OTHERS_LEFT = 0, 1
_LOST: LiteralString = (
    "SELECT EXISTS (SELECT FROM operations r WHERE r.what = %s AND r.outcome LIKE %s AND NOT EXISTS "
    "(SELECT FROM operations f WHERE f.what = %s AND f.outcome LIKE %s AND f.begun_at < r.begun_at))"
)
AT_ONCE = 500


class NoReceipts(NotAsked):
    """Nobody was forgotten, or the receipts are lost: which of the two, what is there does not tell."""

    def __init__(self, keys: int) -> None:
        super().__init__(
            f"orders has no receipt of anybody forgotten, and {count(keys, 'key')} can be read: which of them to "
            f"destroy again cannot be told. Nothing was changed. If nobody was ever forgotten, all is well. If the "
            f"database of orders was lost and made again from the log alone, its receipts are gone with it: restore a "
            f"backup of it beside it, run 'pavane rebuild orders --from-backup URL --restart --swap --reason ...', "
            f"which gives them back, and this again."
        )


class ReceiptsLost(NotAsked):
    """The database of orders was made again from the log, and no receipt is older."""

    def __init__(self) -> None:
        super().__init__(
            "the database of orders was made again from its log, and all receipts are of after that: who had been "
            "forgotten before cannot be told. What the receipts name was looked after. Restore a backup of that "
            "database beside it, run 'pavane rebuild orders --from-backup URL --restart --swap --reason ...', which "
            "gives its receipts back, and this again."
        )


class CutOff(NotAsked):
    """Keys that somebody was about to destroy, and nobody can say whether they did."""

    def __init__(self, doubtful: Sequence[tuple[int, str]]) -> None:
        named = ", ".join(f"{key} (operation {number})" for number, key in doubtful)
        super().__init__(
            f"of what 'pavane forget' began and never ended, these keys can be read: {named}. Whether they had been "
            f"destroyed before the backup came, nothing tells; all else was looked after. Unless one is under way: see "
            f"who was at it ('pavane dead-letters list --operations'), and let them forget the customer again, or "
            f"destroy these too with 'pavane keys destroy-again --cut-off'."
        )


async def show(store: KeyStore, masters: Masters, connection: Connection) -> int:
    """How many keys each master key wraps. Exit code 1 when one is not wrapped with the first."""
    found = await store.by_master(connection)
    for master, keys in found.items():
        note = "  (the first: wraps new ones)" if master == masters.first else ""
        a_console().print(f"{master}: {keys:,}{note}", highlight=False)
    return DONE if found.keys() <= {masters.first} else OTHERS_LEFT


async def rewrap(store: KeyStore, masters: Masters, connection: Connection, *, dry_run: bool) -> int:
    """Wrap everything with the first master key. May be broken off and begun again."""
    found = await store.by_master(connection)
    todo = sum(keys for master, keys in found.items() if master != masters.first)
    console = a_console()
    console.print(f"{todo:,} of {sum(found.values()):,} keys are to be wrapped with {masters.first}.", highlight=False)
    if dry_run:
        console.print("Nothing was changed.")
        return DONE
    done = 0
    while some := await store.rewrap(connection, AT_ONCE):
        done += some
        console.print(f"  {done:,} of {todo:,}", highlight=False)
    console.print(
        "Done. What is not named first may be taken out of PAVANE_MASTER_KEYS. Keep it elsewhere, until no backup of "
        "the database of keys from before now is left: nothing else opens one.",
        soft_wrap=True,
    )
    return DONE


async def destroy_again(
    store: KeyStore, keys: Connection, orders: Connection, *, dry_run: bool, cut_off: bool = False
) -> int:
    """Destroy what a restored backup has brought back: keys that a receipt names as destroyed. `cut_off`: also those of
    which nobody can say whether they were. Raises `NoReceipts`, and when it is done `ReceiptsLost` and `CutOff`."""
    named = {key for _, key in await _items(orders, "outcome LIKE %s", f"{DESTROYED}%")}
    unended = await _items(orders, "outcome = %s", UNDER_WAY)
    named |= (await store.destroyed(keys, [key for _, key in unended])).keys()
    doubtful = [] if cut_off else await _doubtful(store, keys, unended, named)
    if cut_off:
        named |= {key for _, key in unended}
    if not named and not doubtful and (there := await _readable(keys)):
        raise NoReceipts(there)
    back = sorted(await store.readable(keys, named))
    console = a_console()
    console.print(f"{len(back):,} of {len(named):,} destroyed keys are back. {' '.join(back)}", highlight=False)
    if dry_run:
        console.print("Nothing was changed.")
    else:
        for key in back:
            await store.destroy(keys, key)
        await _write_late_receipts(store, keys, orders, unended)
        await store.sweep(keys)
        console.print("Destroyed again. The receipts of then stand." if back else "Nothing was to be destroyed.")
    [(are_lost,)] = await (await orders.execute(_LOST, (SWAP, f"{FROM_LOG}[%", FORGET, f"{DESTROYED}%"))).fetchall()
    if are_lost:
        raise ReceiptsLost
    if doubtful:
        raise CutOff(doubtful)
    return DONE


async def _items(orders: Connection, which: LiteralString, outcome: str) -> list[tuple[int, str]]:
    """Every `forget` that ended so: its number, and its key."""
    cursor = await orders.execute(
        f"SELECT number, jsonb_array_elements_text(items) FROM operations WHERE what = %s AND {which} ORDER BY number",
        (FORGET, outcome),
    )
    return await cursor.fetchall()


async def _doubtful(
    store: KeyStore, keys: Connection, unended: Sequence[tuple[int, str]], named: Collection[str]
) -> list[tuple[int, str]]:
    """Cut off before the key was destroyed, or after it, and a backup has brought it back."""
    there = await store.readable(keys, [key for _, key in unended])
    return [(number, key) for number, key in unended if key in there and key not in named]


async def _write_late_receipts(
    store: KeyStore, keys: Connection, orders: Connection, unended: Sequence[tuple[int, str]]
) -> None:
    gone = await store.destroyed(keys, [key for _, key in unended])
    for number, key in unended:
        if key in gone:
            await orders.execute(
                "UPDATE operations SET ended_at = now(), outcome = %s WHERE number = %s AND outcome = %s",
                (written := late_receipt(key, gone[key]), number, UNDER_WAY),
            )
            a_console().print(f"Receipt {number} of orders, which was cut off: {written}", highlight=False)


async def _readable(keys: Connection) -> int:
    """How many keys are there and not destroyed."""
    cursor = await keys.execute("SELECT count(*) FROM data_keys WHERE secret IS NOT NULL")
    [(found,)] = await cursor.fetchall()
    return int(found)
