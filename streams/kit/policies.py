"""How each dependency is treated: how long it may take, how often it is asked again, when it is left alone.

All of them in this one place, to be compared and changed together. What the fields do is in `resilience`.
"""

from collections.abc import Mapping

import msgspec


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What one dependency is given. `meanwhile` says, for the log, what goes on while it is left alone.

    - `timeout_seconds`: of one attempt; `attempts`: of one call. Between them a random pause below a bound that begins
      with `first_pause_seconds` and doubles up to `longest_pause_seconds`.
    - `failures_to_open`: calls that failed in a row, with all their attempts, before the circuit breaker opens for
      `open_seconds`; then `probes` calls are let through: as many answered close it, one failed opens it again.
    - `concurrent_calls`: the most that are under way at once; one more waits `place_wait_seconds` for a place.
    """

    meanwhile: str = "what depends on it waits"
    timeout_seconds: float = 5.0
    attempts: int = 2
    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 2.0
    failures_to_open: int = 3
    open_seconds: float = 10.0
    probes: int = 1
    concurrent_calls: int = 8
    place_wait_seconds: float = 2.0


#: The outside world of each service: what it is called, and how it is treated. One call is a whole round of effects.
WORLDS: Mapping[str, tuple[str, Policy]] = {
    "billing": ("payment-provider", Policy(meanwhile="orders wait for their money to be held, taken or given back")),
    "shipping": ("carrier", Policy(meanwhile="orders wait for their parcel to be booked or called off")),
}

#: The records of effects. A slow Redis would help nobody: it is given little time and no second chance.
REDIS = Policy(
    meanwhile="effects are asked under the provider's own idempotency key alone",
    timeout_seconds=0.25,
    attempts=1,
    failures_to_open=1,
    open_seconds=1.0,
    place_wait_seconds=0.25,
)


def world_of(service: str) -> tuple[str, Policy]:
    """The name and the policy of what a service asks effects of; a service not listed has the defaults."""
    return WORLDS.get(service, (f"{service}-world", Policy()))
