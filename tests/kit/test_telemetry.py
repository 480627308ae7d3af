"""What a worker tells of its lanes is of those that it holds."""

from prometheus_client import REGISTRY

from streams.kit.telemetry import Telemetry


def test_the_lag_of_a_lane_that_is_somebody_elses_is_told_no_more() -> None:
    telemetry = Telemetry("let-go")

    def told(partition: int) -> float | None:
        labels = {"service": "let-go", "topic": "orders", "partition": str(partition)}
        return REGISTRY.get_sample_value("pavane_lag_records", labels)

    telemetry.lag("orders", 0, 50_000)
    telemetry.lag("orders", 1, 7)
    telemetry.no_lag("orders", 0)
    telemetry.no_lag("orders", 2)

    assert (told(0), told(1)) == (None, 7)
