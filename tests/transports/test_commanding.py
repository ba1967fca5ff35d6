"""Commands over HTTP whose reply does not come: what the caller may conclude from it."""

import json
import time
from types import SimpleNamespace
from typing import cast

import pytest

from hub.core.engine import Engine
from hub.core.polling import PollRequest
from hub.errors import OutcomeUnknownError, RateLimitedError, UnavailableError
from hub.transports import commanding
from hub.transports.commanding import Commanding


class Silent:
    """An engine that takes commands and never replies."""

    clock = staticmethod(time.monotonic)

    def find(self, connection: str, secret: str) -> object:
        return SimpleNamespace(id=connection, secret=secret)

    def submit(self, *_: object) -> None:
        pass


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Commanding:
    monkeypatch.setattr(commanding, "_TIMEOUT_SECONDS", 0.01)

    async def poll(_request: PollRequest) -> bytes:
        return b""

    return Commanding(cast("Engine", Silent()), poll, node="n1", max_message_bytes=100)


async def test_a_publish_without_a_reply_may_have_been_made(silent: Commanding) -> None:
    """`outcome_unknown`: to be repeated with the same idempotency key only."""
    with pytest.raises(OutcomeUnknownError):
        await silent.command("c1", "s1", b'{"op":"publish","id":1,"channel":"a","data":1}')


async def test_another_command_without_a_reply_is_unavailable(silent: Commanding) -> None:
    """It does no harm when it is asked again."""
    with pytest.raises(UnavailableError):
        await silent.command("c1", "s1", b'{"op":"presence","id":1,"channel":"a"}')


async def test_a_command_that_finds_too_many_waiting_is_told_when_to_come_again(
    silent: Commanding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the reply to its id: it was not begun, and whatever it is may be asked again."""

    def full(*_: object) -> None:
        raise RateLimitedError("256 commands wait")

    monkeypatch.setattr(Silent, "submit", full)
    reply = json.loads(await silent.command("c1", "s1", b'{"op":"presence","id":7,"channel":"a"}'))
    assert reply["id"] == 7
    assert (reply["error"]["code"], reply["error"]["retryable"]) == ("rate_limited", True)
    assert reply["error"]["retry_after_seconds"] == 1
