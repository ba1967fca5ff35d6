"""Event blocks, read by the rules of the WHATWG standard and by a client's decoder."""

import json
from dataclasses import dataclass, field

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import given
from hypothesis import strategies as st

from hub.core.publication import Position, Publication
from hub.core.pushes import (
    Gap,
    GapReason,
    Goodbye,
    Heartbeat,
    Join,
    Member,
    PresenceReset,
    Push,
    Reply,
    Subscribed,
    Welcome,
)
from hub.wire import native_pushes
from hub.wire.query import parse_event_id
from hub.wire.sse import SeveralSseDialect, SseDialect, retry

SEVERAL = SeveralSseDialect()
ONE = SseDialect(SEVERAL)


@dataclass
class Browser:
    """An EventSource: WHATWG HTML section 9.2.6, "Interpreting an event stream"."""

    last_event_id: str = ""
    retry_ms: int | None = None
    events: list[tuple[str, str, str]] = field(default_factory=list)
    """Type, data, and last event id of each event dispatched."""
    _data: str = ""
    _type: str = ""
    _id: str = ""

    def read(self, stream: bytes) -> "Browser":
        text = stream.decode("utf-8", errors="strict").removeprefix("\ufeff")
        assert "\r" not in text, "LF line ends only"
        assert text.endswith("\n\n"), "a block is not finished"
        for line in text.removesuffix("\n").split("\n"):
            self._line(line)
        return self

    def _line(self, line: str) -> None:
        if not line:
            self._dispatch()
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            self._field(name, value.removeprefix(" "))

    def _field(self, name: str, value: str) -> None:
        match name:
            case "event":
                self._type = value
            case "data":
                self._data += value + "\n"
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_ms = int(value)
            case _:
                raise AssertionError(f"a browser would ignore {name}: {value}")

    def _dispatch(self) -> None:
        self.last_event_id = self._id
        data, type_, self._data, self._type = self._data, self._type, "", ""
        if data:
            self.events.append((type_ or "message", data.removesuffix("\n"), self.last_event_id))


PUBLICATION = Publication("a", 42, b'{"price": 1.0}', 5)
PUSHES: list[tuple[Push, str]] = [
    (Welcome("c", "n", 25, "1", "s"), "welcome"),
    (Subscribed("a", Position("e", 1), True, 0), "subscribed"),
    (PUBLICATION, "message"),
    (Gap("a", "e", 2, 5, GapReason.SLOW), "gap"),
    (Gap("a", "n", 0, 3, GapReason.RESET), "gap"),
    (Gap("a", "e", 0, 0, GapReason.SLOW, 3), "gap"),
    (Join("a", Member("m", "c")), "join"),
    (PresenceReset("a"), "presence_reset"),
    (Goodbye(1012, "draining", 8000), "goodbye"),
    (Reply(1), "reply"),
]


@pytest.mark.parametrize("dialect", [ONE, SEVERAL], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(("push", "event"), PUSHES, ids=lambda value: type(value).__name__)
def test_a_push_is_one_event_with_the_native_object_as_its_data(
    dialect: SseDialect | SeveralSseDialect, push: Push, event: str
) -> None:
    """`event:` names every push except a message; a browser and a client agree on it."""
    block = dialect.encode(push, "e")
    ((type_, data, _),) = Browser().read(block).events
    assert (type_, data.encode()) == (event, native_pushes.encode(push))
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=block)
    (found,) = EventSource(response).iter_sse()
    assert (found.event, found.data) == (type_, data)


@pytest.mark.parametrize(
    ("push", "id_"),
    [
        (PUBLICATION, "e:42"),
        (Gap("a", "e", 2, 5, GapReason.EXPIRED), "e:5"),
        (Gap("a", "n", 0, 3, GapReason.RESET), "n:3"),
        (Subscribed("a", Position("e", 7), True, 0), "e:7"),
    ],
)
def test_with_one_channel_what_moves_the_position_carries_it(push: Push, id_: str) -> None:
    """`Last-Event-ID` resumes from there."""
    epoch = "n" if id_.startswith("n") else "e"
    browser = Browser().read(ONE.encode(push, epoch))
    assert browser.last_event_id == id_
    assert parse_event_id(id_, ("a",)) == {"a": Position.parse(id_)}


@pytest.mark.parametrize(
    "push",
    [
        Publication("a", 0, b"1", 5),
        Gap("a", "e", 0, 0, GapReason.SLOW, 3),
        Join("a", Member("m", "c")),
        Goodbye(1012, "draining", 8000),
        Heartbeat(),
    ],
    ids=lambda push: type(push).__name__,
)
def test_a_push_that_moves_no_position_leaves_the_last_event_id_alone(push: Push) -> None:
    browser = Browser().read(ONE.encode(PUBLICATION, "e") + ONE.encode(push, "e"))
    assert browser.last_event_id == "e:42"


def test_a_peer_cut_before_a_reset_resumes_from_the_epoch_before_it() -> None:
    """Else the reset, which comes in a block of its own, would never be told."""
    browser = Browser().read(ONE.encode(PUBLICATION, "e"))
    browser.read(ONE.encode(Subscribed("a", Position("n", 0), False, 2), "n"))
    assert browser.last_event_id == "e:42"
    browser.read(ONE.encode(Gap("a", "n", 0, 0, GapReason.RESET), "n"))
    assert browser.last_event_id == "n:0"


def test_a_heartbeat_is_a_comment() -> None:
    """A comment dispatches no event."""
    for dialect in (ONE, SEVERAL):
        assert dialect.encode(Heartbeat(), "").startswith(b":")
        assert Browser().read(dialect.encode(Heartbeat(), "")).events == []


def test_a_goodbye_sets_when_a_plain_event_source_comes_back() -> None:
    """Only where it should come back at all."""
    assert Browser().read(ONE.encode(Goodbye(1012, "draining", 8000), "")).retry_ms == 8000
    assert Browser().read(ONE.encode(Goodbye(4403, "no"), "")).retry_ms is None
    assert Browser().read(retry(1000) + ONE.encode(PUBLICATION, "e")).retry_ms == 1000


CHANNELS = st.from_regex(r"[A-Za-z0-9_.:@~+-]{1,200}", fullmatch=True)
PLACES = st.builds(
    Position, st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), st.integers(0, 2**53 - 1)
)


@given(st.dictionaries(CHANNELS, PLACES, min_size=2, max_size=32))
def test_with_several_channels_an_event_of_its_own_sets_the_positions_of_all(
    places: dict[str, Position],
) -> None:
    """No `onmessage` is called for it; it has data, or parsers would forget its id."""
    stream = SEVERAL.encode(PUBLICATION, "e") + SEVERAL.encode_positions(list(places.items()))
    browser = Browser().read(stream)
    assert [type_ for type_, _, _ in browser.events] == ["message", "positions"]
    assert json.loads(browser.events[-1][1]) == {"op": "positions"}
    assert parse_event_id(browser.last_event_id, tuple(places)) == places


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_payload_breaks_out_of_its_block(text: str) -> None:
    """Line breaks of every kind, colons and NUL inside strings included."""
    push = Publication("a", 1, json.dumps(text, ensure_ascii=False).encode(), 5, "k")
    ((type_, data, id_),) = Browser().read(ONE.encode(push, "e")).events
    assert (type_, id_) == ("message", "e:1")
    assert json.loads(data)["data"] == text
