"""The operators' commands against a hub, or what stands in its place, that does not do well."""

import json

import pytest

from tests.cli.operating import environment, run
from tests.clients.python.fakes import HttpAnswer, HttpRequest, http_hub, json_answer, problem

pytestmark = pytest.mark.timeout(240)


async def test_a_command_that_was_told_and_not_answered_is_unknown() -> None:
    """Exit code 3: a script has to look before it tries again."""
    async with http_hub(lambda _: HttpAnswer(drop=True)) as (url, requests):
        ended = await run("disconnect", "c/1", **environment(url))
    assert ended.code == 3
    assert ended.err.startswith(f"hub: outcome unknown: the hub at {url} did not answer: ")
    assert (requests[0].method, requests[0].path) == ("DELETE", "/api/connections/c%2F1")


async def test_a_question_that_was_not_answered_may_be_asked_again() -> None:
    """Exit code 1: nothing was changed."""
    async with http_hub(lambda _: HttpAnswer(drop=True)) as (url, _):
        ended = await run("nodes", **environment(url))
    assert ended.code == 1
    assert ended.err.startswith(f"hub: the hub at {url} did not answer: ")


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (problem(503, "outcome_unknown"), 3, "outcome_unknown: "),
        (problem(503, "unavailable"), 1, "unavailable: "),
        (HttpAnswer(502, b"<html>Bad gateway</html>"), 1, "answered 502 and is no hub, or a proxy"),
        (HttpAnswer(200, b"<html>hello</html>"), 1, "answered 200 and is no hub, or a proxy"),
    ],
    ids=["unknown", "refused", "proxy", "another server"],
)
async def test_the_exit_code_tells_not_done_from_unknown(
    answer: HttpAnswer, code: int, says: str
) -> None:
    """The hub's own word counts, and what is no hub's is called so."""
    async with http_hub(lambda _: answer) as (url, _):
        ended = await run("drain", "n", **environment(url))
    assert (ended.code, ended.out) == (code, "")
    assert says in ended.err


@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (403, "forbidden")])
async def test_an_operator_with_the_wrong_key_is_told_where_the_command_takes_it_from(
    status: int, code: str
) -> None:
    async with http_hub(lambda _: problem(status, code)) as (url, _):
        ended = await run("nodes", **environment(url))
    assert ended.code == 1
    assert ended.err.endswith(" (--key or HUB_OPERATOR_KEY)\n")


async def test_whose_part_of_a_list_is_missing_is_said() -> None:
    """Stderr names the nodes, and the list has what there is."""
    page = {
        "connections": [],
        "total": 0,
        "next": None,
        "complete": False,
        "unanswered": ["n1", "n2"],
    }
    async with http_hub(lambda _: json_answer(page)) as (url, requests):
        ended = await run("connections", "--sort", "-sent", "--node", "n1", **environment(url))
        unasked = await run("connections", **environment(url))
        page["unanswered"] = []
        unasked = await run("connections", **environment(url))
    assert ended.code == 0
    assert ended.err == "hub: no answer from n1, n2: what is there is not listed\n"
    assert unasked.err == "hub: a part is missing: not all nodes could be asked\n"
    assert requests[0].query == {"sort": ["-sent"], "node": ["n1"], "limit": ["100"]}
    assert requests[0].headers["authorization"] == "Bearer operator-key"


async def test_a_wait_outlives_nodes_that_a_balancer_still_asks() -> None:
    """An answer that does not come is asked for again; a node that is gone is empty."""
    told = {"node": "n", "closing": 2, "window_seconds": 1.0}
    draining = {"node": "n", "connections": 1, "draining": True}
    answers = iter(
        [
            json_answer(told),
            HttpAnswer(drop=True),
            json_answer({"nodes": [draining]}),
            HttpAnswer(502, b"Bad gateway"),
            json_answer({"nodes": []}),
        ]
    )

    def answer(_: HttpRequest) -> HttpAnswer:
        return next(answers)

    async with http_hub(answer) as (url, _):
        ended = await run("drain", "n", "--wait", "--json", **environment(url))
    assert ended.code == 0
    assert ended.err.splitlines() == ["hub: n: 1 connections left", "hub: n is empty"]
    assert json.loads(ended.out) == told
