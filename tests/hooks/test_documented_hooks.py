"""The JSON of `hub/docs/hooks.md` is what the hub sends, and what it takes."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hub import Hub, Settings
from tests.hooks.test_asking import refused
from tests.support.application import Answer, Application, Asked
from tests.support.snippets import blocks
from tests.transports.peers import Query, WebSocketPeer

COOKIE = {"Cookie": "session=7"}


def documented(label: str) -> dict[str, Any]:
    """The document's JSON; fails where it is none."""
    (block,) = blocks(label)
    found: dict[str, Any] = json.loads(block.text)
    return found


@pytest.fixture
async def app() -> AsyncIterator[Application]:
    """Answers `connect` as documented, and says no to what is not ann's."""

    async def answer(asked: Asked) -> Answer:
        said = asked.json
        is_yes = said.get("channel") in {None, "orders:ann"}
        return 200, json.dumps(documented("hook-yes" if is_yes else "hook-no")).encode()

    async with Application(answer) as app:
        yield app


def settings(app: Application, hooks: str = "connect,subscribe", **more: Any) -> Settings:
    return Settings(port=0, drain_seconds=0, hook_url=app.url, hooks=hooks, **more)


async def test_the_question_has_the_documented_fields(app: Application) -> None:
    """The question has those headers that the table names, in lower case."""
    question = documented("hook-question")
    headers = {**COOKIE, "Origin": "https://shop.example", "X-Private": "not this one"}
    async with Hub(settings(app, origins="https://shop.example")) as hub:
        async with WebSocketPeer(hub.url, Query("orders:ann"), headers):
            pass
    (asked,) = app.questions("subscribe")
    assert asked.keys() == question.keys()
    assert asked["sub"] == question["sub"]
    assert question["headers"].items() <= asked["headers"].items()
    assert "x-private" not in asked["headers"]


async def test_the_documented_yes_names_the_peer_and_grants_it_its_channel(
    app: Application,
) -> None:
    async with Hub(settings(app)) as hub, WebSocketPeer(hub.url, Query(), COOKIE) as peer:
        assert "ok" in await peer.command(op="subscribe", channel="orders:ann")
        reply = await peer.command(op="publish", channel="orders:ann", data=1)
        assert reply["error"]["code"] == "forbidden"


async def test_the_documented_no_is_told_with_its_reason(app: Application) -> None:
    async with Hub(settings(app, "subscribe")) as hub:
        assert await refused(hub, "orders:bob") == (4403, documented("hook-no")["reason"])


async def test_events_have_the_documented_fields() -> None:
    """Of both types that the example has."""
    told = {event["type"]: event for event in documented("hook-events")["events"]}
    async with Application() as app:
        async with Hub(Settings(port=0, drain_seconds=0, webhook_url=app.url)) as hub:
            async with WebSocketPeer(hub.url, Query("room:1"), {}):
                pass
        sent = {event["type"]: event for each in app.asked for event in each.json["events"]}
    for kind, event in told.items():
        assert sent[kind].keys() == event.keys(), kind
