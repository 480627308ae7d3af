"""Tasks that are called off end, also when a cancellation gets lost on its way."""

import asyncio

from streams.kit.calling_off import called_off


async def test_a_task_that_loses_a_cancellation_is_called_off_again() -> None:
    lost = 0

    async def deaf_twice() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if lost == 2:
                    raise
                lost += 1

    task = asyncio.create_task(deaf_twice())
    await asyncio.sleep(0)
    await called_off(task, None)
    assert (lost, task.cancelled()) == (2, True)


async def test_how_a_task_ended_is_nobodys_error() -> None:
    async def fails() -> None:
        raise ValueError("no")

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await called_off(task)
    assert task.done()
    await called_off()
