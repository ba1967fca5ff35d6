"""Subscriptions by a pattern: a script that both clients play (`../patterns.json`)."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from hub_client import (
    AlreadySubscribedError,
    ClientOptions,
    CommandError,
    Gap,
    HubClient,
    Message,
    ReconnectTiming,
    Subscription,
)
from tests.clients.python.fakes import (
    DEADLINE_SECONDS,
    Json,
    Peer,
    message,
    started,
    stay,
    websocket_hub,
    welcome,
)
from tests.support.golden import name_of
from tests.support.waiting import eventually

SCENARIOS = json.loads((Path(__file__).parents[1] / "patterns.json").read_text())
OPTIONS = ClientOptions(timing=ReconnectTiming(0.01, 0.05, open_timeout_seconds=5))


class Story:
    """One scenario: what each subscription of the application hears."""

    def __init__(self, client: HubClient, peers: "asyncio.Queue[Peer]") -> None:
        self.told: dict[str, list[Any]] = {}
        self.subscriptions: dict[str, Subscription[Any]] = {}
        self._client = client
        self._peers = peers
        self._peer: Peer | None = None
        self._before: Peer | None = None
        self._command: Json = {}
        self._listening: set[asyncio.Task[None]] = set()

    async def play(self, step: Json) -> None:
        if {"subscribe", "end", "cut", "move"} & step.keys():
            await self._heard_all()
        if (wanted := step.get("subscribe")) is not None:
            self._subscribe(wanted)
        elif (name := step.get("end")) is not None:
            self.subscriptions[name].close()
        elif "cut" in step:
            await self._now().socket.close(1011)
            self._peer = await self._peers.get()
        elif "move" in step:
            goodbye = {"op": "goodbye", "code": 1012, "reason": "draining"}
            await self._now().push({**goodbye, "reconnect_within_ms": 1})
            self._before, self._peer = self._peer, await self._peers.get()
        else:
            await self._hub(step)

    async def _hub(self, step: Json) -> None:
        if self._peer is None:
            self._peer = await self._peers.get()
        peer = self._before if step.get("on") == "old" else self._peer
        assert peer is not None
        if (left := step.get("left")) is not None:
            command = await peer.command("unsubscribe")
            assert command == {"op": "unsubscribe", "id": command["id"], **left}
        if (asked := step.get("asked")) is not None:
            self._command = await peer.command()
            assert self._command == {"op": "subscribe", "id": self._command["id"], **asked}
        if "error" in step:
            await peer.push({"op": "reply", "id": self._command["id"], "error": step["error"]})
        if isinstance(ok := step.get("ok"), str):
            await peer.push(started(self._command, ok))
        elif ok is not None:
            told = {"pattern": self._command["pattern"], "channels": list(ok), "positions": ok}
            await peer.push({"op": "reply", "id": self._command["id"], "ok": told})
        if "message" in step:
            await peer.push(message(*step["message"]))
        if "push" in step:
            await peer.push(step["push"])

    async def _heard_all(self) -> None:
        """Return when the client has read all that this connection brought so far."""
        if self._peer is None:
            return
        asked = asyncio.create_task(self._client.ping())
        command = await self._peer.command("ping")
        await self._peer.push({"op": "reply", "id": command["id"], "ok": {}})
        await asked

    def _now(self) -> Peer:
        assert self._peer is not None
        return self._peer

    def _subscribe(self, wanted: Json) -> None:
        pattern = wanted.get("pattern")
        if pattern is not None:
            more = {name: wanted[name] for name in ("since", "last") if name in wanted}
            made = self._client.subscribe_pattern(pattern, gaps=True, presence=True, **more)
        else:
            since = wanted.get("since")
            made = self._client.subscribe(wanted["channel"], since=since, gaps=True, presence=True)
        name = pattern or wanted["channel"]
        self.subscriptions[name] = made
        self.told[name] = []
        listening = asyncio.create_task(self._listen(made, self.told[name]))
        self._listening.add(listening)

    async def _listen(self, subscription: Subscription[Any], told: list[Any]) -> None:
        try:
            async for item in subscription:
                if isinstance(item, Message):
                    told.append([item.channel, item.offset])
                elif isinstance(item, Gap) and item.reason == "reset":
                    told.append([item.channel, "reset"])
                elif isinstance(item, Gap):
                    told.append([item.channel, [item.first, item.last, item.reason]])
        except CommandError as error:
            told.append(error.code)

    async def end(self) -> None:
        for each in self.subscriptions.values():
            each.close()
        await asyncio.gather(*self._listening)


def heard(told: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """In the order of each channel: two connections have no order between them."""
    return {name: sorted(all_, key=lambda each: each[0]) for name, all_ in told.items()}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=name_of)
async def test_a_pattern_brings_every_channel_in_order(scenario: Json) -> None:
    """Every channel in order, nothing lost without a word, nothing twice."""
    peers: asyncio.Queue[Peer] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        peers.put_nowait(peer)
        await peer.socket.wait_closed()

    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        websocket_hub(script, script, script) as fake,
        HubClient(fake.url, transports=("websocket",), options=OPTIONS) as client,
    ):
        story = Story(client, peers)
        for step in scenario["steps"]:
            await story.play(step)
        await eventually(lambda: heard(story.told) == heard(scenario["told"]))
        for name, places in scenario.get("positions", {}).items():
            positions = story.subscriptions[name].positions
            assert {channel: str(place) for channel, place in positions.items()} == places
        await story.end()


async def test_a_pattern_and_a_channel_of_its_name_are_two_subscriptions() -> None:
    """A pattern without a star is one as well."""
    async with (
        websocket_hub(stay) as fake,
        HubClient(fake.url, transports=("websocket",), options=OPTIONS) as client,
    ):
        kept = [client.subscribe_pattern("news"), client.subscribe("news")]
        with pytest.raises(AlreadySubscribedError, match="news"):
            client.subscribe_pattern("news")
        assert [each.channel for each in kept] == ["news", "news"]


def test_a_pattern_matches_at_the_client_what_it_matches_at_the_hub() -> None:
    """Both sides have their own words for it."""
    from hub.core.patterns import check_pattern, matches
    from hub_client.pattern import Pattern

    names = ["a", "a:b", "a.b", "a:b:c", "a:b.c", "a::b", "a:", "a-b+c:d", "b:a"]
    for text in ["*", "**", "a:*", "a.*", "a:**", "*:b", "a:*:c", "a-b+c:*", "a", "*.b"]:
        pattern = Pattern(check_pattern(text), since=None, last=None, fill=False, filter=None)
        found = [name for name in names if pattern.matches(name)]
        assert found == [name for name in names if matches(text, name)], text
