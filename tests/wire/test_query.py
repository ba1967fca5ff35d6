"""The query of `/ws`, `/sse` and `/poll` is read strictly and in one way."""

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.publication import Position
from hub.errors import BadRequestError, TooManySubscriptionsError
from hub.wire.query import SubscriptionQuery, parse_event_id, parse_query

CHANNELS = st.from_regex(r"[A-Za-z0-9_.:@~+-]{1,200}", fullmatch=True)
POSITIONS = st.builds(
    Position, st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), st.integers(0, 2**53 - 1)
)


def read(query: str, *, max_channels: int = 32) -> SubscriptionQuery:
    return parse_query(query.encode(), max_channels=max_channels)


@given(st.dictionaries(CHANNELS, POSITIONS, min_size=1, max_size=8), st.booleans())
def test_channels_and_positions_survive_the_url(
    since: Mapping[str, Position], encoded: bool
) -> None:
    """Percent-encoded or literal: every character of a channel name may stand in a URL."""
    write = (lambda text: quote(text, safe="")) if encoded else str
    parts = [f"channel={write(name)}" for name in since]
    parts += [f"since={write(f'{name}={position}')}" for name, position in since.items()]
    query = read("&".join(parts))
    assert query.channels == tuple(since)
    assert query.since == since


@given(st.dictionaries(CHANNELS, POSITIONS, min_size=1, max_size=8))
def test_an_event_id_of_several_channels_can_be_read_back(since: Mapping[str, Position]) -> None:
    """`channel=epoch:offset` joined by commas, which no channel name contains."""
    text = ",".join(f"{name}={position}" for name, position in since.items())
    assert parse_event_id(text, tuple(since)) == since


def test_an_event_id_of_one_channel_is_its_position() -> None:
    """A pair is understood too, for a client that dropped its other channels."""
    assert parse_event_id("e:5", ("a",)) == {"a": Position("e", 5)}
    assert parse_event_id("a=e:5", ("a",)) == {"a": Position("e", 5)}


@pytest.mark.parametrize("text", ["", "e", "e:x", "e:-1", "a=e:1,a=e:2", "a=e:1,", "a=b=e:1"])
def test_a_malformed_event_id_is_refused(text: str) -> None:
    """Guessing would replay the wrong range."""
    for channels in (("a",), ("a", "c")):
        with pytest.raises(BadRequestError):
            parse_event_id(text, channels)


def test_an_event_id_may_name_a_channel_that_was_added_by_command() -> None:
    """An `EventSource` comes back with its first URL, which cannot name that channel."""
    assert parse_event_id("a=e:1,b=e:2", ("a",)) == {"a": Position("e", 1)}
    assert parse_event_id("b=e:2", ("a", "c")) == {}


def test_every_parameter_of_a_url_is_read() -> None:
    """One URL with all parameters."""
    query = read("channel=a&channel=b&since=a=e:5&last=3&token=t&fill=1&wait=2.5&connection=c")
    assert query == SubscriptionQuery(
        channels=("a", "b"),
        since={"a": Position("e", 5)},
        last=3,
        token="t",
        fill=True,
        wait=2.5,
        connection="c",
    )


def test_nothing_asked_is_nothing_given() -> None:
    """A session may subscribe by command later; unknown and empty parameters are ignored."""
    assert read("") == SubscriptionQuery()
    assert read("utm_source=x&&token=&cache-buster") == SubscriptionQuery()


def test_a_plus_is_a_plus() -> None:
    """Not a space, unlike in HTML forms: a channel name may contain one."""
    assert read("channel=a+b&token=x+y").channels == ("a+b",)
    assert read("channel=a+b&token=x+y").token == "x+y"


@pytest.mark.parametrize(
    "query",
    [
        "channel=a%2",
        "channel=%zz",
        "channel=%ff",
        "channel=a b",
        "channel=",
        "channel=a&channel=a",
        "channel=a&since=e:5",
        "channel=a&since=a=e",
        "channel=a&since=a=e:5=6",
        "channel=a&since=b=e:5",
        "channel=a&since=a=e:5&since=a=e:6",
        "channel=a&since=a=e:99999999999999999999",
        "last=-1",
        "last=1000001",
        "last=99999999999999999999",
        "last=1.5",
        "last=\u0663",
        "last=1&last=2",
        "token=a&token=b",
        "fill=maybe",
        "wait=-1",
        "wait=nan",
        "wait=inf",
        "wait=1e3",
        "wait=1_0",
        "wait=-0",
        "wait=%D9%A3",
        "wait=1000000",
    ],
)
def test_a_query_that_cannot_be_meant_is_refused(query: str) -> None:
    """With a message, not with a guess."""
    with pytest.raises(BadRequestError):
        read(query)


def test_a_pattern_as_a_channel_is_told_where_it_belongs() -> None:
    with pytest.raises(BadRequestError, match=r"; a pattern is subscribed to as pattern, not as"):
        read("channel=prices:*")
    with pytest.raises(BadRequestError, match=r"of A-Z a-z 0-9 _ \. : @ ~ \+ -$"):
        read("channel=prices:%25")


def test_too_many_channels_are_refused_with_both_numbers() -> None:
    """Before any of them is looked at."""
    assert len(read("channel=a&channel=b", max_channels=2).channels) == 2
    with pytest.raises(TooManySubscriptionsError, match="2 channels are asked for, limit is 1"):
        read("channel=a&channel=b", max_channels=1)


def test_the_header_wins_over_the_parameter_which_wins_over_since() -> None:
    """EventSource repeats the URL at every reconnect: its header is the newer knowledge."""
    both = read("channel=a&since=a=e:1&last_event_id=e:2")
    assert both.resume_from("e:3") == {"a": Position("e", 3)}
    assert both.resume_from("") == {"a": Position("e", 2)}
    assert both.resume_from() == {"a": Position("e", 2)}
    assert read("channel=a&since=a=e:1").resume_from() == {"a": Position("e", 1)}


@pytest.mark.parametrize("name", ["lastEventId", "lastEventID", "Last-Event-ID", "Last-Event-Id"])
def test_the_names_that_libraries_give_the_event_id_are_read(name: str) -> None:
    """They add it to the page's own URL at each reconnect, so it is the newer one."""
    assert read(f"channel=a&{name}=e:3").resume_from() == {"a": Position("e", 3)}
    both = read(f"channel=a&last_event_id=e:2&{name}=e:3")
    assert both.resume_from() == {"a": Position("e", 3)}


@pytest.mark.parametrize("query", ["chanel=a", "channel=a&lsat=1", "channels=a,b", "Token=t"])
def test_a_misspelt_parameter_is_refused(query: str) -> None:
    """Else a subscription without messages, or a refusal for want of a token, would follow."""
    with pytest.raises(BadRequestError, match="did you mean"):
        read(query)


@given(st.binary(max_size=60))
def test_any_bytes_are_either_read_or_refused(raw: bytes) -> None:
    """No other exception escapes."""
    with suppress(BadRequestError, TooManySubscriptionsError):
        parse_query(raw, max_channels=3)


def test_a_url_asks_for_the_newest_now_and_then() -> None:
    assert parse_query(b"channel=a&every_ms=500", max_channels=8).every_ms == 500
    assert parse_query(b"channel=a", max_channels=8).every_ms is None


def test_a_filter_is_read_as_html_forms_write_it() -> None:
    """Its spaces come as `+` from most libraries; a plus sign comes as %2B."""
    form = urlencode({"channel": "a", "filter": '{"cup": ["euro league", "a+b"]}'})
    found = parse_query(form.encode(), max_channels=8).filter
    assert found is not None
    assert json.loads(found.text) == {"cup": ["euro league", "a+b"]}
    assert parse_query(b"channel=a+b", max_channels=8).channels == ("a+b",)


def test_hundreds_of_patterns_and_places_are_not_tried_each_with_each() -> None:
    """A URL has room for hundreds of both, and anybody may send it."""
    count = 500
    parts = [f"pattern=b{n}:*" for n in range(count)] + [f"since=b{n}:a=k:1" for n in range(count)]
    tried = 0

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal tried
        tried += event == "call" and frame.f_code.co_name in ("matches", "matching")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        parse_query("&".join(parts).encode(), max_channels=32)
    finally:
        sys.setprofile(before)
    assert 0 < tried <= 2 * count
