"""Why a command about dead letters could not be carried out. Nothing was changed then."""

from pavane.operators.errors import NotAsked


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
