"""Commands, asked in the WebSocket itself and over `POST /command` for SSE and polling."""

from typing import Any

import httpx2 as httpx
import pytest

from tests.support.foreign_server import ForeignServer
from tests.support.hub_process import HubProcess
from tests.transports.conftest import Open
from tests.transports.peers import Json
from tests.transports.test_contract import publish


def error_of(reply: Json) -> Any:
    """The code of an error reply, which explains itself and says whether to retry."""
    error = reply["error"]
    assert set(error) >= {"code", "message", "retryable"}
    return error["code"]


@pytest.fixture(params=["own_listener", "foreign"])
def process(request: pytest.FixtureRequest) -> HubProcess | ForeignServer:
    """Behind the hub's own listener, and under somebody else's server."""
    server: HubProcess | ForeignServer = request.getfixturevalue(request.param)
    return server


async def test_a_channel_is_added_by_command(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """The reply says where it starts, and its messages follow."""
    first, second = f"{channel}.a", f"{channel}.b"
    [answer] = await publish(http, second, "before")
    async with open_peer(first) as peer:
        reply = await peer.command(op="subscribe", channel=second)
        assert reply["ok"] == {
            "channel": second,
            "position": f"{answer['epoch']}:1",
            "recovered": True,
            "replayed": 0,
        }
        await publish(http, second, "after")
        await publish(http, first, "too")
        came = [await peer.message() for _ in range(2)]
    assert [(push["channel"], push["data"]) for push in came] == [
        (second, "after"),
        (first, "too"),
    ]


async def test_a_channel_added_by_command_resumes(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    first, second = f"{channel}.a", f"{channel}.b"
    answers = await publish(http, second, 1, 2, 3)
    async with open_peer(first) as peer:
        reply = await peer.command(op="subscribe", channel=second, since=f"{answers[0]['epoch']}:1")
        assert (reply["ok"]["recovered"], reply["ok"]["replayed"]) == (True, 2)
        assert await peer.data(2) == [2, 3]


async def test_after_unsubscribe_nothing_of_the_channel_comes(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    gone, kept = f"{channel}.a", f"{channel}.b"
    async with open_peer(gone, kept) as peer:
        await publish(http, gone, 1)
        assert (await peer.message())["channel"] == gone
        reply = await peer.command(op="unsubscribe", channel=gone)
        assert reply["ok"] == {"channel": gone}
        await publish(http, gone, 2)
        await publish(http, kept, 3)
        assert (await peer.message())["data"] == 3


async def test_history_tells_what_is_held(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """Oldest first, after `since`, at most `limit`."""
    answers = await publish(http, channel, "a", "b", "c", "d")
    async with open_peer(channel) as peer:
        since = f"{answers[0]['epoch']}:1"
        ok = (await peer.command(op="history", channel=channel, since=since, limit=2))["ok"]
    assert [item["data"] for item in ok["publications"]] == ["b", "c"]
    assert (ok["position"], ok["oldest"]) == (f"{answers[0]['epoch']}:4", 1)


async def test_history_is_read_backwards_and_from_a_moment_on(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """Newest first, page by page until `next` is null; a moment as a number and as text."""
    answers = await publish(http, channel, 1, 2, 3)
    async with open_peer(channel) as peer:
        wanted: Json = {"op": "history", "channel": channel, "reverse": True, "limit": 2}
        newest = (await peer.command(**wanted))["ok"]
        older = (await peer.command(**wanted, since=newest["next"]))["ok"]
        moment = newest["publications"][0]["time"]
        late = (await peer.command(op="history", channel=channel, from_time=moment))["ok"]
        text = "9999-12-31T00:00:00Z"
        none = (await peer.command(op="history", channel=channel, from_time=text))["ok"]
    assert [each["data"] for each in newest["publications"]] == [3, 2]
    assert newest["next"] == f"{answers[0]['epoch']}:2"
    assert ([each["data"] for each in older["publications"]], older["next"]) == ([1], None)
    assert [each["data"] for each in late["publications"]][-1] == 3
    assert all(each["time"] >= moment for each in late["publications"])
    assert (none["publications"], none["next"], none["complete"]) == ([], None, True)


async def test_a_session_publishes(open_peer: Open, channel: str) -> None:
    """The reply has the position, and the session gets its own publication."""
    async with open_peer(channel) as peer:
        ok = (await peer.command(op="publish", channel=channel, data={"x": 1}, key="k"))["ok"]
        message = await peer.message()
    assert (ok["channel"], ok["offset"]) == (channel, 1)
    assert (message["data"], message["key"], message["offset"]) == ({"x": 1}, "k", 1)


async def test_without_echo_the_publisher_alone_does_not_get_it_back(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """Others get it, and the publisher's next position counts it."""
    async with open_peer(channel) as peer, open_peer(channel) as other:
        reply = await peer.command(op="publish", channel=channel, data=1, echo=False)
        assert reply["ok"]["offset"] == 1
        await publish(http, channel, 2)
        mine, theirs = await peer.message(), await other.data(2)
    assert (mine["data"], mine["offset"]) == (2, 2)
    assert theirs == [1, 2]


async def test_a_repeated_idempotency_key_publishes_once(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    async with open_peer(channel) as peer:
        asked: Json = {"op": "publish", "channel": channel, "idempotency_key": "once"}
        first = await peer.command(data=1, **asked)
        again = await peer.command(data=1, **asked)
        other = await peer.command(data=2, **asked)
        await publish(http, channel, "next")
        assert await peer.data(2) == [1, "next"]
    assert again["ok"] == first["ok"] | {"duplicate": True}
    assert error_of(other) == "conflict"


async def test_ping_is_answered(open_peer: Open, channel: str) -> None:
    async with open_peer(channel) as peer:
        assert await peer.command(op="ping", id="mine") == {"op": "reply", "id": "mine", "ok": {}}


async def test_members_join_and_leave(open_peer: Open, channel: str) -> None:
    """The command lists the members, and pushes tell who comes and goes, in the channel's order."""
    room = f"room:{channel}"
    async with open_peer(room) as peer:
        me = peer.welcome["connection"]
        assert await _presence_push(peer) == ("join", me)
        async with open_peer(room) as guest:
            them = guest.welcome["connection"]
            assert await _presence_push(peer) == ("join", them)
            ok = (await peer.command(op="presence", channel=room))["ok"]
            assert ok["members"] == [{"id": me, "connection": me}, {"id": them, "connection": them}]
            await guest.command(op="unsubscribe", channel=room)
        assert await _presence_push(peer) == ("leave", them)
        ok = (await peer.command(op="presence", channel=room))["ok"]
        assert [member["id"] for member in ok["members"]] == [me]


async def _presence_push(peer: Any) -> tuple[str, str]:
    while (push := await peer.push())["op"] == "subscribed":
        pass
    return push["op"], push["member"]["connection"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"op": "dance"}, "bad_request"),
        ({"channel": "x"}, "bad_request"),
        ({"op": "subscribe"}, "bad_request"),
        ({"op": "subscribe", "channel": 7}, "bad_request"),
        ({"op": "subscribe", "channel": "no spaces"}, "bad_request"),
        ({"op": "subscribe", "channel": ""}, "bad_request"),
        ({"op": "subscribe", "channel": "x" * 201}, "bad_request"),
        ({"op": "subscribe", "channel": "x", "since": "nowhere"}, "bad_request"),
        ({"op": "subscribe", "channel": "x", "last": -1}, "bad_request"),
        ({"op": "unsubscribe", "channel": "never-subscribed"}, "bad_request"),
        ({"op": "publish", "channel": "x"}, "bad_request"),
        ({"op": "publish", "channel": "x", "data": "y" * 70_000}, "too_large"),
        ({"op": "history", "channel": "x", "limit": 0}, "bad_request"),
        ({"op": "history", "channel": "x", "limit": 1001}, "bad_request"),
        ({"op": "history", "channel": "x", "limit": 0, "reverse": True}, "bad_request"),
        ({"op": "history", "channel": "x", "from_time": "yesterday"}, "bad_request"),
        ({"op": "history", "channel": "x", "from_time": -1}, "bad_request"),
        ({"op": "presence", "channel": "no-presence-here"}, "bad_request"),
        ({"op": "authenticate", "token": "x.y.z"}, "unauthorized"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_a_wrong_command_is_a_reply_and_the_session_lives_on(
    http: httpx.AsyncClient, open_peer: Open, channel: str, fields: Json, code: str
) -> None:
    async with open_peer(channel) as peer:
        assert error_of(await peer.command(**fields)) == code
        await publish(http, channel, "still here")
        assert await peer.data(1) == ["still here"]


async def test_a_command_needs_the_secret_of_its_connection(
    http: httpx.AsyncClient, open_peer: Open, channel: str
) -> None:
    """No secret and a wrong one are 401, also for a connection that does not exist."""
    ping = b'{"op":"ping","id":1}'
    async with open_peer(channel) as peer:
        own, secret = peer.welcome["connection"], peer.welcome["secret"]
        for connection, header in [
            (own, {}),
            (own, {"Authorization": "Bearer wrong"}),
            (own, {"Authorization": f"Basic {secret}"}),
            ("0123456789abcdef", {"Authorization": f"Bearer {secret}"}),
        ]:
            answer = await http.post(
                "/command", params={"connection": connection}, headers=header, content=ping
            )
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    none = await http.post("/command", headers={"Authorization": "Bearer x"}, content=ping)
    assert (none.status_code, none.json()["code"]) == (400, "bad_request")
