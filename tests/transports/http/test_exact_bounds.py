"""Each bound of a request to the HTTP API: answered at it, refused with its code beyond it."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from hub.errors import BadRequestError, TooLargeError, UnavailableError
from hub.transports.http import subjects
from hub.transports.http.bodies import BodyBudget, plain
from hub.transports.http.known import cut
from hub.transports.http.pages import read_file
from hub.transports.http.ports import HttpLimits
from tests.support.steps import inflated
from tests.transports.http.fakes import OPERATOR, PUBLISHER, Hub, make_hub

LIMITS = HttpLimits(max_message_bytes=100, max_body_bytes=2000, max_batch_items=3)
KEYS = {**PUBLISHER, "X-API-Key": OPERATOR["Authorization"].removeprefix("Bearer ")}


@pytest.fixture
def hub(files: Path) -> Hub:
    return make_hub(files, limits=LIMITS)


@dataclass
class Row:
    """A request at a bound, and one beyond it: what differs, and the refusal."""

    what: str
    method: str
    path: str
    beyond: str = ""
    body: bytes | None = None
    beyond_body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    beyond_headers: Mapping[str, str] | None = None
    status: int = 400
    code: str = "bad_request"
    ok: tuple[int, ...] = (200, 202, 204)


def item(size: int, **more: object) -> dict[str, object]:
    return {"channel": "a", "data": "x" * (size - 2), **more}


def batch(*items: object) -> bytes:
    return json.dumps(items).encode()


def to_many(count: int) -> bytes:
    return json.dumps({"channels": [f"c{n}" for n in range(count)], "data": 1}).encode()


def tags(count: int) -> str:
    return ",".join(f"t{n}=x" for n in range(count))


def channels(count: int) -> str:
    return "&".join(f"channel=c{n}" for n in range(count))


def padded(size: int) -> bytes:
    body = batch(item(10))
    return body + b" " * (size - len(body))


ROWS = [
    Row(
        "a payload",
        "POST",
        "/api/publish/a",
        body=b"1" * 100,
        beyond_body=b"1" * 101,
        status=413,
        code="too_large",
    ),
    Row(
        "a payload in an array",
        "POST",
        "/api/publish",
        body=batch(item(100)),
        beyond_body=batch(item(101)),
        status=413,
        code="too_large",
    ),
    Row(
        "a body",
        "POST",
        "/api/publish",
        body=padded(2000),
        beyond_body=padded(2001),
        status=413,
        code="too_large",
    ),
    Row(
        "a body that no route wants",
        "DELETE",
        "/api/channels/a/history",
        body=b"1" * 64 * 1024,
        beyond_body=b"1" * (64 * 1024 + 1),
        headers=OPERATOR,
        status=413,
        code="too_large",
    ),
    Row(
        "an inflated body",
        "POST",
        "/api/publish",
        body=gzip.compress(padded(2000)),
        beyond_body=gzip.compress(padded(2001)),
        headers={"Content-Encoding": "gzip"},
        status=413,
        code="too_large",
    ),
    Row(
        "items",
        "POST",
        "/api/publish",
        body=batch(*[item(5)] * 3),
        beyond_body=batch(*[item(5)] * 4),
        status=413,
        code="too_large",
    ),
    Row(
        "channels of a payload",
        "POST",
        "/api/publish",
        body=to_many(100),
        beyond_body=to_many(101),
        status=413,
        code="too_large",
    ),
    Row(
        "an idempotency key",
        "POST",
        "/api/publish/a",
        body=b"1",
        headers={"Idempotency-Key": "k" * 200},
        beyond_headers={"Idempotency-Key": "k" * 201},
    ),
    Row(
        "a message key",
        "POST",
        "/api/publish/a",
        body=b"1",
        headers={"X-Message-Key": "k" * 200},
        beyond_headers={"X-Message-Key": "k" * 201},
    ),
    Row(
        "a message key by URL",
        "POST",
        "/api/publish/a?key=" + "k" * 200,
        "/api/publish/a?key=" + "k" * 201,
        body=b"1",
    ),
    Row(
        "a time to live",
        "POST",
        "/api/publish/a",
        body=b"1",
        headers={"X-Message-TTL": "315360000"},
        beyond_headers={"X-Message-TTL": "315360001"},
    ),
    Row(
        "tags",
        "POST",
        "/api/publish/a",
        body=b"1",
        headers={"X-Message-Tags": tags(16)},
        beyond_headers={"X-Message-Tags": tags(17)},
    ),
    Row("a channel", "POST", "/api/publish/" + "c" * 200, "/api/publish/" + "c" * 201, body=b"1"),
    *(
        Row(f"a page of {path}", "GET", f"/api/{path}?limit={at}", f"/api/{path}?limit={beyond}")
        for path in (
            "channels",
            "connections",
            "closed",
            "channels/a/history",
            "channels/chat:a/presence",
            "channels/table:a/state",
        )
        for at, beyond in ((1000, 1001), (1, 0))
    ),
    Row(
        "a member to go on after",
        "GET",
        "/api/channels/chat:a/presence?after=" + "m" * 255,
        "/api/channels/chat:a/presence?after=" + "m" * 256,
    ),
    Row(
        "a row to go on after",
        "GET",
        "/api/channels/table:a/state?after=" + "k" * 200,
        "/api/channels/table:a/state?after=" + "k" * 201,
    ),
    Row(
        "a moment",
        "GET",
        "/api/channels/a/history?from_time=253402300799999",
        "/api/channels/a/history?from_time=253402300800000",
    ),
    Row("a wait", "GET", "/poll?channel=a&wait=55", "/poll?channel=a&wait=55.5"),
    Row(
        "channels of a poll",
        "GET",
        "/poll?" + channels(32),
        "/poll?" + channels(33),
        code="too_many_subscriptions",
    ),
    Row(
        "an offset",
        "GET",
        "/api/explain?connection=c1&channel=a&offset=9007199254740991",
        "/api/explain?connection=c1&channel=a&offset=9007199254740992",
    ),
    Row(
        "the first offset",
        "GET",
        "/api/explain?connection=c1&channel=a&offset=1",
        "/api/explain?connection=c1&channel=a&offset=0",
    ),
    Row(
        "a window",
        "POST",
        "/api/nodes/n1/drain?window_seconds=3600",
        "/api/nodes/n1/drain?window_seconds=3600.5",
    ),
    Row(
        "a look at memory", "POST", "/api/debug/memory?seconds=60", "/api/debug/memory?seconds=60.5"
    ),
    Row(
        "a short look at memory",
        "POST",
        "/api/debug/memory?seconds=0.001",
        "/api/debug/memory?seconds=0",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
async def test_a_request_is_answered_at_a_bound_and_refused_beyond_it(hub: Hub, row: Row) -> None:
    async with hub.client(**KEYS) as client:

        async def ask(path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, str]:
            answer = await client.request(row.method, path, content=body, headers=headers)
            found = answer.json() if answer.content else {}
            if isinstance(found, list):
                found = found[0]
            return answer.status_code, found.get("code", "")

        assert (await ask(row.path, row.body, row.headers))[0] in row.ok
        refused = await ask(
            row.beyond or row.path,
            row.body if row.beyond_body is None else row.beyond_body,
            row.headers if row.beyond_headers is None else row.beyond_headers,
        )
        assert refused == (row.status, row.code)


BAN, REVOKE = "/api/subjects/ann/ban", "/api/tokens/revoke"
YEARS = 3650 * 86_400


@pytest.mark.parametrize(
    ("method", "path", "at", "beyond"),
    [
        ("PUT", BAN, {"seconds": YEARS}, {"seconds": YEARS + 1}),
        ("PUT", BAN, {"seconds": 0.001}, {"seconds": 0}),
        ("PUT", BAN, {"seconds": 1, "reason": "é" * 200}, {"seconds": 1, "reason": "é" * 201}),
        ("POST", REVOKE, {"jti": "t" * 255}, {"jti": "t" * 256}),
        ("POST", REVOKE, {"jti": "t"}, {"jti": ""}),
        (
            "POST",
            REVOKE,
            {"sub": "s" * 255, "issued_before": 0},
            {"sub": "s" * 256, "issued_before": 0},
        ),
        (
            "POST",
            REVOKE,
            {"sub": "s", "issued_before": 253_402_300_799_000},
            {"sub": "s", "issued_before": 253_402_300_800_000},
        ),
        ("POST", REVOKE, {"sub": "s", "issued_before": 0}, {"sub": "s", "issued_before": -1}),
        ("POST", REVOKE, {"jti": "t", "seconds": YEARS}, {"jti": "t", "seconds": YEARS + 1}),
    ],
)
async def test_a_word_about_a_subject_is_taken_at_a_bound_and_refused_beyond_it(
    hub: Hub, method: str, path: str, at: object, beyond: object
) -> None:
    """A node that is asked so far has carried it out."""
    async with hub.client(**OPERATOR) as client:
        await client.request(method, path, json=at)
        assert len(hub.admin.asked) == 1
        refused = await client.request(method, path, json=beyond)
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
    assert len(hub.admin.asked) == 1


async def test_a_subject_in_a_path_has_up_to_255_characters(hub: Hub) -> None:
    async with hub.client(**OPERATOR) as client:
        for length, status in ((255, 204), (256, 400)):
            answer = await client.delete(f"/api/subjects/{quote('é' * length)}/ban")
            assert answer.status_code == status


async def test_a_body_of_an_operator_has_up_to_4096_bytes(hub: Hub) -> None:
    async with hub.client(**OPERATOR) as client:
        for size, asked in ((4096, 1), (4097, 1)):
            body = b'{"seconds":1}'
            answer = await client.request("PUT", BAN, content=body + b" " * (size - len(body)))
            assert len(hub.admin.asked) == asked
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


# -- the parts ---------------------------------------------------------------------------------


@dataclass
class HeldBody:
    size: int
    reserved: int = 0


def test_bodies_under_way_hold_up_to_their_bound() -> None:
    budget = BodyBudget(1000)
    first, second = HeldBody(600), HeldBody(400)
    budget.reserve(first)
    budget.reserve(second)
    assert budget.bytes == 1000
    second.size += 1
    with pytest.raises(UnavailableError, match=r"hold 1,000 bytes, limit is 1,000"):
        budget.reserve(second)
    budget.release(first)
    budget.reserve(second)
    assert budget.bytes == 401


def test_a_body_is_inflated_up_to_its_limit() -> None:
    packed, gzipped = gzip.compress(b"x" * 1000), {"content-encoding": "gzip"}
    assert len(inflated(plain(packed, gzipped, 1000))) == 1000
    with pytest.raises(TooLargeError, match="over 999 bytes once inflated"):
        inflated(plain(packed, gzipped, 999))


def test_a_head_may_be_known_up_to_a_kib_and_nine_digits() -> None:
    def head(size: int, digits: str = "1") -> bytes:
        start = b"POST /api/publish/a HTTP/1.1\r\nContent-Length: %b\r\nX: " % digits.encode()
        return start + b"x" * (size - len(start)) + b"\r\n\r\n"

    assert cut(head(1024), 0) is not None
    assert cut(head(1025), 0) is None
    assert cut(head(200, "9" * 9), 0) is not None
    assert cut(head(200, "9" * 10), 0) is None


# -- words about subjects --------------------------------------------------------------------------


def test_the_reason_of_a_ban_has_up_to_200_characters() -> None:
    assert subjects._reason("é" * 200) == "é" * 200
    with pytest.raises(BadRequestError, match="reason is 201 characters, allowed are 200"):
        subjects._reason("é" * 201)


def test_a_time_from_100000000000_on_is_in_milliseconds() -> None:
    assert subjects._before(99_999_999_999) == 99_999_999_999
    assert subjects._before(100_000_000_000) == 100_000_000


def test_a_file_of_a_page_is_compressed_from_a_kib_on(tmp_path: Path) -> None:
    for size, is_compressed in ((1023, False), (1024, True)):
        (tmp_path / f"{size}.js").write_bytes(b"x" * size)
        assert bool(read_file(tmp_path / f"{size}.js").compressed) is is_compressed
