"""Publishing over HTTP: one, many, and everything that is refused."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from hub.auth.policy import Policy
from hub.core.publication import REMOVES
from hub.errors import NotPublishedError, OutcomeUnknownError
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
async def test_a_publication_that_the_broker_did_not_take_says_when_to_retry(
    hub: Hub, error: Exception, status: int, code: str
) -> None:
    """Both are retryable and carry Retry-After."""
    hub.node.fails["a"] = error
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish/a", content=b"1")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_body_without_a_length_is_cut_off_at_the_limit(files: Path) -> None:
    """The hub counts the bytes of the stream itself, whatever length the peer claims."""
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
    """The connection ends with the answer, because the rest of the body may come at any time."""
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
