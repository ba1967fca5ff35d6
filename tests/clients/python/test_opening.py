"""The small deciders: when to come back, and by which transport."""

import pytest

from hub_client.opening import Choice
from hub_client.timing import Backoff, ReconnectTiming, asked_seconds
from hub_client.transport import check_base_url, refused


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


def test_a_transport_that_worked_is_tried_first_and_those_before_it_are_better() -> None:
    """Better transports are tried beside the one that works, not in its place."""
    choice = Choice(("websocket", "sse", "poll"))
    assert choice.better_than("websocket") == ()
    choice.worked("poll")
    assert choice.order() == ("poll", "websocket", "sse")
    assert choice.better_than("poll") == ("websocket", "sse")


def test_a_single_failure_that_is_no_block_does_not_change_the_transport() -> None:
    """A hub that is away refuses every transport; the second failure in a row tries the next."""
    choice = Choice(("websocket", "sse"))
    assert not choice.failed(blocked=False)
    assert choice.failed(blocked=False)
    choice.worked("websocket")
    assert choice.failed(blocked=True)


def test_a_handshake_put_off_by_retry_after_is_neither_a_block_nor_waited_for_for_ever() -> None:
    """503 with a number of seconds: as long as asked, within 5 minutes."""
    put_off = refused(503, "full", retry_after="7")
    assert (put_off.asked_seconds, put_off.blocked, put_off.rejected) == (7, False, None)
    assert refused(503, "full", retry_after="999999").asked_seconds == 300


@pytest.mark.parametrize("url", ["http://h:8000", "https://h/base", "http://[::1]:8000"])
def test_an_address_of_a_hub_loses_only_its_last_slash(url: str) -> None:
    """A path is the hub's base path."""
    assert check_base_url(url) == check_base_url(url + "/") == url


@pytest.mark.parametrize(
    "url",
    ["", "h:8000", "ws://h/ws", "http://", "http://h:abc", "http://h:0", "http://h:65536",
     "http://[::1", "http://h h", "http://h\n"],
)  # fmt: skip
def test_an_address_of_no_hub_is_refused_at_once(url: str) -> None:
    """In one sentence with an example, before anything is tried."""
    with pytest.raises(ValueError, match=r"^hub URL is .*, expected something like http://"):
        check_base_url(url)


def test_a_refusal_for_now_only_is_tried_again() -> None:
    """A token that has not begun is such a refusal: the hub says that
    the same may succeed later."""
    early = refused(401, "not yet", retry_after="3", retryable=True)
    assert (early.asked_seconds, early.blocked, early.rejected) == (3, False, None)
    assert refused(401, "no such key").rejected is not None


@pytest.mark.parametrize(
    "text",
    [
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 99999999999999999999 Jan 2020 00:00:00 GMT",
        "Mon, 01 Jan 2020 99999999999999999999:00:00 GMT",
        "1e999",
        "inf",
        "nan",
        "9" * 5000 + "x",
        "\u0663",
    ],
)
def test_a_retry_after_that_is_no_time_asks_for_none(text: str) -> None:
    """Any server may answer, with any text."""
    assert asked_seconds(text, unix_now=1_700_000_000) == 0


def test_a_window_that_no_float_can_hold_is_a_day() -> None:
    """JSON's integers have no end."""
    assert Backoff(ReconnectTiming(), draw=highest).within(10**400) == 86_400
