"""The commands of a session that wait: in order, and bounded in number and bytes."""

import pytest

from hub.core.commands import Authenticate, Command, History, Publish
from hub.core.options import SessionLimits
from hub.core.session.inbox import Inbox

LIMITS = SessionLimits(inbox_max_commands=3, inbox_max_bytes=100)


def publish(size: int) -> Publish:
    return Publish(1, "news", b"x" * size)


def test_commands_come_out_in_the_order_in_which_they_went_in() -> None:
    inbox = Inbox(LIMITS)
    commands = [History(number, "news") for number in range(3)]
    for command in commands:
        inbox.add(command, None)
    assert len(inbox) == 3
    for command in commands:
        assert inbox.next == (command, None)
        inbox.take()
    assert inbox.next is None


def test_an_inbox_is_full_with_the_last_command_that_may_wait_and_says_so_once() -> None:
    inbox = Inbox(LIMITS)
    assert [inbox.add(History(number, "news"), None) for number in range(5)] == [
        False, False, True, False, False,
    ]  # fmt: skip
    assert inbox.full


@pytest.mark.parametrize(
    "command",
    [publish(60), Publish(1, "news", b"1", tags=b"x" * 59), Authenticate(1, "t" * 60)],
    ids=["a publication", "tags", "a token"],
)
def test_commands_that_a_peer_can_make_long_count_in_bytes(command: Command) -> None:
    inbox = Inbox(LIMITS)
    assert not inbox.add(command, None)
    assert inbox.add(command, None)


def test_just_below_its_bytes_it_is_not_full() -> None:
    inbox = Inbox(LIMITS)
    assert not inbox.add(publish(99), None)
    assert not inbox.crowded
    assert inbox.add(publish(1), None)


def test_an_inbox_stays_full_until_it_is_dropped_although_there_is_room_again() -> None:
    """Its session is read from when all are done, not after each."""
    inbox = Inbox(LIMITS)
    inbox.add(publish(100), None)
    assert (inbox.full, inbox.crowded) == (True, True)
    inbox.take()
    assert (inbox.full, inbox.crowded) == (True, False)
