"""A better connection goes on for the present one: when it may, and with what."""

import asyncio
import json
from collections.abc import Callable

import pytest

from hub_client.life import Life
from hub_client.messages import Position
from hub_client.opening import Opened
from hub_client.sequence import Sequence
from hub_client.session import Delivered, Session, Welcomed
from hub_client.takeover import Takeover
from hub_client.transport import DisconnectedError
from tests.clients.python.fakes import DEADLINE_SECONDS, Json, message, reset, started


class Wire:
    """A connection whose frames a test puts into a queue."""

    transport = "websocket"
    starts_in_reply = True
    streams = True
    in_url: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.sent: asyncio.Queue[Json] = asyncio.Queue()

    def push(self, *pushes: Json) -> None:
        for push in pushes:
            self.frames.put_nowait(json.dumps(push).encode())

    def welcomed(self, connection: str, secret: str) -> None:
        raise NotImplementedError

    async def receive(self) -> bytes:
        return await self.frames.get()

    async def send(self, command_id: int, command: bytes) -> bytes | None:
        sent = json.loads(command)
        assert sent["id"] == command_id
        self.sent.put_nowait(sent)
        return None

    async def close(self) -> None:
        return


class Change:
    """Channel `a` over one connection, and another one that may go on."""

    def __init__(self, *, offset: int = 5) -> None:
        self.session = Session()
        place = Position("e1", offset)
        sequence = Sequence("a", since=place, last=None, fill=False)
        self.session.sequences["a"] = sequence
        sequence.subscribed(place)
        self.wire = Wire()
        self.present, self.better = life(Wire()), life(self.wire)
        self.takeover = Takeover(self.better, self.session)
        self.preparing = asyncio.create_task(self.takeover.prepare(self.present))

    async def start(self, position: str) -> Json:
        """The better connection's subscribe, answered."""
        command = await self.asked()
        self.wire.push(started(command, position))
        return command

    async def asked(self) -> Json:
        """The better connection's subscribe."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.wire.sent.get()

    def brought(self, *pushes: Json) -> None:
        """By the present connection."""
        for push in pushes:
            self.session.receive(json.dumps(push).encode())

    async def went_on(self) -> list[object]:
        """What the better connection brings to the application once it has gone on."""
        items: list[object] = []

        def hear(raw: bytes) -> None:
            event = self.session.receive(raw)
            items.extend(event.items if isinstance(event, Delivered) else ())

        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.go_on(hear)
        return items

    async def go_on(self, hear: Callable[[bytes], None]) -> None:
        """Wait until the better connection may, and hear all that it brings."""
        await self.preparing
        self.session.moved(self.takeover.starts, (), starts_in_reply=True)
        self.wire.push({"op": "end"})
        while b'"end"' not in (raw := await self.better.receive()):
            hear(raw)


def life(wire: Wire) -> Life:
    return Life(Opened(wire, Welcomed("c1", "s3cret", 25)))


def places(items: list[object]) -> list[str]:
    return [str(item.position) for item in items]  # type: ignore[attr-defined]  # compared here


async def test_it_asks_from_now_on_and_waits_for_the_present_one_to_come_that_far() -> None:
    """What lies between is the present one's; what both bring comes once."""
    change = Change()
    assert "since" not in await change.start("e1:7")
    change.wire.push(*(message("a", offset) for offset in (8, 9)))
    change.brought(message("a", 6))
    await asyncio.wait([change.preparing], timeout=0.2)
    assert not change.preparing.done()
    change.brought(message("a", 7), message("a", 8))
    assert places(await change.went_on()) == ["e1:9"]


async def test_what_has_no_offset_is_the_present_ones_while_there_are_two() -> None:
    """Plain Redis PUBLISH, joins and leaves would come twice otherwise."""
    change = Change()
    await change.start("e1:6")
    unsequenced = {**message("a", 0), "offset": None}
    join = {"op": "join", "channel": "a", "member": {"id": "ann", "connection": "c7"}}
    change.wire.push(unsequenced, join, message("a", 7))
    await asyncio.wait([change.preparing], timeout=0.2)
    change.brought(message("a", 6))
    assert places(await change.went_on()) == ["e1:7"]


async def test_a_reset_that_only_the_better_one_told_is_told_once() -> None:
    """And the new epoch goes on from there."""
    change = Change()
    await change.start("e1:5")
    change.wire.push(reset("a", "e2:0"), message("a", 1))
    assert places(await change.went_on()) == ["e2:0", "e2:1"]


async def test_it_does_not_go_on_in_another_epoch_than_the_present_one_is_in() -> None:
    """Offsets of two epochs do not compare: which is ahead nobody knows."""
    change = Change()
    await change.start("e0:1")
    await asyncio.wait([change.preparing], timeout=0.2)
    assert not change.preparing.done()
    change.preparing.cancel()


async def test_a_command_that_was_sent_has_its_reply_before_it_goes_on() -> None:
    """The present connection sends no more, and what waits there goes by the better one."""
    change = Change()
    command_id, _ = change.session.command("publish", channel="a", data=1)
    change.present.queue(change.session.command("ping"))
    await change.start("e1:5")
    await asyncio.wait([change.preparing], timeout=0.2)
    assert not change.preparing.done()
    assert not change.present.may_send
    change.brought({"op": "reply", "id": command_id, "ok": {}})
    await change.went_on()
    assert [json.loads(raw)["op"] for _, raw in change.present.unsent] == ["ping"]


@pytest.mark.parametrize("op", ["goodbye", "unsubscribed"])
async def test_where_it_may_not_stay_it_is_given_up_and_the_present_one_sends_again(
    op: str,
) -> None:
    """A node that is being emptied, an operator who ends the subscription."""
    change = Change()
    change.session.command("ping")
    await change.start("e1:5")
    change.wire.push({"op": op, "channel": "a", "code": 1012, "reason": "draining"})
    with pytest.raises(DisconnectedError, match="draining"):
        async with asyncio.timeout(DEADLINE_SECONDS):
            await change.preparing
    assert change.present.may_send


async def test_a_subscription_that_is_refused_there_is_a_reason_to_stay() -> None:
    """Another node may know another token."""
    change = Change()
    async with asyncio.timeout(DEADLINE_SECONDS):
        command = await change.wire.sent.get()
    error = {"code": "forbidden", "message": "no grant", "retryable": False}
    change.wire.push({"op": "reply", "id": command["id"], "error": error})
    with pytest.raises(DisconnectedError, match="no grant"):
        async with asyncio.timeout(DEADLINE_SECONDS):
            await change.preparing


async def test_a_command_that_comes_while_nothing_may_be_sent_waits_with_the_others() -> None:
    """Also for a writer that waited before: what it had taken could not be handed over."""
    present = life(Wire())
    writing = asyncio.create_task(present.next_command())
    await asyncio.sleep(0)
    present.may_send = False
    present.queue((1, b"{}"))
    await asyncio.wait([writing], timeout=0.1)
    assert not writing.done()
    assert present.unsent == ((1, b"{}"),)
    present.may_send = True
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await writing == (1, b"{}")
    assert len(present.unsent) == 0
