"""The hub's encoders and decoders against the golden files, and whether those are complete."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec import structs

import hub.errors
from hub.core import commands, pushes
from hub.core.commands import Command
from hub.core.publication import Position, Publication
from hub.core.pushes import GapReason, Member, Push, Reply, Welcome
from hub.errors import HubError
from hub.transports.http.answer import problem_fields
from hub.wire import native_commands, native_pushes, poll
from hub.wire.codes import HTTP_STATUS, CloseCode
from hub.wire.filters import TagFilter
from hub.wire.items import Item
from hub.wire.query import parse_query
from hub.wire.sse import SeveralSseDialect, SseDialect
from tests.support.golden import Case, golden, golden_case, name_of
from tests.wire.splitting import split_items
from tests.wire.test_codes import may_reconnect

PROTOCOL = Path(__file__).parents[2] / "clients" / "PROTOCOL.md"
# Never sent: what a settings file is refused with.
NOT_ON_THE_WIRE = {"settings"}

# Of a publication, what no subscriber is told.
STAY = {"skip_connection", "trace", "keep_ms"}

COMMANDS, PUSHES, REPLIES = golden("commands"), golden("pushes"), golden("replies")


def plain(value: object) -> object:
    """A field of a command as a golden file writes it."""
    if isinstance(value, Position):
        return str(value)
    if isinstance(value, TagFilter):
        return json.loads(value.text)
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return json.loads(value) if isinstance(value, bytes) else value


def meaning(command: Command) -> Case:
    """The command's class and the fields that are not at their default."""
    fields = {
        field.name: plain(getattr(command, field.name))
        for field in structs.fields(command)
        if getattr(command, field.name) != field.default
    }
    return {"class": type(command).__name__, **fields}


def _member(fields: Case) -> Member:
    if "data" in fields:
        fields = fields | {"data": json.dumps(fields["data"], separators=(",", ":")).encode()}
    return Member(**fields)


def built(case: Case) -> Push:
    """The push that a golden file describes."""
    fields = dict(case["is"])
    name = fields.pop("class")
    convert: dict[str, Any] = {
        "rows": lambda rows: [built({"is": {"class": "Publication", **row}}) for row in rows],
        "position": Position.parse,
        "positions": lambda places: {name: Position.parse(at) for name, at in places.items()},
        "reason": GapReason if name == "Gap" else str,
        "member": _member,
        "tags": lambda tags: json.dumps(tags, separators=(",", ":")).encode(),
        "data": lambda data: json.dumps(data, separators=(",", ":")).encode(),
        "given": lambda data: json.dumps(data, separators=(",", ":")).encode(),
    }
    made = {field: convert.get(field, lambda as_it_is: as_it_is)(v) for field, v in fields.items()}
    push: Push = (Publication if name == "Publication" else getattr(pushes, name))(**made)
    return push


@pytest.mark.parametrize("case", COMMANDS, ids=name_of)
def test_a_golden_command_means_to_the_hub_what_it_says(case: Case) -> None:
    """Every field arrives, and no other is set."""
    raw = json.dumps(case["wire"]).encode()
    assert meaning(native_commands.decode(raw, max_message_bytes=1000)) == case["means"]


@pytest.mark.parametrize("case", PUSHES, ids=name_of)
def test_a_push_is_encoded_as_its_golden_file_says(case: Case) -> None:
    """As a WebSocket frame's text."""
    assert json.loads(native_pushes.encode(built(case))) == case["wire"]


@pytest.mark.parametrize("case", [case for case in PUSHES if "sse" in case], ids=name_of)
def test_a_push_is_a_block_of_server_sent_events(case: Case) -> None:
    """Byte for byte: names, order and line ends."""
    epoch = case.get("sse_epoch", "k3f9")
    assert SseDialect(SeveralSseDialect()).encode(built(case), epoch).decode() == case["sse"]


@pytest.mark.parametrize("case", REPLIES, ids=name_of)
def test_a_reply_is_encoded_as_its_golden_file_says(case: Case) -> None:
    """Its `ok` as the registry makes it is compared by `tests/transports/test_golden_hub.py`."""
    wire = case["wire"]
    error = made_error(wire["error"]) if "error" in wire else None
    assert json.loads(native_pushes.encode(Reply(wire["id"], wire.get("ok"), error))) == wire


def made_error(said: Case) -> HubError:
    kind = next(each for each in error_classes() if each.code == said["code"])
    error = kind(said["message"])
    error.retry_after_seconds = said.get("retry_after_seconds")
    return error


def error_classes() -> list[type[HubError]]:
    found = [each for each in vars(hub.errors).values() if isinstance(each, type)]
    return [each for each in found if issubclass(each, HubError)]


def test_positions_of_several_channels_are_one_event_id_and_come_back_as_one() -> None:
    """The Last-Event-ID that EventSource returns resumes every channel."""
    case = golden("sse")["several_channels"]
    positions = [(name, Position.parse(text)) for name, text in case["positions"].items()]
    assert SeveralSseDialect().encode_positions(positions).decode() == case["block"]
    query = "&".join(f"channel={name}" for name in case["positions"])
    resumed = parse_query(query.encode(), max_channels=32).resume_from(case["last_event_id"])
    assert dict(resumed) == dict(positions)


def test_the_last_event_id_of_one_channel_wins_over_since() -> None:
    """With one channel the id is a plain position."""
    case = golden("sse")["one_channel"]
    query = parse_query(case["query"].encode(), max_channels=32)
    resumed = query.resume_from(case["last_event_id"])
    assert {name: str(position) for name, position in resumed.items()} == case["positions"]


@pytest.mark.parametrize("case", golden("polls"), ids=name_of)
def test_an_answer_to_a_poll_is_as_its_golden_file_says(case: Case) -> None:
    """Pushes, positions and the welcome, under these names."""
    of_session = "session" in case["query"]
    dialect = poll.SessionPollDialect() if of_session else poll.PollDialect()
    frames = b"".join(
        dialect.encode(built(golden_case("pushes", name)), "k3f9") for name in case["pushes"]
    )
    welcome = built(golden_case("pushes", case.get("to", "welcome")))
    assert isinstance(welcome, Welcome)
    given = {name: json.dumps(data).encode() for name, data in case["wire"].get("data", {}).items()}
    answer = poll.answer(frames, case["wire"]["positions"], welcome, given)
    assert json.loads(answer) == case["wire"]


@pytest.mark.parametrize("case", golden("problems"), ids=name_of)
def test_an_error_is_the_problem_document_of_its_golden_file(case: Case) -> None:
    """Status, title and code belong together."""
    wire = case["wire"]
    assert problem_fields(made_error({"code": wire["code"], "message": wire["detail"]})) == wire


def test_close_codes_say_whether_to_come_back() -> None:
    """The hub's own, and those that somebody else may close with."""
    closes = golden("closes")
    assert {case["code"]: case["reconnect"] for case in closes} == {
        case["code"]: may_reconnect(case["code"]) for case in closes
    }
    assert {case["code"]: case["name"] for case in closes} == {
        case["code"]: CloseCode(case["code"]).name.lower() for case in closes
    }


def test_a_golden_request_to_publish_is_read_item_by_item() -> None:
    """Keys and idempotency keys stand where the hub looks for them."""
    case = golden("publishing")
    batch = split_items(json.dumps(case["request"]).encode(), max_items=10)
    read = []
    for item in batch.items:
        assert not isinstance(item, HubError)
        fields = {"channel": item.channel, "data": json.loads(item.payload), "key": item.key}
        fields["idempotency_key"] = item.idempotency_key
        read.append({name: value for name, value in fields.items() if value is not None})
    assert read == case["request"]


def said(item: Item) -> Case:
    """The fields of an item that are not at their default, as a golden file writes them."""
    fields = {
        field.name: getattr(item, field.name)
        for field in msgspec.structs.fields(Item)
        if getattr(item, field.name) != field.default
    }
    return {**fields, "data": json.loads(item.payload)}


def test_whatever_a_publication_may_say_is_in_a_golden_file_and_read_as_it_stands() -> None:
    """Each field of an item, at its place."""
    options = golden("publishing")["options"]
    items = split_items(json.dumps(options).encode(), max_items=10).items
    read = [said(item) for item in items if isinstance(item, Item)]
    assert read == options
    request = [*golden("publishing")["request"], *options]
    assert {name for item in request for name in item} == set(Item.__struct_fields__)


def test_a_golden_payload_for_several_channels_is_read_as_one() -> None:
    """An object with `channels`."""
    request = dict(golden("publishing")["several"]["request"])
    batch = split_items(json.dumps(request).encode(), max_items=10)
    (item,) = batch.items
    assert isinstance(item, Item)
    channels = request.pop("channels")
    assert list(batch.channels) == channels
    assert said(item) == {"channel": channels[0], **request}


# -- completeness ------------------------------------------------------------------------------


def test_every_command_and_each_of_its_fields_is_in_a_golden_file() -> None:
    """`in_url` is no field of the wire: a subscription by URL has no command. What the application
    says of a subscription is none of its command either."""
    for kind in get_args(Command):
        golden_fields = {
            name
            for case in COMMANDS
            if case["means"]["class"] == kind.__name__
            for name in case["means"]
        }
        fields = set(kind.__struct_fields__) - {"in_url", "judged", "given"}
        assert fields == golden_fields - {"class"}, kind.__name__
    assert {case["wire"]["op"] for case in COMMANDS} == {case["to"] for case in REPLIES} - {None}


def test_every_push_and_each_of_its_fields_is_in_a_golden_file() -> None:
    """Replies have a file of their own; some stay in the hub."""
    for kind in set(get_args(Push)) - {Reply}:
        golden_fields = {
            name for case in PUSHES if case["is"]["class"] == kind.__name__ for name in case["is"]
        }
        fields = set(kind.__struct_fields__) - STAY
        assert fields == golden_fields - {"class"}, kind.__name__
        described = [case for case in PUSHES if case["is"]["class"] == kind.__name__]
        assert any("sse" in case for case in described), kind.__name__


def test_every_reason_of_a_gap_every_close_code_and_every_error_is_in_a_golden_file() -> None:
    """A new one must be shown to the clients by a golden file."""
    reasons = {case["is"]["reason"] for case in PUSHES if case["is"]["class"] == "Gap"}
    assert reasons == {reason.value for reason in GapReason}
    closes = {case["code"] for case in golden("closes")}
    assert {code for code in CloseCode if code >= 4000 or may_reconnect(code)} <= closes
    problems = {case["name"] for case in golden("problems")}
    assert problems == set(HTTP_STATUS) - NOT_ON_THE_WIRE


def test_names_in_the_protocol_document_are_in_a_golden_file() -> None:
    """Its tables of commands and pushes: each op, and each field in backquotes beside it."""
    rows = re.findall(r"^\| (`[a-z_`, ]+) \| ?([^|]*)\|", PROTOCOL.read_text(), re.MULTILINE)
    wires = [case["wire"] for case in (*COMMANDS, *PUSHES)]
    seen = set()
    for ops, fields in rows:
        for op in re.findall(r"`(\w+)`", ops):
            of_op = [wire for wire in wires if wire["op"] == op]
            if not of_op:
                continue  # a row of another table
            seen.add(op)
            named = set(re.findall(r"`(\w+)`", fields)) - {"false"}
            assert named == {name for wire in of_op for name in wire} - {"op", "id"}, op
    assert seen == {wire["op"] for wire in wires}


def test_commands_of_the_core_are_all_part_of_the_union() -> None:
    """Otherwise the completeness above would be blind to one."""
    own = (each for each in vars(commands).values() if hasattr(each, "__struct_fields__"))
    made = {each for each in own if each.__module__ == commands.__name__}
    assert made == set(get_args(Command))
