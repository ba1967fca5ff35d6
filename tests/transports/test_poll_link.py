"""The link of a polling session: open while a poll waits, for as much as one answer takes."""

import pytest

from hub.core.ports import MAX_AGENT_CHARACTERS
from hub.core.session.outbox_budget import OutboxBudget
from hub.transports.poll_link import PollLink


class FakeSession:
    """Notes what a link tells its session."""

    def __init__(self) -> None:
        self.writable = True
        self.told: list[object] = []

    def block(self) -> None:
        self.writable = False

    def on_writable(self) -> None:
        self.told.append("writable")

    def lost(self, code: int, reason: str) -> None:
        self.told.append((code, reason))


@pytest.fixture
def link() -> PollLink:
    made = PollLink(address="192.0.2.1", user_agent="a" * 1000, budget=OutboxBudget(1_000))
    made.session = FakeSession()  # type: ignore[assignment] # stands for a session
    return made


def told(link: PollLink) -> list[object]:
    assert isinstance(link.session, FakeSession)
    return link.session.told


def test_between_two_polls_it_takes_nothing(link: PollLink) -> None:
    assert link.send(b"early") == 0
    link.begin(100)
    assert link.send(b"now") == 3
    assert link.take() == b"now"
    assert link.send(b"late") == 0


def test_an_answer_takes_up_to_its_bound_and_the_frame_in_which_that_ends(link: PollLink) -> None:
    """The session finishes a frame that was begun, so that none is cut."""
    link.begin(10)
    assert link.send(b"x" * 9) == 9
    assert not link.full
    assert link.send(b"12345") == 1
    assert link.full
    link.finish(b"2345")
    assert link.send(b"more") == 0
    assert link.take() == b"x" * 9 + b"12345"


def test_a_poll_that_waits_is_told_of_each_change(link: PollLink) -> None:
    changes: list[bool] = []
    link.begin(100)
    link.on_change = lambda: changes.append(link.has_frames)
    link.progressed()
    link.send(b"")
    link.send(b"one")
    assert changes == [False, True]
    link.take()
    link.progressed()
    assert changes == [False, True]


def test_after_an_answer_the_session_writes_nothing_until_the_next_poll(link: PollLink) -> None:
    """Otherwise it would leave one message here, which would end the next poll at once."""
    link.begin(100)
    link.send(b"one")
    link.take()
    assert link.session is not None
    assert not link.session.writable
    assert told(link) == []
    link.begin(100)
    assert told(link) == ["writable"]


def test_after_an_empty_answer_it_may_write_at_once(link: PollLink) -> None:
    link.begin(100)
    assert link.take() == b""
    assert link.session is not None
    assert link.session.writable
    link.begin(100)
    assert told(link) == []


def test_messages_for_a_poll_that_was_given_up_are_the_next_ones(link: PollLink) -> None:
    link.begin(100)
    link.send(b"kept")
    link.give_up()
    assert not link.taking
    link.begin(100)
    assert link.take() == b"kept"


def test_the_end_of_a_link_is_told_to_the_session_and_to_the_poll_that_waits(
    link: PollLink,
) -> None:
    link.begin(100)
    ended: list[bool] = []
    link.on_change = lambda: ended.append(link.ended)
    link.close(4503, "gone")
    assert ended == [True]
    assert told(link) == [(1006, "no further poll")]


def test_of_a_long_user_agent_the_beginning_is_kept(link: PollLink) -> None:
    assert link.user_agent == "a" * MAX_AGENT_CHARACTERS
