"""Which master key wraps the keys of persons, and a new one for all of them. No text is encrypted anew for that."""

from pavane.dead_letters.desk import Connection
from pavane.lines import a_console
from streams.kit.keystore import KeyStore
from streams.kit.masters import Masters

DONE, OTHERS_LEFT = 0, 1
AT_ONCE = 500


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
    console.print("Done. What is not named first may be taken out of PAVANE_MASTER_KEYS.")
    return DONE
