"""What the documents about security rest on is there."""

import re
from pathlib import Path

import pytest

NAMED = re.compile(r"`(?:tests/)?((?:[a-z]+/)?test_[a-z_]+\.py)")


@pytest.mark.parametrize("document", ["docs/security.md", "docs/asvs.md"])
def test_every_test_that_is_named_exists(document: str):
    named = set(NAMED.findall(Path(document).read_text()))

    assert len(named) > 10
    assert not [name for name in named if not list(Path("tests").rglob(name))]
