"""Nodes of two versions, each with functions of its own in one Redis, are one hub."""

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import httpx2 as httpx
from websockets.asyncio.client import ClientConnection, connect

import hub
from tests.multi_node.fleet import SETTINGS, Seat, publish
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

COUNT = 40
FUNCTIONS = Path("brokers/redis/lua/library.lua")


class OtherHub(HubProcess):
    """Runs the copy that PYTHONPATH leads to, not the one in the working directory."""

    program = ("-P", "-m", "hub", "serve")


def another_version(directory: Path) -> Path:
    """A copy of the hub whose functions have another text, and so names of their own."""
    copy = directory / "hub"
    shutil.copytree(Path(hub.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / FUNCTIONS).open("a") as functions:
        functions.write("\n-- another version\n")
    return directory


async def test_two_versions_share_numbers_history_and_keys(
    redis: RedisServer, channel: str, tmp_path: Path
) -> None:
    """As in the middle of a roll-out: one sequence, one history, one memory of retries."""
    settings = SETTINGS | {"HUB_BROKER": redis.url, "HUB_LOG_LEVEL": "info"}
    other = str(another_version(tmp_path))
    with (
        HubProcess(allow_tracebacks=False, **settings, HUB_NODE="old") as old,
        OtherHub(allow_tracebacks=False, **settings, HUB_NODE="new", PYTHONPATH=other) as new,
    ):
        libraries = redis.ask("FUNCTION", "LIST", "LIBRARYNAME", "hub_*")
        assert libraries.count(b"library_name") == 2
        seats = [Seat(channel, "at the old"), Seat(channel, "at the new")]
        for seat, node in zip(seats, (old, new), strict=True):
            await seat.join(node)
        offsets = []
        for number in range(COUNT):
            for node in (old, new) if number % 2 else (new, old):
                answer = await publish(node, channel, number, key=str(number))
                assert answer.status_code == 200
                offsets.append(answer.json()["offset"])
        assert offsets == [offset for offset in range(1, COUNT + 1) for _ in range(2)]
        await eventually(lambda: all(len(seat.view.delivered) == COUNT for seat in seats))
        await seats[0].leave()
        await publish(new, channel, COUNT)
        await seats[0].join(new)
        await eventually(lambda: len(seats[0].view.delivered) == COUNT + 1)
        assert not seats[0].view.announced
        assert [seat.view.faults for seat in seats] == [[], []]
        await seats[0].leave()
        await seats[1].leave()


async def test_data_of_members_is_kept_by_a_version_that_knows_less(
    redis: RedisServer, channel: str, tmp_path: Path
) -> None:
    """The newer one says more of a member; both list everybody, and births reach both."""
    other = another_version(tmp_path)
    messages = other / "hub/brokers/redis/channels/messages.py"
    before = "member.data.decode(), member.said_ms)"
    text = messages.read_text()
    assert text.count(before) == 1
    messages.write_text(text.replace(before, 'member.data.decode(), member.said_ms, {"more": 1})'))
    room = f"room:{channel}"
    settings = SETTINGS | {
        "HUB_BROKER": redis.url,
        "HUB_LOG_LEVEL": "info",
        "HUB_NAMESPACES": '{"room":{"presence":true}}',
    }
    with (
        HubProcess(allow_tracebacks=False, **settings, HUB_NODE="old") as old,
        OtherHub(allow_tracebacks=False, **settings, HUB_NODE="new", PYTHONPATH=str(other)) as new,
    ):
        async with connect(old.ws_url) as one, connect(new.ws_url) as two:
            for number, peer in enumerate((one, two)):
                command = {
                    "op": "subscribe",
                    "id": 1,
                    "channel": room,
                    "presence": {"data": number},
                }
                await peer.send(json.dumps(command))
                await peer.send(json.dumps({"op": "subscribe", "id": 2, "pattern": "born:*"}))

            async def data(node: HubProcess) -> list[object]:
                async with httpx.AsyncClient() as client:
                    told = (await client.get(f"{node.url}/api/channels/{room}/presence")).json()
                return sorted(member["data"] for member in told["members"])

            for node in (old, new):
                await eventually(partial(_is, partial(data, node), [0, 1]))
            born = {f"born:{number}" for number in range(4)}
            for name, node in zip(sorted(born), (old, new, old, new), strict=True):
                assert (await publish(node, name, 1)).status_code == 200
            for peer in (one, two):
                assert await _channels(peer, len(born)) == born


async def _is(ask: Callable[[], Awaitable[object]], expected: object) -> bool:
    return await ask() == expected


async def _channels(peer: ClientConnection, count: int) -> set[str]:
    """Of the next messages."""
    found: set[str] = set()
    async with asyncio.timeout(30):
        while len(found) < count:
            push = json.loads(await peer.recv())
            if push["op"] == "message":
                found.add(push["channel"])
    return found
