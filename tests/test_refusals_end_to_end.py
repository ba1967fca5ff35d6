"""Whom a running hub refuses is in its log, without what was refused."""

import io
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest

from hub import Hub, Settings
from hub.observe.logs import make_logger
from tests.transports.peers import PEERS, Peer, Query

SIGNING = "a-signing-key-of-more-than-32-bytes!"


def token(seconds: float, *, key: str = SIGNING, subject: str = "ann") -> str:
    grants = {"subscribe": ["prices"]}
    claims = {"sub": subject, "exp": time.time() + seconds, "hub": grants}
    return jwt.encode(claims, key, algorithm="HS256")


class Logged:
    """The lines of a hub's log."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def refused(self) -> list[dict[str, Any]]:
        lines = map(json.loads, self.stream.getvalue().splitlines())
        return [line for line in lines if line["event"] == "refused"]


@pytest.fixture
def logged() -> Logged:
    return Logged()


@pytest.fixture
async def hub(logged: Logged) -> AsyncIterator[Hub]:
    settings = Settings(port=0, drain_seconds=0, token_keys=(SIGNING,), log_format="json")
    async with Hub(settings, log=make_logger(settings, logged.stream)) as hub:
        yield hub


@pytest.mark.parametrize("kind", PEERS.values(), ids=PEERS)
async def test_a_token_that_a_session_sends_and_that_does_not_hold_is_in_the_log(
    hub: Hub, logged: Logged, kind: type[Peer]
) -> None:
    """With its address and what is wrong with it, and never the token itself."""
    wrong = token(3600, key="another-signing-key-of-32-bytes-or-so")
    others = token(3600, subject="bob")
    async with kind(hub.url, Query("prices", token=token(3600)), {}) as peer:
        for sent in (wrong, others):
            assert "error" in await peer.command(op="authenticate", channel="", token=sent)
    first, second = logged.refused()
    assert (first["code"], first["address"]) == ("unauthorized", "127.0.0.1")
    assert first["reason"] == "token signature matches no key"
    assert (second["code"], second["reason"]) == (
        "forbidden",
        "the token belongs to another subject",
    )
    assert not any(part in logged.stream.getvalue() for part in wrong.split("."))
