"""Event ids of a stream, and what a `Last-Event-ID` brings back."""

from collections.abc import Callable

import httpx2 as httpx
import pytest

from tests.support.hub_process import HubProcess
from tests.transports.conftest import Open
from tests.transports.peers import PollPeer, Query, SsePeer
from tests.transports.test_contract import publish


def stream(
    process: HubProcess, *channels: str, header: str | None = None, **query: object
) -> SsePeer:
    headers = {} if header is None else {"Last-Event-ID": header}
    return SsePeer(process.url, Query(*channels, **query), headers)  # type: ignore[arg-type] # handed through


async def id_of(peer: SsePeer, is_it: Callable[[str], bool]) -> str:
    """Read on until the stream's last event id is the one looked for."""
    while not is_it(peer.last_event_id):
        await peer._read()
    return peer.last_event_id


async def test_with_one_channel_every_event_carries_its_position(
    process: HubProcess, http: httpx.AsyncClient, channel: str
) -> None:
    async with stream(process, channel) as peer:
        subscribed = await peer.push()
        assert peer.last_event_id == subscribed["position"]
        for number in (1, 2, 3):
            [answer] = await publish(http, channel, number)
            await peer.message()
            assert peer.last_event_id == f"{answer['epoch']}:{number}"


async def test_a_channel_resumes_from_its_last_event_id(
    process: HubProcess, http: httpx.AsyncClient, channel: str
) -> None:
    async with stream(process, channel) as peer:
        await publish(http, channel, 1)
        await peer.message()
        seen = peer.last_event_id
    await publish(http, channel, 2, 3)
    async with stream(process, channel, header=seen) as peer:
        assert await peer.data(2) == [2, 3]


async def test_with_several_channels_one_id_resumes_every_one(
    process: HubProcess, http: httpx.AsyncClient, channel: str
) -> None:
    """A block of only `id:` follows each tick; its text brings back all of them."""
    names = [f"{channel}.{letter}" for letter in "abc"]
    async with stream(process, *names) as peer:
        for name in names:
            await publish(http, name, f"{name} 1")
        await peer.data(3)
        seen = await id_of(peer, lambda text: text.count(":1") == 3)
    for name in names:
        await publish(http, name, f"{name} 2", f"{name} 3")
    async with stream(process, *names, header=seen) as peer:
        came = [await peer.message() for _ in range(6)]
    for name in names:
        assert [p["data"] for p in came if p["channel"] == name] == [f"{name} 2", f"{name} 3"]


async def test_an_id_comes_before_any_message(process: HubProcess, channel: str) -> None:
    """A cut before the first message loses no position of any channel."""
    names = {f"{channel}.a", f"{channel}.b"}
    async with stream(process, *sorted(names)) as peer:
        text = await id_of(peer, lambda text: text.count("=") == 2)
    assert {pair.partition("=")[0] for pair in text.split(",")} == names


async def test_a_channel_added_by_command_does_not_spoil_the_resume_of_the_url(
    process: HubProcess, http: httpx.AsyncClient, channel: str
) -> None:
    """An `EventSource` repeats its first URL with an id that names the added channel too."""
    first, added = f"{channel}.a", f"{channel}.b"
    async with stream(process, first) as peer:
        await peer.command(op="subscribe", channel=added)
        await publish(http, first, 1)
        await publish(http, added, 1)
        await peer.data(2)
        seen = await id_of(peer, lambda text: text.count(":1") == 2)
    await publish(http, first, 2)
    async with stream(process, first, header=seen) as peer:
        assert (await peer.push())["recovered"] is True
        assert await peer.data(1) == [2]


@pytest.mark.parametrize(
    ("header", "parameter", "since", "expected"),
    [
        (1, 2, 3, [2, 3, 4]),
        (None, 2, 3, [3, 4]),
        (None, None, 3, [4]),
    ],
)
async def test_the_header_wins_over_the_parameter_which_wins_over_since(
    process: HubProcess,
    http: httpx.AsyncClient,
    channel: str,
    header: int | None,
    parameter: int | None,
    since: int,
    expected: list[int],
) -> None:
    """A reconnecting `EventSource` sends the header beside the URL it began with."""
    epoch = (await publish(http, channel, 1, 2, 3, 4))[0]["epoch"]
    more = {} if parameter is None else {"last_event_id": f"{epoch}:{parameter}"}
    text = None if header is None else f"{epoch}:{header}"
    query = {"since": {channel: f"{epoch}:{since}"}} | more
    async with stream(process, channel, header=text, **query) as peer:
        assert await peer.data(len(expected)) == expected


async def test_a_gap_moves_the_event_id(
    process: HubProcess, http: httpx.AsyncClient, channel: str
) -> None:
    """A cut right behind a gap announces it no second time."""
    channel = f"bare:{channel}"
    epoch = (await publish(http, channel, 1, 2))[0]["epoch"]
    async with stream(process, channel, since={channel: f"{epoch}:1"}) as peer:
        await peer.push()
        assert (await peer.push())["op"] == "gap"
        assert peer.last_event_id == f"{epoch}:2"


async def test_a_stream_says_when_to_come_back_and_that_it_must_not_be_buffered(
    process: HubProcess, channel: str
) -> None:
    async with stream(process, channel) as peer:
        assert peer.retry > 0
        assert peer._response.headers["x-accel-buffering"] == "no"
        assert "no-transform" in peer._response.headers["cache-control"]


async def test_more_channels_than_an_id_can_carry_are_refused(
    http: httpx.AsyncClient, channel: str
) -> None:
    query = Query(*(f"{channel}.{number}" for number in range(33))).text
    answer = await http.get(f"/sse?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "too_many_subscriptions")


async def test_heartbeats_come_without_any_message(open_peer: Open, channel: str) -> None:
    """At least one frame in `heartbeat_seconds`; a poll is answered instead."""
    async with open_peer(channel) as peer:
        if isinstance(peer, PollPeer):
            said = await peer.poll(f"connection={peer.welcome['connection']}&wait=0.05")
            assert said["pushes"] == []
            return
        while peer.heartbeats < 1:
            await peer._read()
