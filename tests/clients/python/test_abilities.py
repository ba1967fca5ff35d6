"""The Python client plays the script of abilities that both clients share.

The script is `tests/clients/abilities.json`. It plays against a real hub, over each transport.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from hub_client import CommandError, Gap, HubClient, Message, Presence, Published, State
from hub_client.feed import Subscription
from hub_client.messages import Item
from tests.support.abilities import NAMESPACES, SCENARIOS, Scenario, judge, made
from tests.support.golden import name_of
from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually

SECONDS = 20.0


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(HUB_NAMESPACES=NAMESPACES) as running:
        yield running


class Player:
    """One scenario, step by step."""

    def __init__(self, client: HubClient) -> None:
        self._client = client
        self._handles: dict[str, Subscription[Item]] = {}
        self._listening: dict[str, asyncio.Task[None]] = {}
        self._published: dict[str, Published] = {}
        self.told: dict[str, list[Any]] = {}

    async def play(self, steps: list[dict[str, Any]]) -> None:
        for step in steps:
            (action,) = {*step} & {
                "publish", "publish_each", "subscribe", "wait", "wait_for", "leave", "update",
                "members", "history",
            }  # fmt: skip
            await getattr(self, f"_{action}")(step)
        for task in self._listening.values():
            task.cancel()

    async def _publish(self, step: Mapping[str, Any]) -> None:
        channel, data, *more = step["publish"]
        options = more[0] if more else {}
        self._published[step.get("as", "")] = await self._client.publish(channel, data, **options)

    async def _publish_each(self, step: Mapping[str, Any]) -> None:
        channels, data = step["publish_each"]
        results = await self._client.publish(channels, data)
        assert [getattr(each, "code", "ok") for each in results] == step["is"]

    async def _subscribe(self, step: Mapping[str, Any]) -> None:
        name, options = step["as"], dict(step["subscribe"])
        pattern, presence = options.pop("pattern", None), options.pop("presence", None)
        if earlier := options.pop("since_of", None):
            options["since"] = self._handles[earlier].positions
        if state := options.pop("get_state", None):
            position = str(self._published[state["position_of"]].position)
            options["get_state"] = lambda: {"data": state["data"], "position": position}
        if presence is not None:
            options["presence_data"] = presence["data"]
        items: Subscription[Any]
        if pattern is not None:
            items = self._client.subscribe_pattern(pattern, gaps=True, **options)
        else:
            members = "and_members" in step
            channel = options.pop("channel")
            items = self._client.subscribe(channel, gaps=True, presence=members, **options)
        self._handles[name] = items
        self.told[name] = []
        room = self.told.setdefault(step.get("and_members", ""), [])
        task = asyncio.create_task(
            self._listen(items, self.told[name], room=room, by_pattern=bool(pattern))
        )
        self._listening[name] = task
        if not step.get("refused"):
            await items.wait_started(timeout_seconds=SECONDS)

    async def _listen(
        self, items: Subscription[Any], heard: list[Any], *, room: list[Any], by_pattern: bool
    ) -> None:
        try:
            async for item in items:
                if isinstance(item, Presence):
                    room[:] = [item.member and item.member.data]
                else:
                    heard.append(recorded(item, by_pattern=by_pattern))
            heard.append("over")
        except CommandError as error:
            heard.append(["refused", error.code])

    async def _wait(self, step: Mapping[str, Any]) -> None:
        name, count = step["wait"]
        await eventually(lambda: len(self.told[name]) >= count, seconds=SECONDS, what=str(step))

    async def _wait_for(self, step: Mapping[str, Any]) -> None:
        name, data = step["wait_for"]
        await eventually(lambda: data in self.told[name], seconds=SECONDS, what=str(step))

    async def _leave(self, step: Mapping[str, Any]) -> None:
        name = step["leave"]
        self._handles[name].close()
        await self._listening[name]
        assert self.told[name].pop() == "over"

    async def _update(self, step: Mapping[str, Any]) -> None:
        await self._client.presence_update(*step["update"])

    async def _members(self, step: Mapping[str, Any]) -> None:
        channel, wanted = step["members"], step["are"]
        assert [member.data for member in await self._client.presence(channel)] == wanted
        assert await self._client.presence_count(channel) == len(wanted)

    async def _history(self, step: Mapping[str, Any]) -> None:
        channel, options = step["history"]
        page = await self._client.history(channel, **options)
        assert [message.data for message in page.messages] == step["is"]
        if "then" in step:
            following = await self._client.history(channel, **(options | {"since": page.next}))
            assert [message.data for message in following.messages] == step["then"]
            assert following.next is None


def recorded(item: Item, *, by_pattern: bool) -> Any:
    """As the script writes it."""
    if isinstance(item, Gap):
        return ["gap", item.reason]
    if isinstance(item, State):
        return ["rows", {row.key: row.data for row in item.rows}]
    assert isinstance(item, Message)
    if item.joined:
        return ["joined", item.joined, item.data]
    if item.state:
        return ["state", item.data]
    if item.remove:
        return ["removed", item.key]
    if item.end:
        return ["end", item.data]
    return [item.channel, item.data] if by_pattern else item.data


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=name_of)
async def test_the_python_client_can(hub: HubProcess, scenario: Scenario, transport: str) -> None:
    """The client plays the same script over every transport."""
    played = made(scenario, f"python-{transport}")
    async with HubClient(hub.url, transports=(transport,)) as client:
        player = Player(client)
        await player.play(played["steps"])
    judge(played, player.told)
