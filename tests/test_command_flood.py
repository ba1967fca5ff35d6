"""Many commands at once for one session while the broker takes its time, on real sockets."""

import asyncio
import json
from collections import Counter

import httpx2 as httpx
import pytest

from hub import Hub
from hub.brokers.memory import MemoryBroker
from hub.core.ports import PublishRequest, PublishResult
from hub.settings import Settings
from tests.support.waiting import eventually

COMMANDS = 600
MAY_WAIT = 256


async def test_of_600_posted_commands_as_many_wait_as_may_and_the_rest_is_told_when_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One is carried out and 256 wait at most. Those are answered once the broker goes on, in their
    order; the others were not begun."""
    gate = asyncio.Event()
    began: list[str] = []
    publish = MemoryBroker.publish_now

    async def slowly(self: MemoryBroker, request: PublishRequest) -> PublishResult:
        # Figures are published all the time.
        if not request.channel.startswith("hub:"):
            began.append(request.channel)
        await gate.wait()
        return publish(self, request)

    monkeypatch.setattr(MemoryBroker, "publish", slowly)
    monkeypatch.setattr(MemoryBroker, "publish_now", None)
    monkeypatch.setattr(MemoryBroker, "answers_at_once", False)
    limits = httpx.Limits(max_connections=COMMANDS + 1)
    async with (
        Hub(Settings(port=0, drain_seconds=0)) as hub,
        httpx.AsyncClient(base_url=hub.url, limits=limits, timeout=60, verify=False) as http,
        http.stream("GET", "/sse?session=true") as stream,
    ):
        lines = stream.aiter_lines()
        data = ""
        while not data.startswith("data:"):
            data = await anext(lines)
        welcome = json.loads(data.removeprefix("data:"))
        refused: Counter[tuple[int, str, bool, int]] = Counter()
        done: list[int] = []

        async def command(number: int) -> None:
            answer = await http.post(
                f"/command?connection={welcome['connection']}",
                json={"op": "publish", "id": number, "channel": "a", "data": number},
                headers={"Authorization": f"Bearer {welcome['secret']}"},
            )
            reply = answer.json()
            assert reply["id"] == number
            if "ok" in reply:
                done.append(reply["ok"]["offset"])
            else:
                error = reply["error"]
                told = (error["code"], error["retryable"], error["retry_after_seconds"])
                refused[answer.status_code, *told] += 1

        async with asyncio.TaskGroup() as tasks:
            for number in range(COMMANDS):
                tasks.create_task(command(number))
            most = MAY_WAIT + 1
            await eventually(
                lambda: refused.total() >= COMMANDS - most, seconds=60, what="the refusals"
            )
            assert began == ["a"]
            assert done == []
            gate.set()
        assert set(refused) == {(200, "rate_limited", True, 1)}
        # One that was begun counts as waiting until the loop has come to it.
        assert MAY_WAIT <= len(done) == COMMANDS - refused.total() <= most
        assert sorted(done) == list(range(1, len(done) + 1))
        assert len(began) == len(done)
