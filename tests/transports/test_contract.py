"""Every transport owes its peers the same, and is asked the same questions."""

import asyncio
from typing import Any

import httpx2 as httpx
import pytest
from websockets.exceptions import ConnectionClosedError

from hub.core.ports import MAX_AGENT_CHARACTERS
from tests.support.foreign_server import ForeignServer
from tests.support.hub_process import HubProcess
from tests.transports.conftest import Open
from tests.transports.peers import Json


@pytest.fixture(params=["own_listener", "foreign"])
def process(request: pytest.FixtureRequest) -> HubProcess | ForeignServer:
    """Behind the hub's own listener, and under somebody else's server."""
    server: HubProcess | ForeignServer = request.getfixturevalue(request.param)
    return server


async def publish(http: httpx.AsyncClient, channel: str, *data: object) -> list[Json]:
    """Publish one after another; returns the answers."""
    answers = []
    for item in data:
        answer = await http.post(f"/api/publish/{channel}", json=item)
        assert answer.status_code == 200, answer.text
        answers.append(answer.json())
    return answers


async def test_publications_arrive_in_order_with_offset_time_and_data(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """A subscriber from the URL alone sees every publication, numbered from 1."""
    async with open_peer(channel) as peer:
        await publish(http, channel, {"n": 1}, [2], "three", False)
        came = [await peer.message() for _ in range(4)]
    assert [push["data"] for push in came] == [{"n": 1}, [2], "three", False]
    assert [push["offset"] for push in came] == [1, 2, 3, 4]
    assert all(push["channel"] == channel and push["time"] > 1.7e12 for push in came)


async def test_data_arrives_byte_for_byte(
    process: Any, http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """A 23-digit integer stays one, and so does every escape."""
    raw = b'{"big":12345678901234567890123,"e":1.0e5,"u":"\\u00e9\\/"}'
    async with open_peer(channel) as peer:
        await http.post(f"/api/publish/{channel}", content=raw)
        data = (await peer.message())["data"]
    assert data["big"] == 12345678901234567890123
    assert data == {"big": 12345678901234567890123, "e": 1.0e5, "u": "é/"}


async def test_the_key_of_a_publication_comes_with_it(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    async with open_peer(channel) as peer:
        await http.post(f"/api/publish/{channel}", json=1, params={"key": "ключ"})
        assert (await peer.message())["key"] == "ключ"


async def test_several_channels_share_a_connection(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """Each channel keeps its own order."""
    names = [f"{channel}.{letter}" for letter in "abc"]
    async with open_peer(*names) as peer:
        for number in range(5):
            for name in names:
                await publish(http, name, number)
        came = [await peer.message() for _ in range(15)]
    for name in names:
        assert [p["data"] for p in came if p["channel"] == name] == [0, 1, 2, 3, 4]


async def test_last_begins_with_the_newest_publications(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    await publish(http, channel, *range(1, 8))
    async with open_peer(channel, last="3") as peer:
        await publish(http, channel, 8)
        assert await peer.data(4) == [5, 6, 7, 8]


async def test_last_of_more_than_was_published_is_everything(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    await publish(http, channel, 1, 2)
    async with open_peer(channel, last="50") as peer:
        assert await peer.data(2) == [1, 2]


async def test_since_replays_exactly_what_was_missed_while_publications_keep_arriving(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """No offset comes twice and none is missing, across replay, seam and live stream."""
    missed = [{"channel": channel, "data": number} for number in range(1, 201)]
    first = (await http.post("/api/publish", json=missed)).raise_for_status().json()[9]
    more = asyncio.create_task(publish(http, channel, *range(201, 351)))
    async with open_peer(channel, since={channel: f"{first['epoch']}:{first['offset']}"}) as peer:
        came = [await peer.message() for _ in range(340)]
    await more
    assert [push["offset"] for push in came] == list(range(11, 351))
    assert [push["data"] for push in came] == list(range(11, 351))


async def test_a_position_of_another_epoch_gives_one_reset_and_then_what_history_holds(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    [answer, _] = await publish(http, channel, 1, 2)
    async with open_peer(channel, since={channel: "elsewhere:7"}) as peer:
        await publish(http, channel, 3)
        came = await _channel_pushes(peer, 4)
    gap, *messages = came
    assert gap == {
        "op": "gap",
        "channel": channel,
        "epoch": answer["epoch"],
        "position": f"{answer['epoch']}:0",
        "reason": "reset",
    }
    assert [push["data"] for push in messages] == [1, 2, 3]


async def _channel_pushes(peer: Any, count: int) -> list[Json]:
    """The next pushes that are messages or gaps."""
    came: list[Json] = []
    while len(came) < count:
        if (push := await peer.push())["op"] in {"message", "gap"}:
            came.append(push)
    return came


async def test_a_position_beyond_the_head_gives_a_reset_to_the_head(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """The peer knows what this hub never gave out: it goes on from the head."""
    [answer] = await publish(http, channel, 1)
    async with open_peer(channel, since={channel: f"{answer['epoch']}:99"}) as peer:
        await publish(http, channel, 2)
        gap, message = await _channel_pushes(peer, 2)
    assert (gap["reason"], gap["position"]) == ("reset", f"{answer['epoch']}:1")
    assert message["data"] == 2


async def test_a_range_that_history_no_longer_holds_is_an_exact_gap(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """The gap stands where the missing publications would have."""
    channel = f"short:{channel}"
    first, *_ = await publish(http, channel, *range(1, 11))
    async with open_peer(channel, since={channel: f"{first['epoch']}:2"}) as peer:
        gap, *messages = await _channel_pushes(peer, 4)
    assert (gap["reason"], gap["epoch"], gap["from"], gap["to"]) == (
        "expired",
        first["epoch"],
        3,
        7,
    )
    assert [push["offset"] for push in messages] == [8, 9, 10]


async def test_without_history_a_resume_announces_all_that_was_missed(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    channel = f"bare:{channel}"
    first, *_ = await publish(http, channel, 1, 2, 3)
    async with open_peer(channel, since={channel: f"{first['epoch']}:1"}) as peer:
        await publish(http, channel, 4)
        gap, message = await _channel_pushes(peer, 2)
    assert (gap["reason"], gap["from"], gap["to"]) == ("expired", 2, 3)
    assert (message["offset"], message["data"]) == (4, 4)


async def test_a_resume_from_the_head_announces_nothing(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """A calm hub announces no gap."""
    [answer] = await publish(http, channel, 1)
    async with open_peer(channel, since={channel: f"{answer['epoch']}:1"}) as peer:
        await publish(http, channel, 2)
        [message] = await _channel_pushes(peer, 1)
    assert message["data"] == 2


async def test_a_channel_that_nobody_published_to_has_a_position(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """`epoch:0` is what its first publication follows."""
    async with open_peer(channel) as peer:
        position = await _position(peer, channel)
        epoch, offset = position.rsplit(":", 1)
        [answer] = await publish(http, channel, 1)
    assert (offset, answer["epoch"], answer["offset"]) == ("0", epoch, 1)


async def _position(peer: Any, channel: str) -> str:
    if peer.transport == "poll":
        position = peer.positions[channel]
    else:
        subscribed = await peer.push()
        assert subscribed["op"] == "subscribed"
        position = subscribed["position"]
    assert isinstance(position, str)
    return position


async def test_the_welcome_says_who_and_how_often(open_peer: Open, channel: str) -> None:
    async with open_peer(channel) as peer:
        welcome = peer.welcome
    assert set(welcome) == {"op", "connection", "node", "heartbeat_seconds", "version", "secret"}
    assert (welcome["node"], welcome["heartbeat_seconds"]) == ("test-node", 1)


@pytest.mark.parametrize("bad", ["plain", "k:x", ":1", "k:-1", "k:99999999999999999999"])
async def test_a_malformed_since_is_refused(open_peer: Open, channel: str, bad: str) -> None:
    """With a status over HTTP, and a close code over WebSocket."""
    with pytest.raises((AssertionError, ConnectionClosedError), match=r"bad_request|4400"):
        async with open_peer(channel, since={channel: bad}):
            pass


async def test_of_a_long_user_agent_only_its_beginning_is_kept(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """A peer may send kilobytes: they must not stay in memory, nor make lists of them."""
    async with open_peer(channel, headers={"User-Agent": "a browser " + "x" * 4000}):
        (row,) = (await http.get("/api/connections", params={"channel": channel})).json()[
            "connections"
        ]
    assert row["user_agent"] == "a browser " + "x" * (MAX_AGENT_CHARACTERS - 10)


async def test_a_url_may_ask_for_the_newest_now_and_then(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """The first comes at once, and later the newest of all that came meanwhile."""
    async with open_peer(channel, every_ms="1000") as peer:
        await publish(http, channel, *range(5))
        came = [await peer.message() for _ in range(2)]
    assert came[0]["data"] == 0
    assert came[1]["data"] > 1


async def test_the_interval_of_a_url_holds_back_what_is_not_due(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """For each channel by itself, and without a gap; a resume brings what waited."""
    async with open_peer(channel, f"{channel}.other", every_ms="3600000") as peer:
        await publish(http, channel, 1, 2, 3)
        await publish(http, f"{channel}.other", 4, 5)
        assert await peer.data(2) == [1, 4]
        place = f"{(await http.get(f'/api/channels/{channel}/history')).json()['epoch']}:1"
    async with open_peer(channel, since={channel: place}, every_ms="3600000") as again:
        assert await again.data(2) == [2, 3]
