"""Data that an application adds to its yes reaches the peer over every transport."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hub import Hub, Settings
from hub.hooks.answers import Remembered, read_answer
from tests.hooks.test_asking import SIGNING, refused, token
from tests.support.application import Answer, Application, Asked, says
from tests.transports.peers import (
    PEERS,
    Json,
    PollPeer,
    Query,
    SsePeer,
    WebSocketPeer,
    http_client,
)

# Of a number beyond 2^53 and a line break between tokens.
GIVEN = {"big": 12345678901234567890123, "for": "connect"}


@pytest.fixture
async def app() -> AsyncIterator[Application]:
    """Gives each asker something: of `connect` who asks, of `subscribe` for which channel."""

    async def gives(asked: Asked) -> Answer:
        hook, channel = asked.json["hook"], asked.json.get("channel")
        if hook == "connect":
            return 200, b'{"allow":true,"data":{"big": 12345678901234567890123,\n"for":"connect"}}'
        return says(allow=channel != "no", reason="no", data={"for": channel})

    async with Application(gives) as app:
        yield app


def settings(app: Application, hooks: str = "connect,subscribe", **more: Any) -> Settings:
    return Settings(port=0, drain_seconds=0, hook_url=app.url, hooks=hooks, **more)


@pytest.mark.parametrize("transport", PEERS)
async def test_data_that_comes_with_a_connect_is_in_the_welcome(
    app: Application, transport: str, channel: str
) -> None:
    async with Hub(settings(app, "connect")) as hub:
        async with PEERS[transport](hub.url, Query(channel), {}) as peer:
            assert peer.welcome["data"] == GIVEN


async def test_a_poll_says_it_until_the_peer_has_it(app: Application, channel: str) -> None:
    """Each answer has a welcome until the peer goes on with the session, and so has read it."""
    async with Hub(settings(app, "connect")) as hub, http_client(base_url=hub.url) as http:
        first = (await http.get("/poll", params={"channel": channel, "wait": "0"})).json()
        assert first["welcome"]["data"] == GIVEN
        session = {"connection": first["welcome"]["connection"], "wait": "0"}
        bearer = {"Authorization": f"Bearer {first['welcome']['secret']}"}
        since = {"channel": channel, "since": f"{channel}={first['positions'][channel]}"}
        again = await http.get("/poll", params=session | since, headers=bearer)
        assert "data" not in again.json()["welcome"]


@pytest.mark.parametrize("peer_kind", [WebSocketPeer, SsePeer])
async def test_data_that_comes_with_a_channel_of_the_url_is_in_its_subscribed(
    app: Application, peer_kind: type[WebSocketPeer] | type[SsePeer]
) -> None:
    async with Hub(settings(app)) as hub:
        # The second finds the channels open, and is answered without a task.
        for _ in range(2):
            async with peer_kind(hub.url, Query("a", "b"), {}) as peer:
                told: dict[str, Any] = {}
                while len(told) < 2:
                    push = await peer.push()
                    if push["op"] == "subscribed":
                        told[push["channel"]] = push["data"]
                assert told == {"a": {"for": "a"}, "b": {"for": "b"}}


async def test_a_poll_of_one_session_is_pushed_it(app: Application, channel: str) -> None:
    async with Hub(settings(app)) as hub:
        async with PollPeer(hub.url, Query(channel, session="true"), {}) as peer:
            push = await peer.push()
            assert (push["op"], push["data"]) == ("subscribed", {"for": channel})


async def test_any_other_poll_has_it_beside_the_pushes(app: Application, channel: str) -> None:
    """A push would be the reason to answer each poll at once."""
    async with Hub(settings(app)) as hub, http_client(base_url=hub.url) as http:
        said = (await http.get("/poll", params={"channel": channel, "wait": "0"})).json()
        assert said["pushes"] == []
        assert said["data"] == {channel: {"for": channel}}
        session = {"channel": channel, "wait": "0", "session": "true"}
        assert "data" not in (await http.get("/poll", params=session)).json()


async def test_a_subscribe_by_command_is_replied_it(app: Application, channel: str) -> None:
    async with Hub(settings(app)) as hub:
        async with WebSocketPeer(hub.url, Query(), {}) as peer:
            reply = await peer.command(op="subscribe", channel=channel)
            assert reply["ok"]["data"] == {"for": channel}
            # Nothing is subscribed to: it has no place there.
            assert "data" not in (await peer.command(op="history", channel="other"))["ok"]
        async with SsePeer(hub.url, Query(session="true"), {}) as stream:
            reply = await stream.command(op="subscribe", channel=channel)
            assert reply["ok"]["data"] == {"for": channel}
            push = await stream.push()
            assert (push["op"], push["data"]) == ("subscribed", {"for": channel})


async def test_a_token_that_comes_by_command_is_replied_it(app: Application) -> None:
    async with Hub(settings(app, "connect", token_keys=SIGNING)) as hub:
        async with WebSocketPeer(hub.url, Query(), {}) as peer:
            reply = await peer.command(op="authenticate", token=token("ann"))
            assert reply["ok"]["data"] == GIVEN


async def test_an_answer_from_memory_gives_the_same(app: Application, channel: str) -> None:
    async with Hub(settings(app, hook_cache_seconds=60, token_keys=SIGNING)) as hub:
        headers = {"Authorization": f"Bearer {token('ann')}"}
        for _ in range(2):
            async with WebSocketPeer(hub.url, Query(channel), headers) as peer:
                assert peer.welcome["data"] == GIVEN
                assert (await peer.push())["data"] == {"for": channel}
        assert len(app.asked) == 2


@pytest.mark.parametrize("given", ['"\\ud800"', "1e999", "[" * 600 + "]" * 600])
async def test_data_that_may_not_be_published_is_not_given_either(
    app: Application, given: str, channel: str
) -> None:
    async def gives(_asked: Asked) -> Answer:
        return 200, b'{"allow":true,"data":%b}' % given.encode()

    app.answer = gives
    for hook in ("connect", "subscribe"):
        async with Hub(settings(app, hook)) as hub:
            assert (await refused(hub, channel))[0] == 1013


async def test_a_channel_that_a_later_poll_names_is_asked_about(
    app: Application, channel: str
) -> None:
    """A polling session goes on with its secret: the application has not seen that channel yet."""
    async with Hub(settings(app)) as hub, http_client(base_url=hub.url) as http:
        first = (await http.get("/poll", params={"channel": channel, "wait": "0"})).json()

        async def goes_on(said: Json, other: str) -> Json:
            welcome = said["welcome"]
            session = {"connection": welcome["connection"], "session": "true", "wait": "5"}
            since = f"{channel}={said['positions'][channel]}"
            asked = session | {"channel": [channel, other], "since": since}
            bearer = {"Authorization": f"Bearer {welcome['secret']}"}
            answer: Json = (await http.get("/poll", params=asked, headers=bearer)).json()
            return answer

        said = await goes_on(first, "no")
        assert [asked["channel"] for asked in app.questions("subscribe")] == [channel, "no"]
        [push] = said["pushes"]
        assert (push["op"], push["code"], push["reason"]) == ("goodbye", 4403, "no")


async def test_a_channel_that_is_asked_about_is_so_also_where_its_answer_is_lost(
    app: Application, channel: str
) -> None:
    """The next poll goes on in a new session, while the question of the first is under way."""
    never = asyncio.Event()

    async def slowly(asked: Asked) -> Answer:
        if asked.json.get("channel") == "slow":
            await never.wait()
        return says(allow=True)

    app.answer = slowly
    told = settings(app, "subscribe", hook_timeout_seconds=30)
    async with Hub(told) as hub, http_client(base_url=hub.url) as http:
        first = (await http.get("/poll", params={"channel": channel, "wait": "0"})).json()
        welcome = first["welcome"]
        asked = {
            "connection": welcome["connection"],
            "channel": [channel, "slow"],
            "since": f"{channel}={first['positions'][channel]}",
            "wait": "0",
        }
        bearer = {"Authorization": f"Bearer {welcome['secret']}"}
        waits = asyncio.create_task(http.get("/poll", params=asked | {"wait": "5"}, headers=bearer))
        await app.until(lambda: len(app.questions("subscribe")) == 2)
        again = asyncio.create_task(http.get("/poll", params=asked, headers=bearer))
        await app.until(lambda: len(app.questions("subscribe")) == 3)
        assert app.questions("subscribe")[-1]["channel"] == "slow"
        await http.post("/api/publish/slow", json="secret")
        for poll in (waits, again):
            poll.cancel()
        await asyncio.gather(waits, again, return_exceptions=True)


def test_remembered_answers_count_by_what_they_hold() -> None:
    """16 MiB bound them also where each gives 60 KiB."""
    remembered = Remembered(60, lambda: 0.0)
    body = json.dumps({"allow": True, "data": "x" * 60_000}).encode()
    for number in range(1_000):
        remembered.take(number.to_bytes(16), read_answer(body))
    assert len(remembered) * 60_000 < 16 * 1024 * 1024
    assert remembered.bytes <= 16 * 1024 * 1024
