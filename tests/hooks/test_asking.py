"""A real node asks a real small application who may connect, subscribe and publish."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from websockets.exceptions import ConnectionClosed

from hub import Hub, Settings
from tests.support.application import Answer, Application, Asked, says
from tests.transports.peers import Query, SsePeer, WebSocketPeer, http_client

SIGNING, PUBLISH = "s" * 32, "p" * 32


@pytest.fixture
async def app() -> AsyncIterator[Application]:
    async with Application() as app:
        yield app


def settings(app: Application, hooks: str = "connect,subscribe,publish", **more: Any) -> Settings:
    return Settings(port=0, drain_seconds=0, hook_url=app.url, hooks=hooks, **more)


def token(sub: str) -> str:
    grants = {"subscribe": ["*"], "publish": ["*"]}
    claims = {"sub": sub, "exp": time.time() + 3600, "hub": grants}
    return jwt.encode(claims, SIGNING, algorithm="HS256")


async def goodbye(peer: WebSocketPeer) -> tuple[int, str]:
    while (push := await peer.push())["op"] != "goodbye":
        pass
    return push["code"], push["reason"]


async def refused(hub: Hub, *channels: str, **headers: str) -> tuple[int, str]:
    """How a WebSocket is closed that is refused."""
    peer = WebSocketPeer(hub.url, Query(*channels), headers)
    with pytest.raises(ConnectionClosed) as closed:
        await peer.__aenter__()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


async def test_each_hook_says_what_is_asked(app: Application, channel: str) -> None:
    """Names of the connection, the subject, the address, few headers, the channel and the data."""
    async with Hub(settings(app, token_keys=SIGNING)) as hub:
        headers = {"Authorization": f"Bearer {token('ann')}", "Cookie": "a=b", "X-Secret": "no"}
        async with WebSocketPeer(hub.url, Query(), headers) as peer:
            await peer.command(op="subscribe", channel=channel)
            reply = await peer.command(op="publish", channel=channel, data={"n": 1})
            assert "ok" in reply
            assert await peer.data(1) == [{"n": 1}]
            connection = peer.welcome["connection"]
    [connect], [subscribe], [publish] = map(app.questions, ("connect", "subscribe", "publish"))
    told = connect.pop("headers")
    assert connect == {
        "hook": "connect", "connection": connection, "sub": "ann", "address": "127.0.0.1"
    }  # fmt: skip
    assert told["cookie"] == "a=b"
    assert not {"authorization", "x-secret"} & told.keys()
    assert (subscribe["connection"], subscribe["channel"]) == (connection, channel)
    assert (publish["sub"], publish["channel"], publish["data"]) == ("ann", channel, {"n": 1})
    assert "data" not in subscribe


async def test_data_that_a_member_shows_is_the_applications_to_judge(
    app: Application, channel: str
) -> None:
    """With the subscription and whenever it changes; a refusal leaves it as it was."""

    async def decent(asked: Asked) -> Answer:
        shown = asked.json.get("presence", {}).get("data")
        return says(allow=shown != "rude", reason="not that")

    app.answer = decent
    async with (
        Hub(settings(app, "subscribe", presence=True)) as hub,
        WebSocketPeer(hub.url, Query(), {}) as peer,
    ):
        for shown in ("rude", {"n": 1}):
            asked = {"op": "subscribe", "channel": channel, "presence": {"data": shown}}
            reply = await peer.command(**asked)
            assert ("error" in reply) is (shown == "rude")
        reply = await peer.command(op="presence_update", channel=channel, data="rude")
        assert (reply["error"]["code"], reply["error"]["message"]) == ("forbidden", "not that")
        members = (await peer.command(op="presence", channel=channel))["ok"]["members"]
        assert [each["data"] for each in members] == [{"n": 1}]
        assert "ok" in await peer.command(op="presence_update", channel=channel, data=2)
        before = len(app.asked)
        reply = await peer.command(op="presence_update", channel="elsewhere", data=3)
        assert (reply["error"]["code"], len(app.asked)) == ("bad_request", before)
    told = [each.get("presence") for each in app.questions("subscribe")]
    assert told == [{"data": each} for each in ("rude", {"n": 1}, "rude", 2)]


async def test_an_application_that_refuses_gives_its_reason(app: Application, channel: str) -> None:
    async def no(asked: Asked) -> Answer:
        return says(allow=asked.json["hook"] == "connect", reason="not you")

    app.answer = no
    async with Hub(settings(app)) as hub, WebSocketPeer(hub.url, Query(), {}) as peer:
        for op in ("subscribe", "history", "presence"):
            reply = await peer.command(op=op, channel=channel)
            assert (reply["error"]["code"], reply["error"]["message"]) == ("forbidden", "not you")
        reply = await peer.command(op="publish", channel=channel, data=1)
        assert (reply["error"]["code"], reply["error"]["message"]) == ("forbidden", "not you")
        assert await refused(hub, channel) == (4403, "not you")
        async with http_client(base_url=hub.url) as http:
            for path in ("/sse", "/poll"):
                answer = await http.get(path, params={"channel": channel})
                assert (answer.status_code, answer.json()["detail"]) == (403, "not you")
            answer = await http.get(f"/api/channels/{channel}/history")
            assert answer.status_code == 403
            answer = await http.post(f"/api/publish/{channel}", json=1)
            assert answer.status_code == 403
            answer = await http.post("/api/publish", json=[{"channel": channel, "data": 1}])
            assert answer.status_code == 403
            assert (await http.get("/api/channels")).json()["channels"] == []
            assert 'hub_refusals_total{reason="application"}' in (await http.get("/metrics")).text


async def test_the_application_decides_who_comes_in_and_with_which_rights(
    app: Application, channel: str
) -> None:
    """A cookie of the application's is enough where the hub has no credential at all."""

    async def by_cookie(asked: Asked) -> Answer:
        assert asked.json["headers"].get("cookie") == "session=7", asked.json
        grants = {"subscribe": [channel, "user:{sub}:*"], "publish": []}
        return says(allow=True, sub="ann", grants=grants)

    app.answer = by_cookie
    cookie = {"Cookie": "session=7"}
    async with Hub(settings(app, "connect", token_keys=SIGNING, publish_keys=PUBLISH)) as hub:
        async with WebSocketPeer(hub.url, Query(channel), cookie) as peer:
            assert "ok" in await peer.command(op="subscribe", channel="user:ann:x")
            reply = await peer.command(op="subscribe", channel="user:bob:x")
            assert reply["error"]["code"] == "forbidden"
            reply = await peer.command(op="publish", channel=channel, data=1)
            assert reply["error"]["code"] == "forbidden"
            keyed = {"Authorization": f"Bearer {PUBLISH}"}
            async with http_client(base_url=hub.url, headers=keyed) as http:
                assert (await http.post(f"/api/publish/{channel}", json=5)).status_code == 200
            assert await peer.data(1) == [5]
        async with SsePeer(hub.url, Query(channel), cookie) as stream:
            assert stream.welcome["connection"] == app.questions("connect")[-1]["connection"]
        async with http_client(base_url=hub.url, headers=cookie) as http:
            answer = await http.get("/poll", params={"channel": channel, "wait": "0"})
            assert answer.status_code == 200
            answer = await http.get("/poll", params={"channel": "other", "wait": "0"})
            assert answer.status_code == 403


async def test_a_banned_subject_stays_out_whoever_says_its_name(
    app: Application, channel: str
) -> None:
    """The application names it, and the session that it has ends with the ban."""

    async def by_cookie(asked: Asked) -> Answer:
        name = asked.json["headers"]["cookie"]
        return says(allow=True, sub=name, grants={"subscribe": [channel]})

    app.answer = by_cookie
    ann, bob = {"Cookie": "ann"}, {"Cookie": "bob"}
    keyed = {"Authorization": f"Bearer {PUBLISH}"}
    async with (
        Hub(settings(app, "connect", operator_keys=PUBLISH)) as hub,
        http_client(base_url=hub.url) as http,
    ):
        async with WebSocketPeer(hub.url, Query(channel), ann) as peer:
            ban = {"seconds": 600, "reason": "spam"}
            put = await http.put("/api/subjects/ann/ban", json=ban, headers=keyed)
            assert put.status_code == 200
            assert await goodbye(peer) == (4403, "spam")
        assert await refused(hub, channel, **ann) == (4403, "spam")
        for path in ("/sse", "/poll"):
            answer = await http.get(path, params={"channel": channel}, headers=ann)
            assert (answer.status_code, answer.json()["detail"]) == (403, "spam")
        async with WebSocketPeer(hub.url, Query(channel), bob):
            pass


async def test_a_removal_where_no_rows_are_kept_is_refused_before_the_application_is_asked(
    app: Application, channel: str
) -> None:
    """By a command, a request and a batch alike: it is the hub that refuses it."""
    keyed = {"Authorization": f"Bearer {token('ann')}"}
    async with Hub(settings(app, "publish", token_keys=SIGNING)) as hub:
        async with WebSocketPeer(hub.url, Query(channel), keyed) as peer:
            reply = await peer.command(op="publish", channel=channel, key="k", remove=True)
            assert reply["error"]["code"] == "bad_request"
        async with http_client(base_url=hub.url, headers=keyed) as http:
            answer = await http.delete(f"/api/channels/{channel}/state/k")
            assert answer.status_code == 400
            item = {"channel": channel, "key": "k", "remove": True}
            answer = await http.post("/api/publish", json=[item])
            assert answer.json()[0]["code"] == "bad_request"
        assert app.questions("publish") == []


async def test_a_yes_without_a_name_lets_nobody_in_where_credentials_are_needed(
    app: Application, channel: str
) -> None:
    async with Hub(settings(app, "connect", token_keys=SIGNING)) as hub:
        assert (await refused(hub, channel))[0] == 4401


async def test_the_application_ends_a_session_by_its_time(app: Application) -> None:
    async def for_a_moment(_asked: Asked) -> Answer:
        return says(allow=True, expires_in_seconds=0.2)

    app.answer = for_a_moment
    async with Hub(settings(app)) as hub, WebSocketPeer(hub.url, Query(), {}) as peer:
        assert (await goodbye(peer))[0] == 4401


async def test_a_publication_is_what_the_application_puts_in_its_place(
    app: Application, channel: str
) -> None:
    async def other(asked: Asked) -> Answer:
        return 200, b'{"allow":true,"data":{"big": 12345678901234567890123,\n"x":1.0}}'

    app.answer = other
    async with Hub(settings(app, "publish")) as hub:
        async with WebSocketPeer(hub.url, Query(channel), {}) as peer:
            assert "ok" in await peer.command(op="publish", channel=channel, data="mine")
            assert await peer.data(1) == [{"big": 12345678901234567890123, "x": 1.0}]


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"rubbish"),
        (200, b'{"allow":"yes"}'),
        (200, b'{"allow":true,"sub":""}'),
        (200, b'{"allow":true,"expires_in_seconds":-1}'),
        (200, b'{"allow":true,"grants":{"subscribe":"*"}}'),
        (200, b'{"allow":true,"x":"' + b"x" * 100_000 + b'"}'),
        (302, b""),
        (404, b'{"allow":true}'),
    ],
)
async def test_an_answer_that_cannot_be_read_never_lets_anybody_in(
    app: Application, answer: Answer
) -> None:
    """Also where an application that is down would mean yes."""

    async def said(_asked: Asked) -> Answer:
        return answer

    app.answer = said
    async with Hub(settings(app, hook_when_down="allow")) as hub:
        assert (await refused(hub))[0] == 1013


@pytest.mark.parametrize("status", [401, 403])
async def test_a_status_that_refuses_is_a_refusal(app: Application, status: int) -> None:
    async def said(_asked: Asked) -> Answer:
        return status, b"no"

    app.answer = said
    async with Hub(settings(app, hook_when_down="allow")) as hub:
        assert (await refused(hub))[0] == 4403


@pytest.mark.parametrize("when_down", ["deny", "allow"])
@pytest.mark.parametrize("how", ["away", "slow", "error", "long page"])
async def test_an_application_that_is_down_is_answered_for(
    app: Application, when_down: str, how: str, channel: str
) -> None:
    never = asyncio.Event()

    async def said(_asked: Asked) -> Answer:
        if how == "slow":
            await never.wait()
        return 503, b"<p>" * (50_000 if how == "long page" else 0)

    app.answer = said
    if how == "away":
        await app.end()
    told = settings(app, hook_when_down=when_down, hook_timeout_seconds=0.2)
    async with Hub(told) as hub:
        if when_down == "deny":
            assert (await refused(hub, channel))[0] == 1013
        else:
            async with WebSocketPeer(hub.url, Query(channel), {}) as peer:
                assert "ok" in await peer.command(op="publish", channel=channel, data=1)


async def test_an_application_that_stays_down_is_not_waited_for(app: Application) -> None:
    """After some failures nobody asks it; where it answers again, all are asked."""

    async def down(_asked: Asked) -> Answer:
        return 503, b""

    app.answer = down
    async with Hub(settings(app, "connect")) as hub:
        for _ in range(10):
            await refused(hub)
        assert len(app.asked) == 5
        async with http_client(base_url=hub.url) as http:
            assert 'hub_hook_calls_total{outcome="open"} 5.0' in (await http.get("/metrics")).text


async def test_answers_are_remembered_for_the_same_question(app: Application, channel: str) -> None:
    """Answers are remembered by subject; a peer without a name is remembered
    by its connection alone."""
    async with Hub(settings(app, "subscribe", hook_cache_seconds=60, token_keys=SIGNING)) as hub:
        for name in ("ann", "ann", "bob"):
            headers = {"Authorization": f"Bearer {token(name)}"}
            async with WebSocketPeer(hub.url, Query(channel), headers):
                pass
    assert [asked["sub"] for asked in app.questions("subscribe")] == ["ann", "bob"]
    async with Hub(settings(app, "subscribe", hook_cache_seconds=60)) as hub:
        app.asked.clear()
        for _ in range(2):
            async with WebSocketPeer(hub.url, Query(channel), {}):
                pass
    assert len(app.questions("subscribe")) == 2


async def test_a_sessions_commands_keep_their_order(app: Application, channel: str) -> None:
    """The first answers last, and other sessions are not kept waiting."""
    first = asyncio.Event()

    async def slowly(asked: Asked) -> Answer:
        if asked.json.get("data") == 0:
            await first.wait()
        return says(allow=True)

    app.answer = slowly
    async with Hub(settings(app, "publish")) as hub:
        async with (
            WebSocketPeer(hub.url, Query(channel), {}) as peer,
            WebSocketPeer(hub.url, Query(channel), {}) as other,
        ):
            for number in range(5):
                text = {"op": "publish", "id": number, "channel": channel, "data": number}
                await peer._socket.send(json.dumps(text))
            await app.until(lambda: len(app.asked) == 1)
            assert "ok" in await other.command(op="publish", channel=channel, data="meanwhile")
            first.set()
            assert await other.data(6) == ["meanwhile", 0, 1, 2, 3, 4]


async def test_a_refreshed_token_does_not_undo_the_applications_word(
    app: Application, channel: str
) -> None:
    async def narrow(_asked: Asked) -> Answer:
        return says(allow=True, grants={"subscribe": ["only"], "publish": []})

    app.answer = narrow
    async with Hub(settings(app, "connect", token_keys=SIGNING)) as hub:
        headers = {"Authorization": f"Bearer {token('ann')}"}
        async with WebSocketPeer(hub.url, Query(), headers) as peer:
            assert "ok" in await peer.command(op="authenticate", token=token("ann"))
            reply = await peer.command(op="subscribe", channel=channel)
            assert reply["error"]["code"] == "forbidden"


async def test_the_first_command_may_say_who_somebody_is(app: Application, channel: str) -> None:
    """The application is asked about it then, by the name."""

    async def not_bob(asked: Asked) -> Answer:
        return says(allow=asked.json["sub"] != "bob", reason="bob")

    app.answer = not_bob
    async with Hub(settings(app, "connect", token_keys=SIGNING)) as hub:
        async with WebSocketPeer(hub.url, Query(), {}) as peer:
            assert "ok" in await peer.command(op="authenticate", token=token("ann"))
            assert "ok" in await peer.command(op="subscribe", channel=channel)
        async with WebSocketPeer(hub.url, Query(), {}) as peer:
            text = {"op": "authenticate", "id": 1, "token": token("bob")}
            await peer._socket.send(json.dumps(text))
            assert await peer.wait_closed() == 4403


async def test_connections_to_the_application_are_kept(app: Application, channel: str) -> None:
    async with Hub(settings(app)) as hub, WebSocketPeer(hub.url, Query(channel), {}) as peer:
        for number in range(20):
            await peer.command(op="publish", channel=channel, data=number)
    assert len(app.asked) == 22
    assert app.connections <= 2


async def test_a_pattern_is_refused_to_whom_the_application_is_asked_about(
    app: Application,
) -> None:
    """A pattern names no channel, and nothing may come through it that the application
    has not been asked about."""
    async with Hub(settings(app, "subscribe")) as hub:
        async with WebSocketPeer(hub.url, Query(), {}) as peer:
            reply = await peer.command(op="subscribe", pattern="room:*")
            assert reply["error"]["code"] == "forbidden"
        async with WebSocketPeer(hub.url, Query(pattern="room:*"), {}) as peer:
            assert (await goodbye(peer))[0] == 4403


async def test_questions_that_wait_slow_nobody_who_is_not_asked_about(
    app: Application, channel: str
) -> None:
    """More questions wait than are asked at a time, and readers and backends with a key go on."""
    answers = asyncio.Event()

    async def slowly(asked: Asked) -> Answer:
        if asked.json.get("channel") == "slow":
            await answers.wait()
        return says(allow=True)

    app.answer = slowly
    told = settings(app, "subscribe", publish_keys=PUBLISH, hook_timeout_seconds=30)
    keyed = {"Authorization": f"Bearer {PUBLISH}"}
    async with Hub(told) as hub, http_client(base_url=hub.url) as http:
        async with WebSocketPeer(hub.url, Query(channel), {}) as reader:
            slow = [WebSocketPeer(hub.url, Query(), {}) for _ in range(70)]
            for peer in slow:
                await peer.__aenter__()
                await peer._socket.send(json.dumps({"op": "subscribe", "id": 1, "channel": "slow"}))
            await app.until(lambda: len(app.questions("subscribe")) == 1 + 64)
            for number in range(20):
                answer = await http.post(f"/api/publish/{channel}", json=number, headers=keyed)
                assert answer.status_code == 200
            assert await reader.data(20) == list(range(20))
            assert "ok" in await reader.command(op="ping")
            # Who waits may still be told things: its stream goes on, in order behind the question.
            await slow[0]._socket.send(json.dumps({"op": "ping", "id": 2}))
            answers.set()
            replies = [(await slow[0].push())["id"] for _ in range(2)]
            assert replies == [1, 2]
            for peer in slow:
                await peer.__aexit__(None, None, None)
