"""Publications as bytes in Redis."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.brokers.redis.channels.messages import decode, decode_announcement, envelope
from hub.core.ports import PublishRequest
from hub.core.publication import ENDS, REMOVES, Publication

_NAMES = st.none() | st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20
)


@given(key=_NAMES, sender=_NAMES, skip=_NAMES)
def test_fields_beside_the_data_survive(
    key: str | None, sender: str | None, skip: str | None
) -> None:
    request = PublishRequest("c", b'"\\n"', "p", key, sender, skip)
    raw = b"\n".join((b"e1", b"7", b"1700000000000", envelope(request), request.data))
    message = decode("c", raw, max_message_bytes=100)
    assert message is not None
    assert (message.epoch, message.offset) == ("e1", 7)
    expected = Publication("c", 7, request.data, 1700000000000, key, sender, skip)
    assert message.publication == expected


DEEP = b"[" * 100_000
"""More brackets within brackets than the library follows."""


@pytest.mark.parametrize("marks", [0, REMOVES, ENDS, REMOVES | ENDS])
def test_a_publication_that_history_does_not_hold_says_so(marks: int) -> None:
    """A subscriber that reads history cannot get it from there. The library finds the end by the
    last field."""
    request = PublishRequest("c", b"1", "p", marks=marks, keep_ms=0)
    said = envelope(request)
    message = decode("c", b"e1\n7\n1\n" + said + b"\n1", max_message_bytes=100)
    assert message is not None
    assert message.publication == Publication("c", 7, b"1", 1, marks=marks, keep_ms=0)
    assert bool(re.search(rb",[23]\]$", said)) == bool(marks & ENDS)
    assert envelope(PublishRequest("c", b"1", "p", keep_ms=1000)) == b""


@pytest.mark.parametrize(
    "raw",
    [
        b"e\n1\n1\n\n{",
        b"e\n1\n1\n\n" + b"1" * 101,
        b"e\n1\nx\n\n1",
        b"e\n1\n-1\n\n1",
        b"e\n1\n1_0\n\n1",
        b"e\n1\n9999999999999999\n\n1",
        b"e\n1\n" + b"9" * 400 + b"\n\n1",
        b"e\n1\n" + b"9" * 5000 + b"\n\n1",
        b"e\n1\n1\n[1]\n1",
        b'e\n1\n1\n["a",1]\n1',
        b'e\n1\n1\n["",null,null]\n1',
        b'e\n1\n1\n["\xff",null,null]\n1',
        b"e\n1\n1\n[null,null,null,null,0,0," + DEEP + b"\n1",
        b"e\n1\n1\n\n" + DEEP[:90],
    ],
)
def test_numbered_message_that_cannot_be_delivered_keeps_its_number(raw: bytes) -> None:
    message = decode("c", raw, max_message_bytes=100)
    assert message is not None
    assert (message.epoch, message.offset, message.publication) == ("e", 1, None)


def test_an_envelope_says_only_as_much_as_it_must() -> None:
    """Fields that are missing at the envelope's end have no value."""
    message = decode("c", b'e\n1\n2\n["a",null]\n3', max_message_bytes=100)
    assert message is not None
    assert message.publication == Publication("c", 1, b"3", 2, "a", None, None)


@pytest.mark.parametrize(
    "raw", [b"", b"e\n1\n1\n", b"e\n-1\n1\n\n1", b"e\n0\n1\n\n1", b"e\n99999999999999999\n1\n\n1"]
)
def test_message_without_a_number_is_none(raw: bytes) -> None:
    assert decode("c", raw, max_message_bytes=100) is None


@given(st.binary(max_size=60))
def test_noise_never_raises(raw: bytes) -> None:
    decode("c", raw, max_message_bytes=100)
    decode("c", b"e\n1\n1\n" + raw, max_message_bytes=100)


@pytest.mark.parametrize("what", [b"join", b"leave", b"update"])
@pytest.mark.parametrize("member", [DEEP, b'["a","b",null,"{}",1,' + DEEP, b"{}", b"\xff"])
def test_an_announcement_of_no_member_is_none(what: bytes, member: bytes) -> None:
    assert decode_announcement("c", b"presence\n" + what + b"\n" + member) is None
