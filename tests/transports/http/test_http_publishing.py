"""Publishing over HTTP: one, many, and everything that is refused."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from hub.auth.policy import Policy
from hub.core.publication import REMOVES
from hub.errors import ConflictError, NotPublishedError, OutcomeUnknownError
from hub.transports.http.ports import HttpLimits
from tests.transports.http.fakes import OPERATOR, PUBLISHER, Hub, make_hub


async def test_the_raw_body_is_published_byte_for_byte(hub: Hub) -> None:
    """Whatever its content type; the answer says where it went."""
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post(
            "/api/publish/prices", content=b' {"n":12345678901234567890123}\n'
        )
    assert answer.status_code == 200
    assert answer.json() == {"channel": "prices", "offset": 1, "epoch": "e1"}
    (request,) = hub.node.published
    assert request.data == b'{"n":12345678901234567890123}'
    assert (request.channel, request.key, request.idempotency_key) == ("prices", None, None)
    assert request.publisher.startswith("key:")


async def test_keys_come_from_headers_or_the_query(hub: Hub) -> None:
    """`X-Message-Key` wins over `?key=`; both may be any text."""
    async with hub.client(**PUBLISHER) as client:
        headers = [(b"X-Message-Key", "né".encode()), (b"Idempotency-Key", b"i-1")]
        await client.post("/api/publish/a?key=ignored", content=b"1", headers=headers)
        for query in ("b%20c", "b+c", "b%2Bc"):
            await client.post(f"/api/publish/a?key={query}", content=b"1")
    assert [request.key for request in hub.node.published] == ["né", "b c", "b c", "b+c"]
    assert hub.node.published[0].idempotency_key == "i-1"


@pytest.mark.parametrize("headers", [{"Idempotency-Key": ""}, {"X-Message-Key": "x" * 201}])
async def test_a_key_that_is_not_allowed_is_refused(hub: Hub, headers: dict[str, str]) -> None:
    """An empty key would make every publication the same one."""
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish/a", content=b"1", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert hub.node.published == []


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/api/publish/a", b"{", 400, "bad_request"),
        ("/api/publish/a", b"", 400, "bad_request"),
        ("/api/publish/a%20b", b"1", 400, "bad_request"),
        ("/api/publish/a", b"1" * 70_112, 413, "too_large"),
        ("/api/publish", b"[]", 400, "bad_request"),
        ("/api/publish", b"nonsense", 400, "bad_request"),
        ("/api/publish", b'{"channel":"a"}', 400, "bad_request"),
        ("/api/publish/a/b", b"1", 404, "not_found"),
    ],
)
async def test_bad_input_is_a_problem_and_publishes_nothing(
    hub: Hub, path: str, body: bytes, status: int, code: str
) -> None:
    """application/problem+json with type, title, status, detail and code."""
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post(path, content=body)
    problem = answer.json()
    assert answer.status_code == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == code
    assert {"type", "title", "detail"} <= problem.keys()
    assert hub.node.published == []
    assert hub.counters.http_errors[code] == 1


async def test_without_a_key_publishing_is_unauthorized_and_with_a_wrong_one_too(hub: Hub) -> None:
    """401 names the scheme to authenticate with."""
    async with hub.client() as client:
        nothing = await client.post("/api/publish/a", content=b"1")
        wrong = await client.post("/api/publish/a", content=b"1", headers={"X-API-Key": "no"})
        right = await client.post(
            "/api/publish/a", content=b"1", headers={"X-API-Key": "publisher-key"}
        )
    assert (nothing.status_code, wrong.status_code, right.status_code) == (401, 401, 200)
    assert nothing.headers["www-authenticate"].startswith("Bearer")


async def test_a_grant_covers_only_its_channels(files: Path) -> None:
    """The body of a forbidden publish is not even read."""
    jwt = pytest.importorskip("jwt")
    secret = "0123456789abcdef0123456789abcdef"
    hub = make_hub(files, policy=Policy(token_keys=[secret]))
    claims = {"sub": "ann", "exp": 9_999_999_999, "hub": {"publish": ["chat:*"]}}
    token = jwt.encode(claims, secret, algorithm="HS256")
    async with hub.client(Authorization=f"Bearer {token}") as client:
        allowed = await client.post("/api/publish/chat:1", content=b"1")
        refused = await client.post("/api/publish/prices", content=b"1")
    assert (allowed.status_code, refused.status_code) == (200, 403)
    assert [request.sender for request in hub.node.published] == ["ann"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotPublishedError("away"), 503, "not_published"),
        (OutcomeUnknownError("no answer"), 503, "outcome_unknown"),
    ],
)
async def test_what_the_broker_did_not_take_says_when_to_retry(
    hub: Hub, error: Exception, status: int, code: str
) -> None:
    """Both are retryable and carry Retry-After."""
    hub.node.fails["a"] = error
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish/a", content=b"1")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_batch_answers_every_item_in_order(hub: Hub) -> None:
    """All published: 200, in the array's order."""
    items = [
        {"channel": f"c{n}", "data": n, "key": "k", "idempotency_key": f"i{n}"} for n in range(3)
    ]
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish", json=items)
    assert answer.status_code == 200
    assert [(row["channel"], row["offset"]) for row in answer.json()] == [
        ("c0", 1), ("c1", 2), ("c2", 3),
    ]  # fmt: skip
    assert [(r.key, r.idempotency_key) for r in hub.node.published] == [
        ("k", "i0"), ("k", "i1"), ("k", "i2"),
    ]  # fmt: skip


async def test_one_object_is_answered_with_one_object(hub: Hub) -> None:
    """And its error with a problem."""
    hub.node.fails["b"] = ConflictError("other data")
    async with hub.client(**PUBLISHER) as client:
        good = await client.post("/api/publish", json={"channel": "a", "data": None})
        bad = await client.post("/api/publish", json={"channel": "b", "data": None})
    assert good.json() == {"channel": "a", "offset": 1, "epoch": "e1"}
    assert hub.node.published[0].data == b"null"
    assert (bad.status_code, bad.json()["code"]) == (409, "conflict")


async def test_a_batch_whose_items_differ_is_a_207(hub: Hub) -> None:
    """A broken item costs nobody else anything, also one that the hub itself trips over."""
    hub.node.fails = {"away": NotPublishedError("away"), "bug": RuntimeError("bug")}
    body = (
        b'[{"channel":"a","data":1},{"channel":"!","data":1},{"channel":"away","data":1},'
        b'{"channel":"bug","data":1},{"data":1},{"channel":"b","data":"\xff"}]'
    )
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish", content=body)
    assert answer.status_code == 207
    codes = [row.get("code", "published") for row in answer.json()]
    assert codes == ["published", "bad_request", "not_published", "outcome_unknown",
                     "bad_request", "bad_request"]  # fmt: skip
    assert [event for event, _ in hub.log.events] == ["http_batch_item_failed"]


async def test_a_batch_that_fails_alike_has_that_status(hub: Hub) -> None:
    """With its Retry-After, so that a simple client that looks at the status only does right."""
    hub.node.fails["a"] = NotPublishedError("away")
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish", json=[{"channel": "a", "data": 1}] * 2)
    assert (answer.status_code, len(answer.json())) == (503, 2)
    assert answer.headers["retry-after"] == "1"


async def test_a_batch_has_limits_of_its_own(files: Path) -> None:
    """In bytes and in items; each item's data has the limit of a single one."""
    hub = make_hub(
        files, limits=HttpLimits(max_message_bytes=20, max_body_bytes=200, max_batch_items=2)
    )
    item = {"channel": "a", "data": 1}
    async with hub.client(**PUBLISHER) as client:
        items = await client.post("/api/publish", json=[item] * 3)
        size = await client.post("/api/publish", json=[{"channel": "a", "data": "x" * 200}])
        mixed = await client.post("/api/publish", json=[item, {"channel": "a", "data": "x" * 30}])
    assert (items.status_code, size.status_code, mixed.status_code) == (413, 413, 207)
    assert items.json()["detail"] == "batch has 3 items, limit is 2"


async def test_a_body_without_a_length_is_cut_off_at_the_limit(files: Path) -> None:
    """What a peer claims is not what is trusted: the stream itself is counted."""
    hub = make_hub(files, limits=HttpLimits(max_message_bytes=1000))
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 1_000_000:
            sent += 100
            yield b"1" * 100

    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish/a", content=endless())
    assert answer.status_code == 413
    assert sent <= 1200


async def test_a_body_that_says_it_is_too_long_is_not_read(hub: Hub) -> None:
    """`Content-Length` cannot prove that a body is small, but it can that it is large."""
    sent = 0

    async def large() -> AsyncIterator[bytes]:
        nonlocal sent
        sent += 1
        yield b"1" * 70_112

    async with hub.client(**PUBLISHER) as client:
        answer = await client.post(
            "/api/publish/a", content=large(), headers={"Content-Length": "70112"}
        )
    assert answer.json()["detail"] == "body is 70,112 bytes, limit is 65,536"
    assert sent == 0


async def test_a_peer_that_leaves_inside_its_body_publishes_nothing(hub: Hub) -> None:
    """Half a body may be valid JSON: `12` of `123`."""
    messages = iter([{"type": "http.request", "body": b"12", "more_body": True}])
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    key = PUBLISHER["Authorization"].encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/publish/a",
        "query_string": b"",
        "headers": [(b"authorization", key)],
    }
    await hub.app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert hub.node.published == []


async def test_a_repeat_is_told_that_it_is_one(hub: Hub) -> None:
    """The first answer has no `duplicate` at all."""
    async with hub.client(**{"Idempotency-Key": "i"}, **PUBLISHER) as client:
        first = (await client.post("/api/publish/a", content=b"1")).json()
        second = (await client.post("/api/publish/a", content=b"1")).json()
    assert "duplicate" not in first
    assert second["duplicate"] is True


async def test_a_body_that_never_ends_is_a_408(files: Path) -> None:
    """And the connection is given up, because the rest may come at any time."""
    hub = make_hub(files, limits=HttpLimits(body_timeout_seconds=0.01))

    async def stuck() -> AsyncIterator[bytes]:
        yield b"1"
        await asyncio.Event().wait()

    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish/a", content=stuck())
    assert (answer.status_code, answer.json()["code"]) == (408, "request_timeout")
    assert answer.headers["connection"] == "close"


async def test_an_operator_may_publish_too(hub: Hub) -> None:
    """An operator key may do everything."""
    async with hub.client(**OPERATOR) as client:
        assert (await client.post("/api/publish/a", content=b"1")).status_code == 200


@pytest.mark.parametrize("together", [False, True])
async def test_one_call_for_many_answers_as_one_for_each(hub: Hub, *, together: bool) -> None:
    """Each item has its own outcome at its own place, whichever way the broker took it."""
    hub.node.together = together
    hub.node.fails["away"] = NotPublishedError("the broker is away")
    hub.node.fails["broken"] = ConflictError("used with other data")
    items = [
        {"channel": "a", "data": 1},
        {"channel": "not allowed", "data": 1},
        {"channel": "away", "data": 1},
        {"channel": "a", "data": 2, "idempotency_key": "k"},
        {"channel": "broken", "data": 1},
        {"channel": "a", "data": 2, "idempotency_key": "k"},
        {"channel": "b", "data": 3, "key": "n\n"},
        {"channel": "b", "data": 3},
    ]
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish", json=items)
    assert answer.status_code == 207
    found = [each.get("code", each.get("offset")) for each in answer.json()]
    assert found == [
        1, "bad_request", "not_published", 2, "conflict", 3, "bad_request", 4,
    ]  # fmt: skip
    assert [each.get("duplicate") for each in answer.json()] == [None] * 5 + [True] + [None] * 2
    errors = {"bad_request": 2, "not_published": 1, "conflict": 1}
    assert {code: hub.counters.http_errors[code] for code in errors} == errors


async def test_a_fault_of_many_at_once_leaves_their_outcome_open(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of them may have been published; what was refused before is told all the same."""

    def fails(_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(hub.node, "publish_many_now", fails)
    items = [{"channel": "a", "data": 1}, {"channel": "not allowed", "data": 1}]
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish", json=items)
    assert [each["code"] for each in answer.json()] == ["outcome_unknown", "bad_request"]


async def test_one_payload_goes_to_several_channels(hub: Hub) -> None:
    """One result for each, in their order; key, tags and idempotency key are those of all."""
    asked = {"channels": ["b", "a"], "data": {"n": 1}, "key": "k", "idempotency_key": "i"}
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish", json=asked)
        one = await client.post("/api/publish", json={"channels": ["c"], "data": 1})
    assert answer.status_code == one.status_code == 200
    assert [row["channel"] for row in answer.json()] == ["b", "a"]
    assert [row["channel"] for row in one.json()] == ["c"]
    assert [(r.channel, r.data, r.key, r.idempotency_key) for r in hub.node.published[:2]] == [
        ("b", b'{"n":1}', "k", "i"), ("a", b'{"n":1}', "k", "i")
    ]  # fmt: skip


async def test_grants_are_judged_for_each_of_several_channels(files: Path) -> None:
    """207 where they differ; the common status where all are refused."""
    jwt = pytest.importorskip("jwt")
    secret = "0123456789abcdef0123456789abcdef"
    hub = make_hub(files, policy=Policy(token_keys=[secret]))
    claims = {"sub": "ann", "exp": 9_999_999_999, "hub": {"publish": ["chat:*"]}}
    token = jwt.encode(claims, secret, algorithm="HS256")
    async with hub.client(Authorization=f"Bearer {token}") as client:
        asked = {"channels": ["chat:1", "prices", "no name", "chat:2"], "data": 1}
        answer = await client.post("/api/publish", json=asked)
        none = await client.post("/api/publish", json={"channels": ["p", "q"], "data": 1})
    assert (answer.status_code, none.status_code) == (207, 403)
    told = [row.get("code") or row["channel"] for row in answer.json()]
    assert told == ["chat:1", "forbidden", "bad_request", "chat:2"]
    assert [row["code"] for row in none.json()] == ["forbidden"] * 2
    assert [request.channel for request in hub.node.published] == ["chat:1", "chat:2"]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"channels": [], "data": 1}, 400),
        ({"channels": ["a", "a"], "data": 1}, 400),
        ({"channels": ["a"], "channel": "b", "data": 1}, 400),
        ({"channels": "a", "data": 1}, 400),
        ({"channels": ["a"]}, 400),
        ({"channels": ["a", "b"], "data": "x" * 70_000}, 413),
        ({"channels": [f"c{n}" for n in range(101)], "data": 1}, 413),
        ([{"channels": ["a"], "data": 1}], 400),
    ],
)
async def test_what_several_channels_cannot_be_is_refused_and_publishes_nothing(
    hub: Hub, asked: object, status: int
) -> None:
    """None, one twice, both fields, too many; or inside an array, whose items have one answer."""
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish", json=asked)
    assert answer.status_code == status
    assert hub.node.published == []


async def test_a_row_is_taken_away_by_its_key(hub: Hub) -> None:
    """Answered like a publish, which it is; for publishers only, where there is state."""
    async with hub.client(**PUBLISHER) as client:
        gone = await client.delete("/api/channels/table:a/state/a%2Fb%20%C3%A9")
        none = await client.delete("/api/channels/prices/state/a")
        long = await client.delete(f"/api/channels/table:a/state/{'x' * 201}")
    async with hub.client() as client:
        anybody = await client.delete("/api/channels/table:a/state/a")
    assert gone.json() == {"channel": "table:a", "offset": 1, "epoch": "e1"}
    (request,) = hub.node.published
    assert (request.key, request.data, request.marks) == ("a/b é", b"null", REMOVES)
    assert [each.status_code for each in (none, long, anybody)] == [400, 400, 401]


async def test_a_publication_says_how_long_history_may_hold_it(hub: Hub) -> None:
    """By fields of an item, by headers where the body is the payload."""
    async with hub.client(**PUBLISHER) as client:
        for more in (
            {"ttl_seconds": 1.5},
            {"history": False},
            {"history": False, "ttl_seconds": 1},
        ):
            await client.post("/api/publish", json={"channel": "a", "data": 1, **more})
        await client.post("/api/publish", json={"channels": ["a"], "data": 1, "ttl_seconds": 2})
        for headers in ({"X-Message-TTL": "3"}, {"X-Message-History": "false"}, {}):
            await client.post("/api/publish/a", content=b"1", headers=headers)
    kept = [request.keep_ms for request in hub.node.published]
    assert kept == [1500, 0, 0, 2000, 3000, 0, None]


@pytest.mark.parametrize("ttl", [0, -1, 1e9])
async def test_a_time_to_live_that_is_none_is_refused(hub: Hub, ttl: float) -> None:
    async with hub.client(**PUBLISHER) as client:
        item = {"channel": "a", "data": 1, "ttl_seconds": ttl}
        refused = await client.post("/api/publish", json=item)
        header = await client.post(
            "/api/publish/a", content=b"1", headers={"X-Message-TTL": str(ttl)}
        )
        odd = await client.post("/api/publish/a", content=b"1", headers={"X-Message-History": "no"})
    assert [each.status_code for each in (refused, header, odd)] == [400] * 3
    assert hub.node.published == []
