"""`pavane choreography`: the dance for people, and what is wrong with it."""

import sys

from choreography.checks import check
from choreography.declared import Dance, table
from contracts.views import services
from streams.kit.language import Language


def show() -> int:
    """Print the table and the findings; 1 if there are any."""
    dance = Dance(services())
    sys.stdout.write(table(dance))
    findings = check(dance, Language.load())
    told = "\n".join(map(str, findings)) or "Nothing is wrong with it by its declarations."
    sys.stdout.write(f"\n{told}\n")
    return 1 if findings else 0
