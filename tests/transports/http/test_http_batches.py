"""`POST /api/publish`: each of many publications is judged and answered by itself."""

from pathlib import Path

import pytest

from hub.auth.policy import Policy
from hub.errors import ConflictError, NotPublishedError
from hub.transports.http.ports import HttpLimits
from tests.transports.http.fakes import PUBLISHER, Hub, make_hub


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


async def test_an_object_is_answered_with_one_object(hub: Hub) -> None:
    """An object that fails is answered with a problem."""
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


@pytest.mark.parametrize("together", [False, True])
async def test_a_call_for_many_answers_as_one_for_each(hub: Hub, *, together: bool) -> None:
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
    """Some of the items may have been published, and those that were refused before
    are told so all the same."""

    def fails(_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(hub.node, "publish_many_now", fails)
    items = [{"channel": "a", "data": 1}, {"channel": "not allowed", "data": 1}]
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish", json=items)
    assert [each["code"] for each in answer.json()] == ["outcome_unknown", "bad_request"]


async def test_a_payload_goes_to_several_channels(hub: Hub) -> None:
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
async def test_fields_that_several_channels_cannot_have_are_refused_and_nothing_is_published(
    hub: Hub, asked: object, status: int
) -> None:
    """None, one twice, both fields, too many; or inside an array, whose items have one answer."""
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish", json=asked)
    assert answer.status_code == status
    assert hub.node.published == []
