"""A client of the Redis that all gateways share, which may be away at any time."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

TIMEOUT_SECONDS = 0.25
MOST_CONNECTIONS = 64


def client_of(url: str, retries: int = 0) -> Redis:
    """Every call ends within `TIMEOUT_SECONDS`, or twice that if it has to wait for a connection first.

    Waiting, since a rush of more calls than connections is no sign that Redis is away. `retries`: how often a call is
    sent again at once, as a pooled connection may be dead since Redis restarted; 0 for what must not happen twice.
    """
    return Redis.from_pool(
        BlockingConnectionPool.from_url(
            url,
            max_connections=MOST_CONNECTIONS,
            timeout=TIMEOUT_SECONDS,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), retries),
        )
    )
