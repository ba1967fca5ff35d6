"""A subscription that is refused: a script that both clients play (`golden/refusals.json`).

The other subscriptions and the connection go on in each case.
"""

import asyncio
import random

import pytest

from hub_client import ClientOptions, CommandError, HubClient, ReconnectTiming, channels
from tests.clients.python.fakes import (
    DEADLINE_SECONDS,
    Peer,
    message,
    started,
    websocket_hub,
    welcome,
)
from tests.support.golden import Case, golden, name_of
from tests.support.waiting import eventually

OPTIONS = ClientOptions(timing=ReconnectTiming(0.01, 0.05, open_timeout_seconds=5))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Between which two moments a client asks again; the draw itself is nothing."""
    asked: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        asked.append((low, high))
        return 0.0

    monkeypatch.setattr(random, "uniform", draw)
    return asked


class Refusing:
    """Refuses channel `a` as told, and brings message 1 of both where it is asked again."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.asked_again = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        await peer.push(welcome())
        first = await peer.command()
        assert first["channel"] == "a"
        told = dict(self._case["told"])
        if "unsubscribed" in told:
            gone = {"op": "unsubscribed", "channel": "a", "reason": told["unsubscribed"]}
            first_one = [message("a", 1)] if self._case["then"] == "completes" else []
            await peer.push(started(first, "e1:0"), *first_one, gone)
        else:
            told["error"] = {**told["error"], "retry_after_seconds": 0}
            await peer.push({"op": "reply", "id": first["id"], **told})
        await peer.push(started(await peer.command(), "e1:0"), message("b", 1))
        if self._case["then"] == "goes on":
            where = {"op": "subscribed", "channel": "a", "position": "e1:0"}
            await peer.push(where, message("a", 1))
        if self._case["then"] == "asks again":
            await peer.push(started(await peer.command(), "e1:0"), message("a", 1))
            self.asked_again.set()
        await peer.socket.wait_closed()


@pytest.mark.parametrize("case", golden("refusals"), ids=name_of)
async def test_a_refused_subscription_ends_or_is_asked_for_again_or_goes_on(
    case: Case, drawn: list[tuple[float, float]]
) -> None:
    """Ends, is asked for again on the same connection, or goes on."""
    hub = Refusing(case)
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        websocket_hub(hub) as fake,
        HubClient(fake.url, transports=("websocket",), options=OPTIONS) as client,
    ):
        refused, other = client.subscribe("a"), client.subscribe("b")
        assert (await anext(other)).offset == 1
        if case["then"] == "ends":
            with pytest.raises(CommandError):
                await anext(refused)
        elif case["then"] == "completes":
            assert [each.offset async for each in refused] == [1]
        else:
            assert (await anext(refused)).offset == 1
        await eventually(lambda: hub.asked_again.is_set() == (case["then"] == "asks again"))
        assert fake.connections == 1
    assert ((1.0, 3.0) in drawn) == (case["then"] == "asks again")


@pytest.mark.parametrize(
    "case", [c for c in golden("refusals") if "after_seconds" in c], ids=name_of
)
def test_when_it_is_asked_for_again(case: Case) -> None:
    """A random part is added to the hub's pause, because many clients are told the same second."""
    error = case["told"]["error"]
    low, high = channels.ask_again_between(error.get("retry_after_seconds", 0))
    assert [low, high] == case["after_seconds"]
