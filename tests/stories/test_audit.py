"""What all stories left behind, looked at as a whole."""

import os
from collections import Counter

import pytest

from infra.stack import Stack
from pavane.audit import audit
from pavane.platform import Platform


@pytest.mark.after_all_stories
async def test_all_stories_together_break_no_invariant(platform: Platform, stack: Stack) -> None:
    await platform.settled()
    report = await audit({**os.environ, **stack.addresses.environment()})
    broken = {verdict.name: verdict.violations for verdict in report.verdicts if not verdict.clean}
    assert broken == {}
    assert report.unsettled == 0, Counter({verdict.name: verdict.unsettled for verdict in report.verdicts})
    assert report.verdict("orders-end").checked > 0
