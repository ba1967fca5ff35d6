"""Sessions that prove their transport: they begin without a channel, and hear their pings."""

import asyncio
import json
from typing import Any

import httpx2 as httpx

from tests.support.hub_process import HubProcess

Json = dict[str, Any]


async def poll(client: httpx.AsyncClient, welcome: Json | None = None, **query: str) -> Json:
    """One long poll of a client that keeps to one session; `welcome` goes on with it."""
    parameters, headers = {"session": "true", **query}, {}
    if welcome is not None:
        parameters["connection"] = welcome["connection"]
        headers["Authorization"] = f"Bearer {welcome['secret']}"
    answer = await client.get("/poll", params=parameters, headers=headers)
    answer.raise_for_status()
    return dict(answer.json())


async def command(client: httpx.AsyncClient, welcome: Json, **fields: object) -> Json:
    answer = await client.post(
        f"/command?connection={welcome['connection']}",
        headers={"Authorization": f"Bearer {welcome['secret']}"},
        json=fields,
    )
    answer.raise_for_status()
    return dict(answer.json())


async def test_a_polling_session_begins_without_a_channel_and_is_told_where_one_starts(
    process: HubProcess, channel: str
) -> None:
    """Its `subscribed` ends the wait; a poll without a session is not told."""
    async with httpx.AsyncClient(base_url=process.url) as client:
        welcome = (await poll(client, wait="0"))["welcome"]
        waiting = asyncio.create_task(poll(client, welcome, wait="20"))
        await command(client, welcome, op="subscribe", id=1, channel=channel)
        answer = await waiting
        [subscribed] = answer["pushes"]
        assert subscribed["op"] == "subscribed"
        assert answer["positions"] == {channel: subscribed["position"]}
        plain = await client.get("/poll", params={"channel": channel, "wait": "0.2"})
        assert plain.json()["pushes"] == []


async def test_polling_without_a_channel_or_session_is_refused(process: HubProcess) -> None:
    """There would be nothing to wait for."""
    async with httpx.AsyncClient(base_url=process.url) as client:
        assert (await client.get("/poll", params={"wait": "0"})).status_code == 400


async def test_the_answer_to_a_ping_stands_in_the_polled_stream_too(process: HubProcess) -> None:
    """A client that sees it knows that both ways are open."""
    async with httpx.AsyncClient(base_url=process.url) as client:
        welcome = (await poll(client, wait="0"))["welcome"]
        waiting = asyncio.create_task(poll(client, welcome, wait="20"))
        reply = await command(client, welcome, op="ping", id=7)
        assert (await waiting)["pushes"] == [reply] == [{"op": "reply", "id": 7, "ok": {}}]


async def test_the_answer_to_a_ping_stands_in_the_event_stream_too(process: HubProcess) -> None:
    """A proxy that holds the stream back is found out by that."""
    async with (
        httpx.AsyncClient(base_url=process.url) as client,
        client.stream("GET", "/sse", params={"session": "true"}) as stream,
    ):
        lines = stream.aiter_lines()
        data = (json.loads(line[5:]) async for line in lines if line.startswith("data:"))
        welcome = await anext(data)
        assert welcome["op"] == "welcome"
        reply = await command(client, welcome, op="ping", id=7)
        async with asyncio.timeout(30):
            assert await anext(data) == reply


async def test_an_event_stream_without_a_channel_or_session_is_refused(process: HubProcess) -> None:
    """A plain EventSource has no other way to ask for one."""
    async with httpx.AsyncClient(base_url=process.url) as client:
        assert (await client.get("/sse")).status_code == 400
