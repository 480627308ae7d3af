"""What is done now and then goes on when the clock is set back."""

from datetime import UTC, datetime, timedelta

import pytest

from streams.kit.worker import _is_to_come

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ahead_seconds", "waits"), [(-300, False), (0, False), (0.1, True), (5, True), (5.1, False), (300, False)]
)
def test_a_time_further_ahead_than_it_was_ever_set_is_not_waited_for(ahead_seconds: float, waits: bool) -> None:
    assert _is_to_come(NOW + timedelta(seconds=ahead_seconds), NOW, 5.0) is waits
