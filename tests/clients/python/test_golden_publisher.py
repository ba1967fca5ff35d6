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


@pytest.mark.parametrize("case", golden("problems"), ids=name_of)
async def test_the_publisher_tries_again_what_a_golden_problem_allows(case: Case) -> None:
    """What it does not try again is refused under the problem's code."""
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
