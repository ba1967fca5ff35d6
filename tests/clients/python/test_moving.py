"""The one rule of two connections, as a script that both clients play (`../moving.json`)."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from hub_client.channel import PushSource, SubscribedChannel
from hub_client.frames import decode
from hub_client.messages import Gap, Item, Message, Position
from tests.clients.python.fakes import Json, message
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
        self._channel = SubscribedChannel("a", since=None, last=None, fill=False)
        self._old, self._new = PushSource({}), PushSource({}, newer=True)
        self.told: list[Told] = []

    def _tell(self, items: Iterable[Item]) -> None:
        for item in items:
            if isinstance(item, Message):
                assert item.offset is not None
                self.told.append(item.offset)
            elif isinstance(item, Gap):
                self.told.append([item.first, item.last, item.reason])

    def _hear(self, what: Told, source: PushSource) -> None:
        raw = json.dumps(pushed(what)).encode()
        self._tell(self._channel.push(decode(raw), raw, source))

    def play(self) -> None:
        at, head = self._scenario["at"], self._scenario["head"]
        self._tell(self._channel.subscribed(Position("e1", at), self._old))
        assert self._channel.request()["since"] == f"e1:{at}"
        self._tell(self._channel.subscribed(Position("e1", at), self._new))
        for what in self._lacking(at, head):
            self._hear(what, self._new)
        for who, *what in self._scenario["steps"]:
            if who == "over":
                self._tell(self._channel.release(everything=True))
                self._new = PushSource(self._new.epochs)
            else:
                self._hear(what[0], self._old if who == "old" else self._new)
        self._tell(self._channel.release(everything=True))

    def _lacking(self, at: int, head: int) -> list[Told]:
        """Returns what a hub sends to a client that resumes from `at` on the newer connection."""
        if self._scenario["history"]:
            return list(range(at + 1, head + 1))
        return [[at + 1, head, "expired"]] if head > at else []


@pytest.mark.parametrize("scenario", SCENARIOS, ids=name_of)
def test_two_connections_of_one_channel(scenario: Json) -> None:
    """Messages that the old connection still brings are no gap; what neither
    brings is one gap, told once."""
    story = Story(scenario)
    story.play()
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
