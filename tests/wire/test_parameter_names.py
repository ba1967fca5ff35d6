"""A misspelt parameter of a query is refused, and the answer names the one that was meant."""

import re
import sys
from types import FrameType

import pytest

from hub.errors import BadRequestError
from hub.wire import parameter_names
from hub.wire.parameter_names import ParameterNames
from hub.wire.query import parse_query

NAMES = ParameterNames(("channel", "since", "last", "last_event_id", "every_ms", "key"))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("chanel", "channel"),
        ("channels", "channel"),
        ("chnanel", "channel"),
        ("chammel", None),
        ("channek", "channel"),
        ("Channel", "channel"),
        ("sinse", "since"),
        ("lsat", "last"),
        ("lasts", "last"),
        ("las", "last"),
        ("everyMs", "every_ms"),
        ("lastEventID", "last_event_id"),
        ("LAST-EVENT-ID", "last_event_id"),
        ("kye", "key"),
        ("list", None),
        ("past", None),
        ("hey", None),
        ("utm_source", None),
        ("_", None),
        ("", None),
        ("c\u00e1nnel", None),
        ("channel\x7f", None),
        ("channelchannelchannel", None),
    ],
)
def test_a_name_that_is_almost_a_known_one_is_refused(given: str, meant: str | None) -> None:
    """Other names are ignored, because proxies and caches add some."""
    if meant is None:
        NAMES.refuse_misspelt([given])
        return
    message = f"{given} is not a parameter; did you mean {meant}?"
    with pytest.raises(BadRequestError, match=f"^{re.escape(message)}$"):
        NAMES.refuse_misspelt([given])


def test_known_names_are_never_refused() -> None:
    """Also where one is almost another one."""
    names = ParameterNames(("node", "nodes"))
    names.refuse_misspelt(["node", "nodes"])
    names.refuse_misspelt([])
    ParameterNames(()).refuse_misspelt(["node"])


def test_an_answer_holds_no_value() -> None:
    """The value of a misspelt `token` is a secret all the same."""
    with pytest.raises(BadRequestError) as raised:
        parse_query(b"channel=a&tokn=s3cret", max_channels=8)
    assert raised.value.message == "tokn is not a parameter; did you mean token?"


def test_many_unknown_names_are_not_compared_all() -> None:
    """A peer without credentials may send as many as a URL holds."""
    query = "&".join(f"chan{number:04}=1" for number in range(400)).encode()
    steps = 0

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal steps
        steps += event == "call" and frame.f_code.co_filename == parameter_names.__file__

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        parse_query(query, max_channels=8)
    finally:
        sys.setprofile(before)
    assert 0 < steps < 100
