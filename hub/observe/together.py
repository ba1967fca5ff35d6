"""Coroutines that run side by side and end together."""

import asyncio
from collections.abc import Coroutine


async def until_one_ends(*works: Coroutine[object, object, None]) -> None:
    """Run all at once; when one returns or raises, cancel the others and do the same.

    Nothing of them runs any more when it returns or raises.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
