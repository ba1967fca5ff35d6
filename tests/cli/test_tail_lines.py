"""The lines of `hub tail`, without a hub."""

import asyncio
import time
from typing import Any

import pytest

from hub.cli.operator import Operator, print_json
from hub.cli.tail import Lines, Observed, watch
from hub_client import Gap, Member, Message, Presence

# 12:34:56.789 of some day, wherever the test runs.
AT_MS = int(time.mktime((2026, 3, 4, 12, 34, 56, 0, 0, -1))) * 1000 + 789


def message(data: bytes, *, offset: int | None = 7, key: str | None = None) -> Message:
    frame = b'{"op":"message"}'
    return Message("prices", "e", offset, data, key=key, time_ms=AT_MS, frame=frame)


@pytest.mark.parametrize(
    ("item", "line"),
    [
        (message(b'{"eur":1.08}'), 'prices 7 {"eur":1.08}'),
        (message(b"1", key="a\x1bb"), "prices 7 [a\ufffdb] 1"),
        (message(b"1", offset=None), "prices - 1"),
        (Gap("prices", "e", 3, 9, "slow"), "prices GAP 3 to 9, slow"),
        (Gap("prices", "f", 0, 4, "reset"), "prices GAP reset, goes on after f:4"),
        (Gap("prices", "e", 0, 0, "slow", unsequenced=5), "prices GAP 5 without an offset, slow"),
        (Presence("chat", "join", Member("ann", "c1")), "chat JOIN ann"),
        (Presence("chat", "presence_reset"), "chat PRESENCE_RESET"),
    ],
)
def test_each_push_is_one_line_after_its_time(item: Message | Gap | Presence, line: str) -> None:
    """A message has the time at which the broker took it, the others the present one."""
    at, _, rest = Lines(as_json=False).pushed(item).decode().partition(" ")
    assert rest == line
    assert len(at) == len("12:34:56.789")
    assert at == "12:34:56.789" or not isinstance(item, Message)


def test_as_json_a_push_is_what_came() -> None:
    """The push is printed byte for byte."""
    assert Lines(as_json=True).pushed(message(b"1")) == b'{"op":"message"}'


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"what": "dropped", "channel": "prices", "count": 1234, "after": "e:5"},
            "its outbox dropped 1,234 of prices after e:5",
        ),
        (
            {
                "what": "subscription",
                "channel": "prices",
                "state": "congested",
                "position": "e:5",
                "waiting": 1000,
                "dropped": 2,
            },
            "prices is congested at e:5, 1,000 wait, 2 dropped so far",
        ),
        ({"what": "unsubscribed", "channel": "prices"}, "it has left prices"),
        (
            {"what": "ended", "code": 4403, "reason": "by\x1b operator"},
            "it has ended: 4403 by\ufffd operator",
        ),
    ],
)
def test_lines_of_what_a_connection_does_stand_out(fields: Observed, line: str) -> None:
    """Marked with an exclamation mark, and in colour where there is some."""
    observed = {"at_ms": AT_MS, **fields}
    assert Lines(as_json=False).observed(observed).decode() == f"12:34:56.789 ! {line}"
    colored = Lines(as_json=False, color=True).observed(observed)
    assert colored.startswith(b"\x1b[33m")
    assert colored.endswith(b"\x1b[0m")


def test_json_for_operators_is_safe_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A user agent may hold what a terminal obeys."""
    print_json({"user_agent": "a\x9b31m\u202eb"})
    assert capsys.readouterr().out == '{"user_agent":"a\\u009b31m\\u202eb"}\n'


class SlowToBegin:
    """Notes what `watch` tells, and begins subscriptions when the test says so."""

    def __init__(self) -> None:
        self.followed: tuple[str, ...] = ()
        self.asked, self.begun, self.has_told = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.told: list[Observed] = []

    async def follow(self, channels: tuple[str, ...]) -> None:
        self.followed = channels
        self.asked.set()
        await self.begun.wait()

    async def tell(self, observed: Observed) -> None:
        self.told.append(observed)
        self.has_told.set()


class OneConnection(Operator):
    """A hub with one connection, which is live in one channel."""

    async def ask(self, *_path: str, **_query: object) -> Any:
        row = {"channel": "prices", "state": "live", "position": "e:5", "outbox_messages": 0}
        return {"connection": "c1", "subscriptions": [{**row, "dropped": 0}]}


async def test_a_channel_is_called_live_once_its_publications_are_followed() -> None:
    """A reader of the line may publish at once, and sees that publication."""
    follower = SlowToBegin()
    hub = OneConnection("http://127.0.0.1:1", None)
    watching = asyncio.create_task(watch(hub, "c1", 60, follower))
    await follower.asked.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    assert (follower.followed, follower.told) == (("prices",), [])
    follower.begun.set()
    await follower.has_told.wait()
    assert (follower.told[0]["channel"], follower.told[0]["state"]) == ("prices", "live")
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
