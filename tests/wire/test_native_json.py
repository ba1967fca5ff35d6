"""Native JSON: what peers send is read strictly, what they get is the wire contract's."""

import json
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core import commands
from hub.core.commands import Command
from hub.core.publication import Position, Publication
from hub.core.pushes import (
    Expiring,
    Gap,
    GapReason,
    Goodbye,
    Heartbeat,
    Join,
    Leave,
    Member,
    PresenceReset,
    Push,
    Reply,
    Subscribed,
    Welcome,
)
from hub.errors import BadRequestError, ForbiddenError, HubError, TooLargeError, UnavailableError
from hub.wire import native_commands, native_pushes

LIMIT = 1000
HUGE = b"123456789012345678901234567890"


def read(raw: str | bytes, limit: int = LIMIT) -> Command:
    return native_commands.decode(
        raw.encode() if isinstance(raw, str) else raw, max_message_bytes=limit
    )


@pytest.mark.parametrize(
    ("raw", "command"),
    [
        (
            '{"op":"subscribe","id":1,"channel":"prices","since":"k3f9:41"}',
            commands.Subscribe(1, "prices", Position("k3f9", 41)),
        ),
        (
            '{"op":"subscribe","id":"s","channel":"a","last":5,"fill":true}',
            commands.Subscribe("s", "a", None, 5, fill=True),
        ),
        ('{"op":"unsubscribe","id":2,"channel":"a"}', commands.Unsubscribe(2, "a")),
        (
            (
                '{"op":"publish","id":3,"channel":"a","data":{"x":1.0},"key":"k","echo":false,'
                '"idempotency_key":"i"}'
            ),
            commands.Publish(3, "a", b'{"x":1.0}', "k", False, "i"),
        ),
        (
            '{"op":"history","id":4,"channel":"a","since":"e:1","limit":7}',
            commands.History(4, "a", Position("e", 1), 7),
        ),
        ('{"op":"history","id":4,"channel":"a"}', commands.History(4, "a", None, 100)),
        ('{"op":"presence","id":5,"channel":"a"}', commands.ListMembers(5, "a")),
        ('{"op":"authenticate","id":6,"token":"t"}', commands.Authenticate(6, "t")),
        (' {"id":-7, "op":"ping", "new":"field"} ', commands.Ping(-7)),
    ],
)
def test_the_commands_of_the_wire_contract_are_read(raw: str, command: Command) -> None:
    """Unknown fields are ignored: a newer client may send some."""
    assert read(raw) == command


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ('{"op":"subscribe","id":7,"chanel":"a"}', "chanel is not a field of a command; did you"),
        ('{"op":"subscribe","id":7,"channel":"a","lsat":1}', "lsat is not a field of a command"),
        (
            '{"op":"publish","id":7,"channel":"a","data":1,"idempotencyKey":"x"}',
            "idempotencyKey is not a field of a command; did you mean idempotency_key?",
        ),
        ('{"lmit":1,"op":"history","id":7,"channel":"a"}', "did you mean limit?"),
        (f'{{"op":"publish","id":7,"chanel":"a","more":"{"x" * 9000}"}}', "did you mean channel?"),
    ],
)
def test_a_misspelt_field_is_refused_by_name(raw: str, why: str) -> None:
    """Its sender would take it for obeyed, and would miss messages or publish twice."""
    with pytest.raises(BadRequestError) as raised:
        read(raw)
    assert why in raised.value.message
    assert raised.value.command_id == 7


def test_a_field_of_the_senders_own_changes_nothing_in_the_others() -> None:
    """Also where it stands in the middle, is long, and has the names of fields inside."""
    own = b'"trace":{"chanel":[1,{"lsat":"\\u00e9"}]}'
    command = read(b'{"op":"publish",%b,"id":"x","channel":"a","data": {"eur": 1.0} }' % own)
    assert command == read(b'{"op":"publish","id":"x","channel":"a","data": {"eur": 1.0} }')
    long = b'"own":"%b"' % (b"x" * 9000)
    assert command == read(
        b'{"id":"x",%b,"op":"publish",%b,"channel":"a","data": {"eur": 1.0} }' % (long, own)
    )
    for broken in (
        b'{"op":"ping","id":1,"x":1',
        b'{"op":"ping","id":1,"x":\xff}',
        b'{"op":"ping","id":1,"x":1}}',
    ):
        with pytest.raises(BadRequestError):
            read(broken)


@pytest.mark.parametrize("data", [HUGE, b"1.0", b"-0", rb'"\u00e9\/"', b'{"a":1,"a":2}', b"null"])
def test_the_data_of_a_publish_is_kept_byte_for_byte(data: bytes) -> None:
    """No parser's opinion of a number or an escape gets into it."""
    command = read(b'{"op":"publish","id":1,"channel":"a","data": %b }' % data)
    assert isinstance(command, commands.Publish)
    assert command.data == data


def test_line_breaks_between_tokens_of_the_data_become_spaces() -> None:
    """One message is one line."""
    command = read('{"op":"publish","id":1,"channel":"a","data":{\r\n"b":\n1}}')
    assert isinstance(command, commands.Publish)
    assert command.data == b'{  "b": 1}'


@pytest.mark.parametrize(
    ("raw", "id_", "why"),
    [
        ("", None, "not JSON"),
        ("nonsense", None, "not JSON"),
        ('{"op":"ping","id":1', None, "not JSON"),
        (b'{"op":"ping","id":"\xff"}', None, "not JSON"),
        ("[1]", None, "Expected `object`, got `array`"),
        ('{"id":1}', 1, "missing required field `op`"),
        ('{"op":"dance","id":1}', 1, "unknown op.*dance.*known are subscribe, unsubscribe"),
        ('{"op":5,"id":1}', 1, "unknown op"),
        ('{"op":"ping"}', None, "missing required field `id`"),
        ('{"op":"ping","id":null}', None, r"got `null`.*\$.id"),
        ('{"op":"ping","id":1.5}', None, r"\$.id"),
        ('{"op":"ping","id":[1]}', None, r"\$.id"),
        ('{"op":"subscribe","id":"x"}', "x", "missing required field `channel`"),
        ('{"op":"subscribe","id":1,"channel":5}', 1, r"Expected `str`, got `int`.*\$.channel"),
        (
            '{"op":"subscribe","id":1,"channel":"a b"}',
            1,
            r"channel 'a b' is not allowed: ' ' \(U\+0020\) is",
        ),
        ('{"op":"subscribe","id":1,"channel":"a","since":"x"}', 1, "position 'x' is not"),
        ('{"op":"subscribe","id":1,"channel":"a","last":-1}', 1, "last is -1, allowed is 0 to"),
        ('{"op":"subscribe","id":1,"channel":"a","fill":1}', 1, r"Expected `bool`.*\$.fill"),
        ('{"op":"publish","id":1,"channel":"a"}', 1, "missing required field `data`"),
        ('{"op":"publish","id":1,"channel":"a","data":1e999}', 1, "payload is not JSON"),
        ('{"op":"publish","id":1,"channel":"a","data":1,"key":""}', 1, "key is 0 characters"),
        (
            '{"op":"publish","id":1,"channel":"a","data":1,"idempotency_key":"a\\nb"}',
            1,
            "idempotency_key must not contain control characters: U.000A is its character 2",
        ),
        ('{"op":"history","id":1,"channel":"a","limit":"9"}', 1, r"Expected `int`.*\$.limit"),
        (
            '{"op":"presence","id":1,"channel":"a","after":"%s"}' % ("x" * 60_000),
            1,
            "after is 60,000 characters, a member's id has at most 255",
        ),
        ('{"op":"authenticate","id":1}', 1, "missing required field `token`"),
    ],
)
def test_a_command_that_is_wrong_is_answered_with_its_id_and_what_is_wrong(
    raw: str | bytes, id_: str | int | None, why: str
) -> None:
    """`null` stands for an id that could not be read."""
    with pytest.raises(BadRequestError, match=why) as caught:
        read(raw)
    assert caught.value.command_id == id_


DEEP = "[" * 1_000 + "]" * 1_000
DEEPER = "[" * 5_000 + "]" * 5_000
WHAT_NO_PARSER_TAKES = {
    "half an emoji": r'"abc\ud83d"',
    "the other half": r'"\ude00abc"',
    "a raw line break": '"a\nb"',
    "a raw control character": '"a\x01b"',
    "an escape that is none": r'"\x41"',
    "deep": DEEP,
    "deeper": DEEPER,
    "no number": "NaN",
    "a bare word": "undefined",
    "nothing": "",
}


@pytest.mark.parametrize("id_", [7, "seven"])
@pytest.mark.parametrize("data", WHAT_NO_PARSER_TAKES.values(), ids=WHAT_NO_PARSER_TAKES.keys())
@pytest.mark.parametrize("place", ["data", "x"])
def test_a_command_with_a_value_that_is_no_json_is_answered_by_its_id(
    data: str, id_: str | int, place: str
) -> None:
    """The id may stand anywhere: the sender would wait for a reply that never comes."""
    id_text = f'"{id_}"' if isinstance(id_, str) else str(id_)
    op = f'"op":"publish","channel":"a","{place}":{data}'
    for raw in (f'{{"id":{id_text},{op}}}', f'{{{op},"id":{id_text}}}'):
        with pytest.raises(BadRequestError) as caught:
            read(raw, limit=len(raw))
        assert caught.value.command_id == id_


@pytest.mark.parametrize(
    "written",
    [
        r'"\u0069d":7',
        r'"i\u0064" : 7',
        '"id":8,"id":7',
        r'"id":8,"\u0069\u0064":7',
        r'"x":"id","id":7,"y":{"id":8}',
    ],
)
@pytest.mark.parametrize("wrong", ['"data":NaN', '"channel":5', r'"data":"\ud83d"', '"data":{a:1}'])
def test_an_id_is_the_one_that_a_parser_would_find(written: str, wrong: str) -> None:
    """With escapes in its name, and the last of several, as in a command that is right."""
    assert read(f'{{"op":"ping",{written}}}') == commands.Ping(7)
    for raw in (f'{{"op":"publish",{written},{wrong}}}', f'{{"op":"publish",{wrong},{written}}}'):
        with pytest.raises(BadRequestError) as caught:
            read(raw)
        assert caught.value.command_id == 7


@pytest.mark.parametrize("item", ["1", "[]", "[1,2]", '{"a":[{}]}', '"x"', "[[[[1]]]]"])
def test_an_id_behind_much_data_is_found(item: str) -> None:
    """As much as a payload may be, of the smallest parts."""
    data = f"[NaN{f',{item}' * (65_536 // (len(item) + 1))}]"
    with pytest.raises(BadRequestError) as caught:
        read(f'{{"op":"publish","channel":"a","data":{data},"id":7}}')
    assert caught.value.command_id == 7


@pytest.mark.parametrize("id_", [r'"\ud83d"', '"a\x01"', DEEP, "1.5", "tru"])
def test_an_id_that_is_itself_no_json_is_not_repeated(id_: str) -> None:
    """No reply could carry it."""
    with pytest.raises(BadRequestError) as caught:
        read(f'{{"op":"ping","id":{id_}}}')
    assert caught.value.command_id is None


def test_data_over_the_limit_is_named_with_both_sizes_and_the_id() -> None:
    raw = b'{"op":"publish","id":"big","channel":"a","data":"%b"}' % (b"x" * LIMIT)
    with pytest.raises(TooLargeError, match="payload is 1,002 bytes, limit is 1,000") as caught:
        read(raw)
    assert caught.value.command_id == "big"


def test_an_id_of_200_characters_is_repeated_and_a_longer_one_is_refused() -> None:
    """A longer id is not repeated in the error, because a reply must not be
    as long as a peer likes."""
    assert read(f'{{"op":"ping","id":"{"é" * 200}"}}') == commands.Ping("é" * 200)
    expected = "id is not allowed: a string of at most 200 characters"
    with pytest.raises(BadRequestError, match=expected) as caught:
        read(f'{{"op":"ping","id":"{"x" * 201}"}}')
    assert caught.value.command_id is None


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_nesting_ends_in_an_error_not_in_a_fault(depth: int) -> None:
    """Wherever it is."""
    deep = b"[" * depth + b"]" * depth
    for raw in (deep, b'{"op":"ping","id":%b}' % deep, b'{"op":"ping","id":1,"x":%b}' % deep):
        try:
            native_commands.decode(raw, max_message_bytes=1_000_000)
        except BadRequestError:
            continue


@given(st.binary(max_size=60))
def test_whatever_comes_is_a_command_or_a_clear_error(raw: bytes) -> None:
    with suppress(HubError):
        assert read(raw)


PUBLICATION = Publication("prices", 42, HUGE, 1_700_000_000_000)
MEMBER = Member("ann", "c1", "ann")


@pytest.mark.parametrize(
    ("push", "text"),
    [
        (
            Welcome("c1", "n1", 25, "1.0", "s"),
            (
                '{"op":"welcome","connection":"c1","node":"n1","heartbeat_seconds":25,'
                '"version":"1.0","secret":"s"}'
            ),
        ),
        (
            Subscribed("a", Position("k3f9", 41), True, 3),
            '{"op":"subscribed","channel":"a","position":"k3f9:41","recovered":true,"replayed":3}',
        ),
        (
            PUBLICATION,
            (
                '{"op":"message","channel":"prices","offset":42,"time":1700000000000,'
                f'"data":{HUGE.decode()}}}'
            ),
        ),
        (
            Publication("a", 0, b"[ 1.0 ]", 5, 'k"ey', "ünn"),
            '{"op":"message","channel":"a","time":5,"key":"k\\"ey","from":"ünn","data":[ 1.0 ]}',
        ),
        (
            Gap("prices", "k3f9", 43, 57, GapReason.SLOW),
            '{"op":"gap","channel":"prices","epoch":"k3f9","from":43,"to":57,"reason":"slow"}',
        ),
        (
            Gap("a", "new", 0, 3, GapReason.RESET),
            '{"op":"gap","channel":"a","epoch":"new","position":"new:3","reason":"reset"}',
        ),
        (
            Gap("a", "e", 0, 0, GapReason.SLOW, 7),
            '{"op":"gap","channel":"a","epoch":"e","unsequenced":7,"reason":"slow"}',
        ),
        (
            Join("a", MEMBER),
            '{"op":"join","channel":"a","member":{"id":"ann","connection":"c1","sub":"ann"}}',
        ),
        (
            Leave("a", Member("c2", "c2")),
            '{"op":"leave","channel":"a","member":{"id":"c2","connection":"c2"}}',
        ),
        (PresenceReset("a"), '{"op":"presence_reset","channel":"a"}'),
        (Heartbeat(), '{"op":"heartbeat"}'),
        (Expiring(30), '{"op":"expiring","in_seconds":30}'),
        (
            Goodbye(1012, "draining", 8000),
            '{"op":"goodbye","code":1012,"reason":"draining","reconnect_within_ms":8000}',
        ),
        (Goodbye(4403, "no"), '{"op":"goodbye","code":4403,"reason":"no"}'),
        (Reply(1, {"a": 1}), '{"op":"reply","id":1,"ok":{"a":1}}'),
        (Reply("x"), '{"op":"reply","id":"x","ok":{}}'),
        (
            Reply(1, error=ForbiddenError("no grant")),
            (
                '{"op":"reply","id":1,"error":{"code":"forbidden","message":"no grant",'
                '"retryable":false}}'
            ),
        ),
        (
            Reply(None, error=UnavailableError("later")),
            (
                '{"op":"reply","id":null,"error":{"code":"unavailable","message":"later",'
                '"retryable":true,"retry_after_seconds":1}}'
            ),
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_pushes_are_written_as_the_wire_contract_shows_them(push: Push, text: str) -> None:
    """One line each; the order of fields is ours and does not matter to peers."""
    encoded = native_pushes.encode(push)
    assert encoded.decode() == text
    assert b"\n" not in encoded
    assert json.loads(encoded) == json.loads(text)


def test_a_history_reply_carries_publications_byte_for_byte() -> None:
    """Members look as in a join."""
    ok = {"publications": (PUBLICATION,), "members": [MEMBER]}
    encoded = native_pushes.encode(Reply(1, ok))
    assert b'{"offset":42,"time":1700000000000,"data":%b}' % HUGE in encoded
    assert b'"members":[{"id":"ann","connection":"c1","sub":"ann"}]' in encoded


JSON_DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
)


@given(JSON_DATA, st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_the_bytes_that_are_published_arrive(data: object, key: str | None) -> None:
    """Through decode and encode, the very bytes."""
    raw = json.dumps(data, ensure_ascii=False).encode()
    key = key if key is None or (key.isprintable() and len(key) <= 200) else None
    sent = b'{"op":"publish","id":1,"channel":"a","data":%b,"key":%b}' % (
        raw,
        json.dumps(key).encode(),
    )
    command = native_commands.decode(sent, max_message_bytes=100_000)
    assert isinstance(command, commands.Publish)
    encoded = native_pushes.encode(Publication("a", 1, command.data, 5, command.key))
    fields = msgspec.json.decode(encoded, type=dict[str, msgspec.Raw])
    assert bytes(fields["data"]) == raw
    assert json.loads(encoded).get("key") == key


@pytest.mark.parametrize("number", [-(2**63), 2**64 - 1])
def test_an_id_of_64_bits_is_repeated(number: int) -> None:
    assert read(f'{{"op":"ping","id":{number}}}') == commands.Ping(number)


@pytest.mark.parametrize("number", [-(2**63) - 1, 2**64, 10**30])
@pytest.mark.parametrize("op", ["ping", "nope"])
def test_an_id_that_no_reply_could_carry_is_refused_and_not_repeated(number: int, op: str) -> None:
    """The reply would fail to be encoded, and with it the session."""
    with pytest.raises(BadRequestError) as caught:
        read(f'{{"op":"{op}","id":{number}}}')
    assert caught.value.command_id is None
