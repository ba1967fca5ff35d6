"""Arrays of many bytes are worked off a little in each turn of the loop, whatever they hold."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence

import httpx2 as httpx
import pytest

from hub import Hub, Settings
from hub.core.ports import PublishRequest, PublishResult
from hub.core.publishing import Publishing
from hub.errors import HubError
from hub.transports.http import batches
from hub.wire.payload import check_payload

PAYLOAD = json.dumps([[]] * 1000)
ITEMS = 300


def body(channel: str, *, last: str = PAYLOAD) -> bytes:
    items = [f'{{"channel":"{channel}","data":{PAYLOAD}}}'] * (ITEMS - 1)
    return f'[{",".join(items)},{{"channel":"{channel}","data":{last}}}]'.encode()


class Turns:
    """Counts the loop's turns, and what is judged in each."""

    def __init__(self, check: Callable[..., bytes]) -> None:
        self._check = check
        self._running = True
        self.turn = 0
        self.judged: Counter[int] = Counter()
        self._next()

    def _next(self) -> None:
        self.turn += 1
        if self._running:
            asyncio.get_running_loop().call_soon(self._next)

    def stop(self) -> None:
        self._running = False

    def check(self, raw: bytes, *, limit: int) -> bytes:
        self.judged[self.turn] += len(raw)
        return self._check(raw, limit=limit)


@pytest.mark.parametrize("together", [1, 3])
async def test_the_bytes_judged_in_a_turn_are_bounded_however_many_arrays_come(
    monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """The first bytes are judged as they come, and then one of the arrays has each turn."""
    turns = Turns(check_payload)
    monkeypatch.setattr(batches, "check_payload", turns.check)
    async with Hub(Settings(port=0, drain_seconds=0)) as hub:
        async with httpx.AsyncClient(base_url=hub.url, timeout=30) as http:
            posts = [http.post("/api/publish", content=body(f"c{n}")) for n in range(together)]
            answers = await asyncio.gather(*posts)
    turns.stop()
    for answer in answers:
        assert answer.status_code == 200
        assert [each["offset"] for each in answer.json()] == list(range(1, ITEMS + 1))
    assert sum(turns.judged.values()) == together * ITEMS * len(PAYLOAD)
    assert max(turns.judged.values()) <= 64 * 1024 + len(PAYLOAD)


async def test_an_item_at_the_end_that_is_refused_takes_no_other_with_it() -> None:
    async with (
        Hub(Settings(port=0, drain_seconds=0)) as hub,
        httpx.AsyncClient(base_url=hub.url, timeout=30) as http,
    ):
        answer = await http.post("/api/publish", content=body("c", last="1e999"))
    assert answer.status_code == 207
    told = answer.json()
    assert [each["offset"] for each in told[:-1]] == list(range(1, ITEMS))
    assert told[-1]["code"] == "bad_request"


async def test_a_slice_that_goes_one_by_one_has_nothing_before_it_published_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The backlog reaches its bound between two turns, so the node does not make the second
    slice in one call. The first slice is published already, and is not published again."""
    many, calls = Publishing.publish_many_now, 0

    def none_for_the_second(
        publishing: Publishing, requests: Sequence[PublishRequest]
    ) -> Sequence[PublishResult | HubError] | None:
        nonlocal calls
        calls += 1
        return None if calls == 2 else many(publishing, requests)

    monkeypatch.setattr(Publishing, "publish_many_now", none_for_the_second)
    async with (
        Hub(Settings(port=0, drain_seconds=0)) as hub,
        httpx.AsyncClient(base_url=hub.url, timeout=30) as http,
    ):
        answer = await http.post("/api/publish", content=body("c"))
    assert [each["offset"] for each in answer.json()] == list(range(1, ITEMS + 1))
    assert calls > 2
