"""Heads that come again: found by their bytes, and what they mean is what the parser read."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.auth.policy import Policy
from hub.transports.connection.reader import RequestReader
from hub.transports.http.known import KnownHead, KnownHeads, cut
from hub.transports.request import Cut
from tests.transports.connection.rig import LIMITS, Rig, post

KEY = "a-key-that-is-long-enough-to-be-one"


class Unknown(KnownHeads):
    """Knows nothing: each head is read."""

    def find(self, head: Cut) -> KnownHead | None:
        return None


def known_reads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies that come without the parser from now on."""
    found: list[bytes] = []
    passed = RequestReader._pass_known

    def noted(self: RequestReader, data: bytes, heads: KnownHeads) -> bytes:
        rest = passed(self, data, heads)
        if len(rest) != len(data):
            found.append(data[: len(data) - len(rest)])
        return rest

    monkeypatch.setattr(RequestReader, "_pass_known", noted)
    return found


async def test_a_head_that_comes_again_is_not_parsed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with another length and another idempotency key, on any connection of the node."""
    reads = known_reads(monkeypatch)
    rig.receive(post("a", b"1"))
    assert not reads
    rig.receive(post("a", b"2"))
    rig.receive(post("a", b"33333"))
    rig.connect()
    rig.receive(post("a", b"4") + post("a", b"5"))
    assert len(reads) == 3
    assert rig.published == [b"1", b"2", b"33333", b"4", b"5"]
    assert rig.answers == [200, 200]


async def test_each_request_has_its_own_idempotency_key(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = known_reads(monkeypatch)
    for key in ("one", "two", "three"):
        rig.receive(post("a", b"1", f"Idempotency-Key: {key}\r\n"))
    assert len(reads) == 2
    assert [asked.idempotency_key for asked in rig.registry.published] == ["one", "two", "three"]


@pytest.mark.parametrize(
    "field",
    [
        "Connection: close", "Transfer-Encoding: chunked", "Expect: 100-continue", "Cookie: a=b",
        "Content-Encoding: gzip", "Origin: http://localhost", "Sec-Fetch-Site: same-origin",
        "Upgrade: h2c\r\nConnection: Upgrade", "X: a\r\n b", "X: 1\r\nX: 2",
        "Idempotency-Key: a b", "Idempotency-Key: ",
        "Idempotency-Key: \u00e9", "Idempotency-Key: a\r\nIdempotency-Key: b",
        "Content-Length: 1", "X-Long: " + "x" * 1024,
    ],
)  # fmt: skip
async def test_a_head_that_needs_another_look_is_read_each_time(
    make_rig: Callable[..., Rig], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = known_reads(monkeypatch)
    rig = make_rig(limits=replace(LIMITS, max_head_bytes=16 * 1024))
    for _ in range(3):
        rig.connect()
        rig.receive(post("a", b"1", f"{field}\r\n"))
    assert not reads


async def test_a_token_is_verified_each_time(
    make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key holds as long as the process, so its head may be known; another key is another head."""
    reads = known_reads(monkeypatch)
    rig = make_rig(policy=Policy(publish_keys=[KEY]))
    right, wrong = (f"Authorization: Bearer {key}\r\n" for key in (KEY, KEY[:-1] + "x"))
    for more in (right, right, wrong, wrong):
        rig.receive(post("a", b"1", more))
        if more == right:
            continue
        assert rig.answers[-1] == 401
        rig.connect()
    assert len(reads) == 1


async def test_a_body_over_the_limit_is_refused_behind_a_known_head(rig: Rig) -> None:
    for size in (1, 200, 201):
        rig.receive(post("a", b"1" * size))
    assert rig.answers == [200, 200, 413]


async def test_a_known_head_whose_body_comes_later_is_parsed(rig: Rig) -> None:
    rig.receive(post("a", b"1"))
    whole = post("a", b"23")
    for end in range(1, len(whole)):
        rig.receive(whole[:end])
        rig.receive(whole[end:])
    assert rig.published == [b"1", *([b"23"] * (len(whole) - 1))]


async def test_requests_of_known_heads_wait_for_their_turn(rig: Rig) -> None:
    """The first waits for the broker: those behind it are answered in order."""
    rig.receive(post("a", b"1"))
    rig.receive(post("slow", b"1") + post("a", b"2") + post("a", b"3"))
    assert rig.published == [b"1"]
    rig.registry.gate.set()
    await rig.settle()
    assert rig.published == [b"1", b"1", b"2", b"3"]
    assert rig.answers == [200] * 4


async def test_a_crowded_node_turns_known_heads_away(rig: Rig) -> None:
    rig.receive(post("a", b"1"))
    rig.sockets.crowded = True
    rig.connect()
    rig.receive(post("a", b"2"))
    assert rig.answers == [503]
    assert rig.transport.eof or rig.transport.ended
    assert rig.published == [b"1"]


async def test_a_peer_that_sends_another_head_each_time_is_not_looked_up_for_ever(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[bytes] = []

    def noted(data: bytes, at: int) -> Cut | None:
        looked.append(data)
        return cut(data, at)

    monkeypatch.setattr("hub.transports.connection.reader.cut", noted)
    for number in range(100):
        rig.receive(post("a", b"1", f"X-Request-Id: {number}\r\n"))
    assert rig.answers == [200] * 100
    assert len(looked) < 20


async def test_known_heads_are_bounded(rig: Rig) -> None:
    heads = rig.context.dispatcher.heads
    for number in range(3000):
        rig.connect()
        rig.receive(post("a", b"1", f"X-Request-Id: {number}\r\n"))
    assert len(heads._heads) <= 1024


# -- against the parser -------------------------------------------------------------

_FIELDS = st.sampled_from(
    [
        "X: y", "X:y", "X:   y  ", "X: ", "X", " X: y", "X : y", "X: a\x00b", "X: a\rb", ": y",
        "X: y\r\n z", "Connection: close", "Connection: keep-alive", "Upgrade: h2c", "Host: b",
        "Content-Length: 3", "Content-Length: 03", "Content-Length: +3", "Content-Length:3",
        "content-length: 3", "Content-Length: 3 ", "Content-Length: 0", "Content-Length: 4",
        "Transfer-Encoding: chunked", "Transfer-Encoding: identity", "Expect: 100-continue",
        "Idempotency-Key: a", "Idempotency-Key: b", "Idempotency-Key:  c ", "idempotency-key: d",
        "Idempotency-Key: ", "Idempotency-Key: a b", "Idempotency-Key: \x7f", "X-Message-Key: m",
    ]
)  # fmt: skip
_ENDS = st.sampled_from(["\r\n"] * 20 + ["\n", "\r", "\r\r\n", ""])
_LINES = st.sampled_from(
    ["POST /api/publish/a HTTP/1.1"] * 6
    + ["POST /api/publish/b?key=k HTTP/1.1", "POST /api/publish/a HTTP/1.0", "POST  / HTTP/1.1"]
)
_BODIES = st.sampled_from(["123", "4567", "", "3\r\n123\r\n0\r\n\r\n", "POST /api/publish/a"])


_KEYS = st.sampled_from(["", "Idempotency-Key: a\r\n", "Idempotency-Key: b\r\n"])
_SEVERAL = st.sampled_from(["Idempotency-Key: a b\r\n", "X: y\r\n", "Connection: close\r\n"])


@st.composite
def good_requests(draw: st.DrawFn) -> list[bytes]:
    """Two or three that differ in what a known head may differ in, or in a little more."""
    line, made = draw(_LINES), []
    for _ in range(draw(st.integers(2, 3))):
        body = draw(st.sampled_from(["123", "4567"]))
        fields = [draw(_KEYS), f"Content-Length: {len(body)}\r\n"]
        if draw(st.integers(0, 3)) == 0:
            fields.append(draw(_SEVERAL))
        if draw(st.booleans()):
            fields.reverse()
        made.append(f"{line}\r\nHost: localhost\r\n{''.join(fields)}\r\n{body}".encode())
    return made


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Few requests, each sent several times, in reads of one or two of them."""
    shapes = draw(good_requests()) if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0 if shapes else 1, 2))):
        lines = [draw(_LINES), "Host: localhost", *draw(st.lists(_FIELDS, max_size=3))]
        lines += [f"Content-Length: {draw(st.sampled_from([3, 4, 0]))}"] * draw(st.integers(0, 1))
        head = "".join(line + draw(_ENDS) for line in lines)
        shapes.append(f"{head}\r\n{draw(_BODIES)}".encode("latin-1"))
    order = draw(st.lists(st.sampled_from(shapes), min_size=2, max_size=8))
    glued = draw(st.booleans())
    return [b"".join(order[at : at + 2]) for at in range(0, len(order), 2)] if glued else order


async def outcome(rig: Rig, reads: Sequence[bytes], heads: KnownHeads | None) -> object:
    """Returns what a new node answers and publishes; a connection that
    ends is followed by another."""
    if heads is not None:
        rig.context.dispatcher.heads = heads
        rig.connect()
    answered = []
    for data in reads:
        rig.receive(data)
        await rig.settle()
        if rig.transport.ended or rig.transport.eof:
            answered.append(rig.whole_answers())
            rig.connect()
    answered.append(rig.whole_answers())
    return answered, rig.registry.published


@settings(
    max_examples=2 * settings().max_examples,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(reads=streams(), publishes=st.sampled_from(["by coroutine", "now", "soon"]))
async def test_known_heads_change_no_answer(
    files: Path, reads: list[bytes], publishes: str
) -> None:
    """The same reads go to a node that knows heads and to one that reads each of them."""
    found = await outcome(Rig(files, publishes=publishes), reads, None)
    assert found == await outcome(Rig(files, publishes=publishes), reads, Unknown())
