"""The small deciders: when to come back, and by which transport."""

from hub_client.choice import Choice
from hub_client.timing import Backoff, ReconnectTiming
from hub_client.transport import refused


def highest(_low: float, high: float) -> float:
    return high


def test_pauses_double_up_to_the_cap_and_start_anew_after_a_settled_connection() -> None:
    """The drawn limit is 0.5, 1, 2, ... seconds, at most the cap."""
    backoff = Backoff(ReconnectTiming(base_seconds=0.5, cap_seconds=3), draw=highest)
    assert [backoff.next_pause() for _ in range(4)] == [0.5, 1, 2, 3]
    backoff.lived(0.1)
    assert backoff.next_pause() == 3
    backoff.lived(3600)
    assert backoff.next_pause() == 0.5


def test_pauses_have_full_jitter() -> None:
    """Every pause is drawn from zero on: clients that fell together do not rise together."""
    lows: list[float] = []

    def draw(low: float, high: float) -> float:
        lows.append(low)
        return high

    backoff = Backoff(ReconnectTiming(), draw=draw)
    backoff.next_pause()
    assert backoff.within(8000) == 8
    assert lows == [0, 0]


def test_a_transport_that_worked_is_tried_first_until_it_has_lived_long() -> None:
    """A short life keeps the memory; after a long one the better transport has its chance."""
    choice = Choice(("websocket", "sse"))
    choice.worked("sse")
    choice.ended(1)
    assert choice.order() == ("sse", "websocket")
    choice.ended(3600)
    assert choice.order() == ("websocket", "sse")


def test_one_failure_that_is_no_block_does_not_change_the_transport() -> None:
    """A hub that is away refuses every transport; the second failure in a row tries the next."""
    choice = Choice(("websocket", "sse"))
    assert not choice.failed(blocked=False)
    assert choice.failed(blocked=False)
    choice.worked("websocket")
    assert choice.failed(blocked=True)


def test_a_transport_that_passes_nothing_after_its_welcome_makes_way_for_the_next() -> None:
    """Otherwise every reconnect would wait for it in vain; alone it has to be tried again."""
    choice = Choice(("websocket", "sse"))
    choice.worked("websocket")
    choice.blocked("websocket")
    assert choice.order() == ("sse", "websocket")
    alone = Choice(("websocket",))
    alone.blocked("websocket")
    assert alone.order() == ("websocket",)


def test_a_handshake_put_off_by_retry_after_is_neither_a_block_nor_waited_for_for_ever() -> None:
    """503 with a number of seconds: as long as asked, within 5 minutes."""
    put_off = refused(503, "full", retry_after="7")
    assert (put_off.asked_seconds, put_off.blocked, put_off.rejected) == (7, False, None)
    assert refused(503, "full", retry_after="999999").asked_seconds == 300
