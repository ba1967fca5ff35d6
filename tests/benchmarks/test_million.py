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
    returns,
    simulate,
    stories,
)

README = Path(__file__).with_name("README.md")
FIGURES = Path(__file__).parents[2] / "hub" / "docs" / "figures.md"
SMALL = 1 / 50


def test_the_page_shows_what_is_computed() -> None:
    """A slope that changes changes the page."""
    assert "\n".join(needs()) in README.read_text()


def test_the_page_shows_what_is_simulated() -> None:
    """A story of one node's clients is told exactly."""
    text = README.read_text()
    dies, drains, _ = stories()
    assert [row for row in returns((dies, drains)) if row not in text] == []


def test_the_page_shows_how_a_million_come_back() -> None:
    """One node of the twenty stands for all: its part takes a second, the whole takes 40."""
    everybody = stories()[2]
    each = replace(everybody, clients=everybody.clients // everybody.nodes, nodes=1)
    came = simulate(each, busy=NODE_SHARE)
    row = next(line for line in README.read_text().splitlines() if everybody.name in line)
    told = [float(cell.split()[0]) for cell in row.strip("| ").split(" | ")[1:]]
    simulated = (
        came.tries / each.clients,
        came.percentile(0.5),
        came.percentile(0.99),
        max(came.back_at),
        came.busiest_seconds,
    )
    assert told == pytest.approx(simulated, rel=0.1)


@pytest.mark.parametrize(
    ("figure", "command"),
    [
        (f" {SLOPES.resume_us:g} us; ", "--scenario storm`"),
        (f" {SLOPES.memory_bytes / 1000:g} KB, ", "--scenario idle`"),
        (f" {SLOPES.idle_us * 1.5:g} % |", "--scenario idle`"),
    ],
)
def test_a_slope_is_what_the_figures_say(figure: str, command: str) -> None:
    """A slope in the program stands in the table of figures too, so that
    both are corrected together."""
    row = next(line for line in FIGURES.read_text().splitlines() if command in line)
    assert figure in row


def test_the_text_of_the_page_has_the_slopes_that_it_names() -> None:
    text = README.read_text()
    assert f"({SLOPES.resume_us:g} us with 20 messages each" in text
    assert f"({SLOPES.redis_us:g} us each)" in text


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
    """A connect that does not fit into the queue is dropped and repeated, so a node does no work
    for a client that has left."""
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
