"""The publisher against the golden files: its request, the answers, and what it repeats."""

import pytest

from hub_client import (
    Outgoing,
    Position,
    Published,
    Publisher,
    PublisherOptions,
    PublishError,
    PublishRefusedError,
    PublishRetry,
)
from tests.clients.python.fakes import HttpAnswer, http_hub, json_answer
from tests.support.golden import Case, golden, name_of

BRIEF = PublisherOptions(PublishRetry(for_seconds=0.3, base_seconds=0.01, cap_seconds=0.02))


async def test_the_publisher_sends_the_golden_request_and_reads_the_golden_answer() -> None:
    """Published, refused, and published before."""
    case = golden("publishing")
    items = [
        Outgoing.of(
            item["channel"],
            item["data"],
            key=item.get("key"),
            idempotency_key=item["idempotency_key"],
        )
        for item in case["request"]
    ]
    async with (
        http_hub(lambda _: json_answer(case["answer"], case["status"])) as (url, requests),
        Publisher(url) as publisher,
    ):
        first, second, third = await publisher.publish_many(items)
    assert requests[0].path == case["path"]
    assert requests[0].json == case["request"]
    assert first == Published("prices", Position("k3f9", 42))
    assert third == Published("prices", Position("k3f9", 41), duplicate=True)
    assert isinstance(second, PublishRefusedError)
    assert second.code == "forbidden"
    assert "no grant to publish on 'news'" in str(second)


async def test_the_publisher_says_all_that_a_golden_publication_may_say() -> None:
    """Field by field."""
    case = golden("publishing")
    taken = [{"channel": item["channel"], "epoch": "e", "offset": 1} for item in case["options"]]
    async with (
        http_hub(lambda _: json_answer(taken)) as (url, requests),
        Publisher(url) as publisher,
    ):
        await publisher.publish_many(Outgoing.of(**item) for item in case["options"])
    assert requests[0].json == case["options"]


async def test_a_payload_for_several_channels_is_the_golden_request() -> None:
    """The answers for the channels are in their order."""
    case = golden("publishing")["several"]
    request = dict(case["request"])
    channels: list[str] = request.pop("channels")
    data = request.pop("data")
    async with (
        http_hub(lambda _: json_answer(case["answer"], case["status"])) as (url, requests),
        Publisher(url) as publisher,
    ):
        told = await publisher.publish(channels, data, **request)
    assert requests[0].json == case["request"]
    assert told == (Published("prices", Position("k3f9", 43)), Published("news", Position("m1", 8)))


@pytest.mark.parametrize("case", golden("problems"), ids=name_of)
async def test_the_publisher_tries_again_what_a_golden_problem_allows(case: Case) -> None:
    """A problem that allows no other try is raised under its code."""
    wire = case["wire"]
    refusal = HttpAnswer(
        wire["status"], json_answer(wire).body, {"Content-Type": "application/problem+json"}
    )
    async with (
        http_hub(lambda _: refusal) as (url, requests),
        Publisher(url, options=BRIEF) as publisher,
    ):
        (outcome,) = await publisher.publish_many([Outgoing.of("prices", 1)])
    assert isinstance(outcome, PublishError)
    if wire["retryable"] or wire["status"] >= 500:
        assert len(requests) > 1
    else:
        assert len(requests) == 1
        assert outcome.code == wire["code"]
