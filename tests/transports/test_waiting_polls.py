"""Polls that go on with a session do not hold up a node that stops."""

import asyncio
from typing import cast

import pytest

from hub.core.commands import PollRequest
from hub.errors import NotFoundError, UnavailableError
from hub.transports.poll import WaitingPolls
from tests.support.waiting import eventually

REQUEST = cast("PollRequest", object())  # handed on, never looked at


class Holder:
    """Answers when told to."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.asked = 0

    async def poll(self, request: PollRequest) -> bytes:
        assert request is REQUEST
        self.asked += 1
        return await self.answer


def polling(waiting: WaitingPolls, holder: Holder) -> "asyncio.Task[bytes]":
    return asyncio.create_task(waiting.poll(holder.poll, REQUEST))


async def under_way(holder: Holder, polls: int = 1) -> None:
    await eventually(lambda: holder.asked == polls)


async def test_the_holders_answer_is_handed_on() -> None:
    """An answer's bytes, or an error."""
    waiting, holder, other = WaitingPolls(), Holder(), Holder()
    answered, failed = polling(waiting, holder), polling(waiting, other)
    await under_way(holder)
    holder.answer.set_result(b"{}")
    other.answer.set_exception(NotFoundError("it is gone"))
    assert await answered == b"{}"
    with pytest.raises(NotFoundError):
        await failed


async def test_when_the_node_stops_every_waiting_poll_is_refused_for_now() -> None:
    """The holder is not waited for any longer, and a poll that still comes is not put to it."""
    waiting, holder = WaitingPolls(), Holder()
    polls = [polling(waiting, holder) for _ in range(3)]
    await under_way(holder, 3)
    waiting.end_all()
    for poll in polls:
        with pytest.raises(UnavailableError):
            await poll
    assert holder.answer.cancelled()
    with pytest.raises(UnavailableError):
        await polling(waiting, holder)
    assert holder.asked == 3


async def test_a_poll_that_is_cancelled_waits_no_longer_at_its_holder() -> None:
    """Its peer closed the connection."""
    waiting, holder = WaitingPolls(), Holder()
    poll = polling(waiting, holder)
    await under_way(holder)
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    await eventually(holder.answer.cancelled)
    waiting.end_all()
