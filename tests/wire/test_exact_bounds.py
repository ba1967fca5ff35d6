"""Each bound of what peers write: up to it all is taken, and one beyond is refused."""

import json
from collections.abc import Callable

import pytest

from hub.core import commands
from hub.errors import BadRequestError, HubError, TooLargeError, TooManySubscriptionsError
from hub.wire import native_commands
from hub.wire.filters import check_tags, read_filter, read_tags
from hub.wire.parameter_names import ParameterNames
from hub.wire.payload import check_key, check_payload, keep_of
from hub.wire.query import parse_query, read_moment
from hub.wire.websocket import close_reason
from tests.wire.splitting import split_items

DATA_BYTES = 100


def command(**fields: object) -> commands.Command:
    return native_commands.decode(
        json.dumps({"id": 1, "channel": "a"} | fields).encode(), max_message_bytes=DATA_BYTES
    )


def subscribe(**fields: object) -> None:
    command(op="subscribe", **fields)


def publish(**fields: object) -> None:
    command(op="publish", **{"data": 1} | fields)


def query(text: str) -> None:
    parse_query(text.encode(), max_channels=32)


def item(text: str) -> None:
    for found in split_items(text.encode(), max_items=3).items:
        if isinstance(found, HubError):
            raise found


def text_of(size: int) -> str:
    """JSON of that many bytes."""
    return '"' + "x" * (size - 2) + '"'


def many(count: int, value: str = "1") -> dict[str, object]:
    return {f"t{number}": value for number in range(count)}


BOUNDS: list[tuple[str, Callable[[], object], Callable[[], object], type[HubError], str]] = [
    (
        "a payload by its bytes",
        lambda: check_payload(text_of(100).encode(), limit=100),
        lambda: check_payload(text_of(101).encode(), limit=100),
        TooLargeError,
        "payload is 101 bytes, limit is 100",
    ),
    (
        "a payload by its brackets",
        lambda: check_payload(b"[" * 512 + b"]" * 512, limit=10_000),
        lambda: check_payload(b"[" * 513 + b"]" * 513, limit=10_000),
        BadRequestError,
        "nesting is over the limit of 512",
    ),
    (
        "the data of a publish",
        lambda: publish(data="x" * (DATA_BYTES - 2)),
        lambda: publish(data="x" * (DATA_BYTES - 1)),
        TooLargeError,
        "payload is 101 bytes, limit is 100",
    ),
    (
        "a key by its characters",
        lambda: check_key("é" * 200, "key"),
        lambda: check_key("é" * 201, "key"),
        BadRequestError,
        "key is 201 characters",
    ),
    (
        "a key that is empty",
        lambda: check_key("k", "key"),
        lambda: check_key("", "key"),
        BadRequestError,
        "key is 0 characters",
    ),
    (
        "a time to live",
        lambda: keep_of(ttl_seconds=315_360_000, history=True),
        lambda: keep_of(ttl_seconds=315_360_001, history=True),
        BadRequestError,
        "ttl_seconds is 315360001",
    ),
    (
        "a time to live of nothing",
        lambda: keep_of(ttl_seconds=0.001, history=True),
        lambda: keep_of(ttl_seconds=0, history=True),
        BadRequestError,
        "ttl_seconds is 0",
    ),
    (
        "the number of tags",
        lambda: check_tags(json.dumps(many(16)).encode()),
        lambda: check_tags(json.dumps(many(17)).encode()),
        BadRequestError,
        "17 tags, limit is 16",
    ),
    (
        "a tag's name",
        lambda: read_tags("n" * 64 + "=x"),
        lambda: read_tags("n" * 65 + "=x"),
        BadRequestError,
        "a tag's name is 65 characters",
    ),
    (
        "a tag's value",
        lambda: read_tags("n=" + "é" * 200),
        lambda: read_tags("n=" + "é" * 201),
        BadRequestError,
        "'n' is 201 characters, limit is 200",
    ),
    (
        "a filter by its tags",
        lambda: subscribe(filter=many(16)),
        lambda: subscribe(filter=many(17)),
        BadRequestError,
        "filter has 17 tags",
    ),
    (
        "a filter by its names",
        lambda: subscribe(filter={"n" * 64: 1}),
        lambda: subscribe(filter={"n" * 65: 1}),
        BadRequestError,
        "filter names a tag of 65 characters",
    ),
    (
        "a filter by the values of a list",
        lambda: subscribe(filter={"n": [1] * 100}),
        lambda: subscribe(filter={"n": [1] * 101}),
        BadRequestError,
        "filter lists 101 values",
    ),
    (
        "a filter by a value",
        lambda: subscribe(filter={"n": {"gt": "x" * 200}}),
        lambda: subscribe(filter={"n": {"gt": "x" * 201}}),
        BadRequestError,
        "over 200 characters",
    ),
    (
        "a filter by its bytes",
        lambda: read_filter(b'{"n":%b1}' % (b" " * (4096 - 7))),
        lambda: read_filter(b'{"n":%b1}' % (b" " * (4097 - 7))),
        BadRequestError,
        "filter is 4,097 bytes, limit is 4,096",
    ),
    (
        "the newest of a channel",
        lambda: subscribe(last=1_000_000),
        lambda: subscribe(last=1_000_001),
        BadRequestError,
        "last is 1000001, allowed is 0 to 1,000,000",
    ),
    (
        "fewer than none of a channel",
        lambda: subscribe(last=0),
        lambda: subscribe(last=-1),
        BadRequestError,
        "last is -1",
    ),
    (
        "the newest by URL",
        lambda: query("channel=a&last=1000000"),
        lambda: query("channel=a&last=1000001"),
        BadRequestError,
        "last is '1000001', allowed is 0 to 1,000,000",
    ),
    (
        "the shortest interval",
        lambda: subscribe(every_ms=1),
        lambda: subscribe(every_ms=0),
        BadRequestError,
        "every_ms is 0, allowed is 1 to 3,600,000",
    ),
    (
        "the longest interval",
        lambda: subscribe(every_ms=3_600_000),
        lambda: subscribe(every_ms=3_600_001),
        BadRequestError,
        "every_ms is 3600001",
    ),
    (
        "the shortest interval by URL",
        lambda: query("channel=a&every_ms=1"),
        lambda: query("channel=a&every_ms=0"),
        BadRequestError,
        "every_ms is '0', allowed is 1 to 3,600,000",
    ),
    (
        "the longest interval by URL",
        lambda: query("channel=a&every_ms=3600000"),
        lambda: query("channel=a&every_ms=3600001"),
        BadRequestError,
        "every_ms is '3600001'",
    ),
    (
        "channels of a URL",
        lambda: query("&".join(f"channel=c{n}" for n in range(32))),
        lambda: query("&".join(f"channel=c{n}" for n in range(33))),
        TooManySubscriptionsError,
        "33 channels are asked for, limit is 32",
    ),
    (
        "seconds of a wait",
        lambda: query("wait=999999"),
        lambda: query("wait=999999.5"),
        BadRequestError,
        "wait is '999999.5'",
    ),
    (
        "a moment in milliseconds",
        lambda: read_moment("from_time", 253_402_300_799_999),
        lambda: read_moment("from_time", 253_402_300_800_000),
        BadRequestError,
        "from_time is 253402300800000, allowed is 0 to 253402300799999",
    ),
    (
        "a moment before 1970",
        lambda: read_moment("from_time", 0),
        lambda: read_moment("from_time", -1),
        BadRequestError,
        "from_time is -1",
    ),
    (
        "presence data",
        lambda: subscribe(presence={"data": "x" * 4094}),
        lambda: subscribe(presence={"data": "x" * 4095}),
        TooLargeError,
        "payload is 4,097 bytes, limit is 4,096",
    ),
    (
        "an update of presence data",
        lambda: command(op="presence_update", data="x" * 4094),
        lambda: command(op="presence_update", data="x" * 4095),
        TooLargeError,
        "payload is 4,097 bytes, limit is 4,096",
    ),
    (
        "a member's id",
        lambda: command(op="presence", after="x" * 255),
        lambda: command(op="presence", after="x" * 256),
        BadRequestError,
        "after is 256 characters",
    ),
    (
        "the id of a command, a text",
        lambda: command(op="ping", id="x" * 200),
        lambda: command(op="ping", id="x" * 201),
        BadRequestError,
        "id is",
    ),
    (
        "the id of a command, a number",
        lambda: command(op="ping", id=2**64 - 1),
        lambda: command(op="ping", id=2**64),
        BadRequestError,
        "id is",
    ),
    (
        "the id of a command, a negative number",
        lambda: command(op="ping", id=-(2**63)),
        lambda: command(op="ping", id=-(2**63) - 1),
        BadRequestError,
        "id is",
    ),
    (
        "the items of an array",
        lambda: item("[" + ",".join(['{"channel":"a","data":1}'] * 3) + "]"),
        lambda: item("[" + ",".join(['{"channel":"a","data":1}'] * 4) + "]"),
        TooLargeError,
        "batch has 4 items, limit is 3",
    ),
    (
        "the channels of one payload",
        lambda: item(json.dumps({"channels": [f"c{n}" for n in range(100)], "data": 1})),
        lambda: item(json.dumps({"channels": [f"c{n}" for n in range(101)], "data": 1})),
        TooLargeError,
        "101 channels, limit is 100",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("at", "beyond", "error", "why"), [row[1:] for row in BOUNDS], ids=[row[0] for row in BOUNDS]
)
def test_up_to_its_bound_it_is_taken_and_one_beyond_it_is_refused_with_both_numbers(
    at: Callable[[], object], beyond: Callable[[], object], error: type[HubError], why: str
) -> None:
    at()
    with pytest.raises(error) as refused:
        beyond()
    assert type(refused.value) is error
    assert why in refused.value.message


def test_a_close_has_up_to_123_bytes_of_its_reason() -> None:
    """A control frame has 125, and the code takes two of them (RFC 6455, section 5.5)."""
    assert close_reason("x" * 123) == "x" * 123
    assert len(close_reason("x" * 124).encode()) <= 123
    assert close_reason("é" * 61) == "é" * 61
    assert len(close_reason("é" * 62).encode()) <= 123


def test_a_history_command_asks_for_100_unless_it_says_otherwise() -> None:
    asked = command(op="history")
    assert isinstance(asked, commands.History)
    assert asked.limit == 100


def test_of_names_that_are_not_known_four_are_looked_at() -> None:
    names = ParameterNames(["channel"])
    strange = [f"unlike{number}" for number in range(4)]
    names.refuse_misspelt([*strange, "chanel"])
    with pytest.raises(BadRequestError, match="did you mean channel"):
        names.refuse_misspelt([*strange[1:], "chanel"])
