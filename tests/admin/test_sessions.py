"""Commands over HTTP whose reply does not come: what the caller may conclude from it."""

import json
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from hub.admin import sessions
from hub.admin.sessions import MAX_POLL_BYTES, Poll, SendCommand, SessionHandlers
from hub.core.commands import PollRequest
from hub.core.identity import Identity
from hub.core.publication import Position
from hub.core.registry import SessionRegistry
from hub.errors import OutcomeUnknownError, RateLimitedError, UnavailableError


class Silent:
    """A registry that takes commands and never replies."""

    clock = staticmethod(time.monotonic)

    def find(self, connection: str, secret: str) -> object:
        return SimpleNamespace(id=connection, secret=secret)

    def over_limit(self, *_: object) -> None:
        pass

    @property
    def commands(self) -> "Silent":
        return self

    def submit(self, *_: object) -> None:
        pass


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> SessionHandlers:
    monkeypatch.setattr(sessions, "_TIMEOUT_SECONDS", 0.01)

    async def poll(_request: PollRequest) -> bytes:
        return b""

    return SessionHandlers(cast("SessionRegistry", Silent()), poll, max_message_bytes=100)


async def test_a_publish_without_a_reply_may_have_been_made(silent: SessionHandlers) -> None:
    """`outcome_unknown`: to be repeated with the same idempotency key only."""
    with pytest.raises(OutcomeUnknownError):
        await silent.command(
            SendCommand("c1", "s1", b'{"op":"publish","id":1,"channel":"a","data":1}')
        )


async def test_another_command_without_a_reply_is_unavailable(silent: SessionHandlers) -> None:
    """The error is `unavailable`, because such a command can be repeated without harm."""
    with pytest.raises(UnavailableError):
        await silent.command(SendCommand("c1", "s1", b'{"op":"presence","id":1,"channel":"a"}'))


async def test_a_command_that_finds_too_many_waiting_is_told_when_to_come_again(
    silent: SessionHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply to the command's id says that it was not begun, so any
    command may be sent again."""

    def full(*_: object) -> None:
        raise RateLimitedError("256 commands wait")

    monkeypatch.setattr(Silent, "submit", full)
    reply = json.loads(
        await silent.command(SendCommand("c1", "s1", b'{"op":"presence","id":7,"channel":"a"}'))
    )
    assert reply["id"] == 7
    assert (reply["error"]["code"], reply["error"]["retryable"]) == ("rate_limited", True)
    assert reply["error"]["retry_after_seconds"] == 1


def test_a_poll_goes_to_another_node_as_it_was_asked_but_for_how_much_it_may_bring() -> None:
    """Only `max_bytes` changes, and the other node may wait as long as the peer allows."""
    request = PollRequest(
        channels=("a", "b"),
        since={"a": Position("e1", 3)},
        last=2,
        wait_seconds=1.5,
        fill=True,
        connection="c1",
        secret="right",
        session=True,
        identity=Identity(),
        address="192.0.2.1",
        user_agent="test",
    )
    asked = Poll(request)
    travelled = asked.to_travel()
    assert travelled == Poll(replace(request, max_bytes=MAX_POLL_BYTES))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(travelled), type=Poll) == travelled
    assert (asked.wait_seconds(), asked.lasts) == (1.5, True)
