"""Coroutines that run side by side end together."""

import asyncio

import pytest

from hub.observe.together import until_one_ends


async def test_when_one_ends_the_others_are_cancelled_first() -> None:
    """Its error is raised only when nothing runs any more."""
    ended = list[str]()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("this one")

    with pytest.raises(ValueError, match="this one"):
        await until_one_ends(endless(), fails())
    assert ended == ["cancelled"]
