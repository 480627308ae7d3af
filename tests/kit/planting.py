"""Bugs planted in the source of the kit: one line of it is made wrong, and a rule of the tests has to break.

A suite is worth what it finds. A bug whose line is not there any more, exactly once, cannot be planted, and says so.
"""

import inspect
import textwrap
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from streams.kit.errors import PavaneError

#: A promise was broken: a test's own words, or an error of the kit that nobody expected there.
BROKEN = (AssertionError, pytest.fail.Exception, PavaneError)


class Bug(NamedTuple):
    """`owner` (a class or a module) holds `name`, a function or a text, in which `right` becomes `wrong`.

    `found_by`: the rule, a test, that must break.
    """

    what: str
    owner: Any
    name: str
    right: str
    wrong: str
    found_by: Callable[..., Awaitable[None] | None]

    def plant(self, patch: pytest.MonkeyPatch) -> None:
        """Make the line wrong until the test ends."""
        there = inspect.getattr_static(self.owner, self.name)
        patch.setattr(self.owner, self.name, self._wrong(there) if isinstance(there, str) else self._planted(there))

    def _planted(self, function: Any) -> Any:
        text = self._wrong(textwrap.dedent(inspect.getsource(function)))
        made: dict[str, Any] = {}
        exec(compile(text, f"<{self.what}>", "exec"), inspect.unwrap(function).__globals__, made)
        return made[self.name]

    def _wrong(self, text: str) -> str:
        assert text.count(self.right) == 1, f"{self.what}: {self.name} has not {self.right!r} exactly once"
        return text.replace(self.right, self.wrong)

    async def is_found(self, **fixtures: Any) -> None:
        """See that the rule breaks, now that it is planted. `fixtures`: what the rule may ask for."""
        asked = inspect.signature(self.found_by).parameters
        with pytest.raises(BROKEN):
            outcome = self.found_by(**{name: fixtures[name] for name in asked})
            if outcome is not None:
                await outcome


def planted(*bugs: Bug) -> pytest.MarkDecorator:
    """One test a bug, named by what is wrong."""
    return pytest.mark.parametrize("bug", bugs, ids=[bug.what.replace(" ", "-") for bug in bugs])
