"""The one rule of two connections, as a script that both clients play (`../moving.json`)."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from hub_client.messages import Gap, Message
from hub_client.session import Delivered
from tests.clients.python.fakes import DEADLINE_SECONDS, Json, message, started, subscribed
from tests.clients.python.test_takeover import Change
from tests.support.golden import name_of

SCENARIOS = json.loads((Path(__file__).parents[1] / "moving.json").read_text())
Told = int | list[Any]
"""A message's offset, or a gap's first, last and reason."""


def pushed(what: Told) -> Json:
    if isinstance(what, int):
        return message("a", what)
    first, last, reason = what
    fields = {"op": "gap", "channel": "a", "epoch": "e1", "reason": reason}
    return fields | {"from": first, "to": last}


class Story:
    """One scenario: what the application hears of channel `a`."""

    def __init__(self, scenario: Json) -> None:
        self._scenario = scenario
        self._change = Change(offset=scenario["at"])
        self.told: list[Told] = []

    def _hear(self, raw: bytes) -> None:
        event = self._change.session.receive(raw)
        for item in event.items if isinstance(event, Delivered) else ():
            if isinstance(item, Message):
                assert item.offset is not None
                self.told.append(item.offset)
            elif isinstance(item, Gap):
                self.told.append([item.first, item.last, item.reason])

    def _hear_all(self, pushes: Iterable[Json]) -> None:
        for push in pushes:
            self._hear(json.dumps(push).encode())

    async def play(self) -> None:
        change, head = self._change, self._scenario["head"]
        command = await change.asked()
        assert "since" not in command
        change.wire.push(started(command, f"e1:{head}"))
        steps = self._scenario["steps"]
        for number, (who, *what) in enumerate(steps):
            if who == "over":
                await self._come_back(steps[number + 1 :])
                return
            if who == "old":
                self._hear_all([pushed(what[0])])
            else:
                change.wire.push(pushed(what[0]))
        async with asyncio.timeout(DEADLINE_SECONDS):
            await change.go_on(self._hear)

    async def _come_back(self, rest: list[Any]) -> None:
        """The present connection ended: another one asks for what follows the position."""
        change = self._change
        change.preparing.cancel()
        await asyncio.gather(change.preparing, return_exceptions=True)
        change.session.connected(starts_in_reply=True)
        sequence = change.session.sequences["a"]
        assert sequence.position is not None
        place = sequence.position.offset
        brought = [what for who, *what in self._scenario["steps"] if who == "new"]
        head = max(what[0] for what in brought) - len(rest)
        lacking: list[Told] = [[place + 1, head, "expired"]]
        if self._scenario["history"]:
            lacking = list(range(place + 1, head + 1))
        self._hear_all([subscribed("a", f"e1:{place}")])
        self._hear_all(pushed(what) for what in lacking)
        self._hear_all(pushed(what) for _, what in rest)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=name_of)
async def test_two_connections_of_one_channel(scenario: Json) -> None:
    """What the old one still brings is no gap; what nobody brings is one, told once."""
    story = Story(scenario)
    await story.play()
    if scenario["told"] is not None:
        assert story.told == scenario["told"]
    offsets = [
        offset
        for what in story.told
        for offset in ([what] if isinstance(what, int) else range(what[0], what[1] + 1))
    ]
    assert offsets == list(range(scenario["at"] + 1, offsets[-1] + 1))
    new = [what[0] for who, *what in scenario["steps"] if who == "new"]
    assert {what for what in new if isinstance(what, int)} <= set(offsets)
