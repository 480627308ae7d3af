"""Why a command about dead letters could not be carried out. Nothing was changed then."""

import re

from psycopg.errors import UndefinedFunction, UndefinedTable

from streams.kit.errors import PavaneError

#: The server's code for it does not come with an error of connecting.
_NO_DATABASE = re.compile(r'database "[^"]*" does not exist')


class NotAsked(PavaneError):
    """It could not be asked: something that is needed is missing, or the words make no sense."""


class NoSuchItem(NotAsked):
    """No record is parked under that id."""

    def __init__(self, item: object) -> None:
        super().__init__(
            f"{item}: no record is parked under this id. It was handled or discarded meanwhile, or never there; "
            f"'pavane dead-letters list' shows what waits, 'list --operations' what was done."
        )


class WaitsBehind(NotAsked):
    """The record waits behind another one of its key, and only that one can be tried."""

    def __init__(self, item: object, head: object) -> None:
        super().__init__(
            f"{item} waits behind {head}, which is about the same key: redrive that one, it follows by itself"
        )


class DatabaseUnreadable(NotAsked):
    """A service's database does not answer, or is not one. `lost`: there is none of that name, or it has no tables."""

    def __init__(self, service: str, variable: str, why: Exception) -> None:
        super().__init__(f"The database of {service} ({variable}) cannot be asked: {str(why).strip()}")
        undefined = isinstance(why, UndefinedTable | UndefinedFunction)
        self.lost = undefined or _NO_DATABASE.search(str(why)) is not None
