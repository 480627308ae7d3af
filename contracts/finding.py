"""What a check finds wrong."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that is wrong: where, who breaks whom, and what to do."""

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} {self.remedy}"
