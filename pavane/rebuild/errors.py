"""Why a rebuild cannot be done, or not go on. The live tables are as they were then."""

from collections.abc import Sequence

from pavane.operators.errors import NotAsked


class CannotRebuild(NotAsked):
    """Something that a rebuild needs is missing or wrong."""


class UnderWay(CannotRebuild):
    """Somebody else rebuilds this service."""

    def __init__(self, service: str) -> None:
        super().__init__(
            f"another rebuild of {service} is under way: see 'pavane-rebuild' in pg_stat_activity, and try again when "
            f"it has ended."
        )


class BegunOtherwise(CannotRebuild):
    """Fresh tables are there, and they did not begin with the backup that is asked for."""

    def __init__(self, service: str) -> None:
        super().__init__(
            f"The fresh tables of an earlier rebuild of {service} are there, and they did not begin with this backup. "
            f"Begin again with it: add --restart; or go on with them: leave out --from-backup."
        )


class TablesAhead(CannotRebuild):
    """A newer version has migrated the database: tables by this code would lack what that one added."""

    def __init__(self, service: str, migrations: Sequence[str]) -> None:
        super().__init__(
            f"The database of {service} was migrated by a newer version ({', '.join(migrations)}), and this code does "
            f"not know its tables: run the same command from that version's code."
        )


class TablesBehind(CannotRebuild):
    """The live tables are not those of this code, and who only compares does not change them."""

    def __init__(self, service: str, migrations: Sequence[str]) -> None:
        super().__init__(
            f"The live tables of {service} are not those of this code: {', '.join(migrations)} has not been there. "
            f"'pavane migrate' brings them there; so does 'pavane rebuild {service} --swap --reason ...', which then "
            f"changes over to tables made from the log."
        )


class DatabaseGone(CannotRebuild):
    """There is no database to compare with."""

    def __init__(self, service: str, variable: str) -> None:
        super().__init__(
            f"The database of {service} ({variable}) is gone: 'pavane rebuild {service} --swap --reason ...' makes it "
            f"again, from the log."
        )


class FactsMissing(CannotRebuild):
    """A topic from which rows are made does not hold all that was said there."""

    def __init__(self, service: str, topic: str, partition: int, offset: int, known: int, sequence: int) -> None:
        super().__init__(
            f"{topic}/{partition} offset {offset}: fact {sequence} follows {known}: {sequence - known - 1} facts of "
            f"{topic} are not in the log, so the rows of {service} cannot be made of it alone. Restore the topic from "
            f"a copy; or begin with a backup of {service} that knows fact {sequence - 1} or a later one: --from-backup."
        )


class CannotFold(CannotRebuild):
    """A fact cannot be folded by the code of today."""

    def __init__(self, what: str, why: Exception) -> None:
        super().__init__(f"{what} cannot be folded: {why}. Every released version of a fact needs an 'evolves'.")
