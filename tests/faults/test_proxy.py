"""The proxy breaks what it is told to break, whenever that is."""

import asyncio

import pytest

from tests.faults.proxy import Proxy

SECONDS = 10.0


@pytest.mark.parametrize("turns", range(8))
async def test_a_connection_that_is_just_being_made_is_cut_as_well(turns: int) -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"through")
        await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, Proxy(host, port) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        for _ in range(turns):
            await asyncio.sleep(0)
        proxy.cut()

        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            async with asyncio.timeout(SECONDS):
                await reader.readexactly(len(b"through") + 1)
        writer.close()
