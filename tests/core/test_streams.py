"""The checker of the models' streams notices every breach of the promise, and nothing else."""

import json
from collections.abc import Iterable

import pytest

from hub.core.ports import PublishRequest
from tests.core.streams import StreamChecker, read_lines
from tests.support.stream import Push


class FourPublications:
    """A channel at 4, of which connection `c1` published 3. Nothing is lost, all is in history."""

    def at(self, channel: str, epoch: str, offset: int) -> PublishRequest:
        sender = "c1" if offset == 3 else None
        return PublishRequest(channel, b"%d" % offset, publisher="key", skip_connection=sender)

    def later(self, channel: str, epoch: str, offset: int) -> Iterable[PublishRequest]:
        return [self.at(channel, epoch, each) for each in range(offset + 1, 5)]

    def lost(self, channel: str, epoch: str, offset: int) -> bool:
        return False

    def oldest(self, channel: str, epoch: str) -> int | None:
        return 1

    def conflates(self, channel: str) -> bool:
        return False


def message(offset: int) -> Push:
    return {"op": "message", "channel": "a", "offset": offset, "data": offset}


def gap(first: int, last: int, reason: str = "slow") -> Push:
    return {
        "op": "gap", "channel": "a", "epoch": "e", "from": first, "to": last, "reason": reason,
    }  # fmt: skip


def feed(*pushes: Push, connection: str = "c1", was_short: bool = True) -> StreamChecker:
    """Return the checker of a subscriber that began at 0 and got these pushes."""
    checker = StreamChecker(FourPublications(), read_lines)
    checker.wanted["1"] = ("subscribe", "a")
    begins: list[Push] = [
        {"op": "welcome", "connection": connection},
        {"op": "reply", "id": "1", "ok": {"position": "e:0", "recovered": True}},
    ]
    text = "".join(json.dumps(push) + "\n" for push in [*begins, *pushes])
    checker.feed(bytearray(text.encode()), was_short=was_short)
    return checker


def test_a_peers_own_publications_need_not_come() -> None:
    feed(message(1), message(2), message(4)).finished("a", 4)
    feed(message(1), gap(2, 2), message(4)).finished("a", 4)


@pytest.mark.parametrize(
    "pushes",
    [
        [message(1), message(4)],
        [message(1), message(1)],
        [message(2), message(1)],
        [message(1), gap(1, 2)],
        [message(1), gap(2, 1)],
        [gap(1, 1, "broker")],
        [gap(1, 1, "expired")],
        [gap(1, 1, "conflated")],
        [message(1), message(2), message(3)],
    ],
    ids=json.dumps,
)
def test_a_breach_of_the_promise_is_noticed(pushes: list[Push]) -> None:
    """A hole, a repetition, a step back, a gap without a loss, and an echo each fail."""
    with pytest.raises(AssertionError):
        feed(*pushes)


def test_another_peer_has_to_get_them() -> None:
    with pytest.raises(AssertionError):
        feed(message(1), message(2), message(4), connection="c2")


def test_a_peer_that_took_everything_has_no_slow_gap() -> None:
    with pytest.raises(AssertionError):
        feed(gap(1, 1), was_short=False)


def test_a_publication_neither_got_nor_announced_is_noticed_at_the_end() -> None:
    with pytest.raises(AssertionError):
        feed(message(1)).finished("a", 2)
