"""The page of a million connections says what its program computes, and its queues behave."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.million import (
    BACKLOG,
    NODE_SHARE,
    SLOPES,
    WORKS,
    Story,
    need,
    needs,
    simulate,
    stories,
)

README = Path(__file__).with_name("README.md")
SMALL = 1 / 50


def test_the_page_shows_what_is_computed() -> None:
    """A slope that changes changes the page."""
    assert "\n".join(needs()) in README.read_text()


def test_the_page_tells_every_story() -> None:
    text = README.read_text()
    assert [story.name for story in stories() if story.name not in text] == []


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_no_node_is_busier_than_was_chosen(work: object) -> None:
    found = need(work)  # type: ignore[arg-type]  # one of `WORKS`
    assert found.node_share <= NODE_SHARE


def test_twice_the_cost_of_a_delivery_needs_more_nodes() -> None:
    feed = WORKS[2]
    dear = replace(SLOPES, delivery_us=2 * SLOPES.delivery_us)
    assert need(feed, dear).nodes > need(feed).nodes


def test_everybody_comes_back_and_is_counted_once() -> None:
    story = Story("", 3000, 2, (0.0, 1.0))
    came = simulate(story, busy=0.5)
    assert len(came.back_at) == story.clients
    assert came.tries >= story.clients


def test_no_queue_is_longer_than_the_kernels() -> None:
    """What does not fit is dropped unseen and comes again: a node does no work for nobody."""
    came = simulate(Story("", 20_000, 1, (0.0, 1.0)), busy=0.5)
    service = SLOPES.resume_us / 1e6 / 0.5
    assert came.busiest_seconds <= (BACKLOG + 1) * service
    assert max(came.back_at) < 2 * 20_000 * service


def test_a_drain_lets_nobody_wait() -> None:
    """Spread over its window it asks less of the others than they have."""
    drains = stories()[1]
    small = replace(drains, clients=int(drains.clients * SMALL), nodes=1)
    came = simulate(small, busy=0.5)
    assert came.busiest_seconds < 0.1
    assert came.tries == small.clients


def test_the_same_seed_tells_the_same_story() -> None:
    story = Story("", 500, 3, (0.0, 1.0))
    assert simulate(story, busy=0.5).back_at == simulate(story, busy=0.5).back_at
