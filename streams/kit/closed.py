"""aiokafka on uvloop: a connection that the broker has closed is told as a closed connection.

Where asyncio's own transports write a warning, uvloop's raise `RuntimeError`, and aiokafka expects `OSError`
(https://github.com/aio-libs/aiokafka/issues/1038). So a broker that died at the wrong moment ended the client's task
that keeps its metadata; nobody was told, and the client never found its coordinator again.
"""

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_send = AIOKafkaConnection.send


def _send_or_tell(self: Any, request: Any, expect_response: bool = True) -> Any:
    writer = self._writer
    try:
        return _send(self, request, expect_response)
    except RuntimeError as error:
        if writer is None or not writer.is_closing():
            raise
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"the connection to {self.host}:{self.port} was closed") from error


def tell_closed_connections() -> None:
    """From now on, for every aiokafka client of this process."""
    AIOKafkaConnection.send = _send_or_tell
