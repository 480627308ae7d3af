"""Why an operator's command could not be carried out. Nothing was changed then."""

import re

from psycopg.errors import UndefinedFunction, UndefinedTable

from streams.kit.errors import PavaneError

#: The server's code for it does not come with an error of connecting.
_NO_DATABASE = re.compile(r'database "[^"]*" does not exist')


class NotAsked(PavaneError):
    """It could not be asked: something that is needed is missing, or the words make no sense."""


class DatabaseUnreadable(NotAsked):
    """A service's database does not answer, or is not one. `lost`: there is none of that name, or it has no tables."""

    def __init__(self, service: str, variable: str, why: Exception) -> None:
        super().__init__(f"The database of {service} ({variable}) cannot be asked: {str(why).strip()}")
        undefined = isinstance(why, UndefinedTable | UndefinedFunction)
        self.lost = undefined or _NO_DATABASE.search(str(why)) is not None
