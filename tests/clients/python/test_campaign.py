"""When to publish again, when to stop and what to say then: no network, a clock by hand."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from hub_client import (
    Batching,
    BreakerPolicy,
    NotPublishedError,
    Outcome,
    OutcomeUnknownError,
    Outgoing,
    Published,
    PublishRefusedError,
    PublishRetry,
    Retrying,
)
from hub_client.breaker import Breaker
from hub_client.campaign import Campaign, Rules, Send
from hub_client.publishing import PublishBatch
from hub_client.timing import asked_seconds

HUB = "http://hub.example"
POLICY = BreakerPolicy(failures=3, over_seconds=5, open_seconds=10)
GONE = {"status": 503, "code": "not_published", "detail": "no broker", "retryable": True}
UNKNOWN = {"status": 503, "code": "outcome_unknown", "detail": "?", "retryable": True}


def highest(_low: float, high: float) -> float:
    return high


def breaker() -> Breaker:
    return Breaker(POLICY, draw=highest)


class Play:
    """Runs a campaign on a clock of its own; each attempt is answered by a function."""

    def __init__(
        self, *, items: int = 1, retry: PublishRetry | None = None, breaker: Breaker | None = None
    ) -> None:
        self.now = 1000.0
        self.notices: list[Retrying] = []
        self.requests: list[list[int]] = []
        self.rules = Rules(
            retry or PublishRetry(), Batching(max_items=4), breaker, HUB, draw=highest
        )
        outgoing = [Outgoing.of("a", number) for number in range(items)]
        self.campaign = Campaign(outgoing, self.rules, now=self.now)

    def run(self, attempt: "Callable[[Play, Send], None]") -> tuple[Outcome, ...]:
        while step := self.campaign.next_step(self.now):
            if isinstance(step, Send):
                self.requests.append([item["data"] for item in json.loads(step.body)])
                attempt(self, step)
            else:
                self.notices.append(step.notice)
                self.now += step.notice.pause_seconds
        return self.campaign.outcomes()

    def answer(self, sent: Send, *results: object, status: int = 207, asked: float = 0) -> None:
        body = json.dumps(results).encode()
        self.campaign.answered(sent, status, body, asked=asked, now=self.now)

    def fail(self, sent: Send, *, reached: bool) -> None:
        self.campaign.failed(sent, "it broke", reached=reached, ours=False, now=self.now)


def ok(offset: int) -> dict[str, object]:
    return {"channel": "a", "epoch": "e1", "offset": offset}


def never_sent(play: Play, sent: Send) -> None:
    play.fail(sent, reached=False)


def test_pauses_double_up_to_the_cap_and_the_last_one_does_not_pass_the_deadline() -> None:
    """0.2, 0.4, ... 5 seconds; no attempt is promised that would come too late."""
    play = Play(retry=PublishRetry(for_seconds=30))
    (outcome,) = play.run(never_sent)
    assert [notice.pause_seconds for notice in play.notices][:6] == [0.2, 0.4, 0.8, 1.6, 3.2, 5]
    assert play.now - 1000 < 30
    assert isinstance(outcome, NotPublishedError)
    assert f"it broke (10 attempts in 26.2 s at {HUB})" in outcome.message


def test_an_attempt_that_may_have_arrived_makes_the_outcome_unknown_for_good() -> None:
    """However many attempts surely did not arrive afterwards."""
    reached = iter([True])
    play = Play()
    (outcome,) = play.run(lambda play, sent: play.fail(sent, reached=next(reached, False)))
    assert isinstance(outcome, OutcomeUnknownError)


def test_a_publication_that_may_have_happened_is_not_tried_beyond_the_memory_of_its_key() -> None:
    """The hub knows a key for 300 s: an attempt that may arrive later could publish twice."""
    retry = PublishRetry(for_seconds=1000, cap_seconds=50, request_timeout_seconds=20)
    play = Play(retry=retry)
    (outcome,) = play.run(lambda play, sent: play.fail(sent, reached=True))
    assert isinstance(outcome, OutcomeUnknownError)
    last_attempt = play.now - play.notices[-1].pause_seconds
    assert last_attempt - 1000 <= 280
    assert play.now - 1000 < 400


def test_a_publication_that_surely_did_not_happen_may_be_tried_for_as_long_as_one_likes() -> None:
    """The hub's memory of keys is no limit where nothing was published."""
    play = Play(retry=PublishRetry(for_seconds=1000, cap_seconds=50))
    (outcome,) = play.run(never_sent)
    assert isinstance(outcome, NotPublishedError)
    assert play.now - 1000 > 900


def test_each_publication_of_a_batch_has_its_own_outcome() -> None:
    """Published, refused, surely not and unknown, in one answer."""

    def attempt(play: Play, sent: Send) -> None:
        refused = {"status": 403, "code": "forbidden", "detail": "no", "retryable": False}
        play.answer(sent, *[ok(1), refused, GONE, UNKNOWN][-len(sent.indices) :])

    play = Play(items=4, retry=PublishRetry(for_seconds=0))
    kinds = [type(outcome) for outcome in play.run(attempt)]
    assert kinds == [Published, PublishRefusedError, NotPublishedError, OutcomeUnknownError]


def test_the_first_request_of_a_long_list_is_repeated_before_the_second_goes_out() -> None:
    """A cut between the two requests must not change the order of publications."""
    broken = iter([True])

    def attempt(play: Play, sent: Send) -> None:
        if next(broken, False):
            play.fail(sent, reached=True)
        else:
            play.answer(sent, *(ok(index) for index in sent.indices))

    play = Play(items=6)
    assert all(isinstance(outcome, Published) for outcome in play.run(attempt))
    assert play.requests == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5]]


def test_progress_moves_the_deadline_of_a_long_list() -> None:
    """Every request takes 20 s and a retry; the call goes on because it gets somewhere."""

    def attempt(play: Play, sent: Send) -> None:
        play.now += 20
        play.answer(sent, ok(1), *[GONE] * (len(sent.indices) - 1))

    play = Play(items=8, retry=PublishRetry(for_seconds=30))
    assert all(isinstance(outcome, Published) for outcome in play.run(attempt))


def test_the_pause_is_what_the_hub_asks_for_and_jitter_on_top() -> None:
    """All publishers are told the same second, and must not come back in it together."""
    answers = iter([GONE, ok(1)])
    play = Play()
    play.run(lambda play, sent: play.answer(sent, next(answers), status=503, asked=3))
    assert [notice.pause_seconds for notice in play.notices] == [3.2]


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    """RFC 9110 section 10.2.3 defines both forms; any other text asks for no pause."""
    assert asked_seconds("7", unix_now=0) == 7
    assert asked_seconds("Thu, 01 Jan 1970 00:01:40 GMT", unix_now=40) == 60
    assert asked_seconds("Thu, 01 Jan 1970 00:01:40 GMT", unix_now=400) == 0
    assert [asked_seconds(text, unix_now=0) for text in ("", "soon", "-3", "٣")] == [0] * 4


def test_the_breaker_opens_after_enough_failures_over_enough_time() -> None:
    """Three failures at once are a restart; three over five seconds are an outage."""
    at_once = breaker()
    for _ in range(9):
        at_once.failed(0, "no")
    assert at_once.admit(1) == 0
    lasting = breaker()
    for moment in (0, 3, 6):
        lasting.failed(moment, "no")
    assert lasting.admit(7) == 9


def test_a_success_starts_the_count_of_failures_anew() -> None:
    """In a row means in a row."""
    opens = breaker()
    opens.failed(0, "no")
    opens.failed(3, "no")
    opens.succeeded()
    opens.failed(6, "no")
    assert opens.admit(7) == 0


def test_an_open_breaker_lets_one_attempt_look_and_its_outcome_decides() -> None:
    """Half-open: one passes, the others wait; failure opens it again, success closes it."""
    opens = breaker()
    for moment in (0, 3, 6):
        opens.failed(moment, "no")
    assert opens.admit(16) == 0
    assert opens.admit(16) > 0
    opens.failed(17, "still no")
    assert opens.admit(18) == 9
    assert opens.admit(27) == 0
    opens.succeeded()
    assert [opens.admit(27), opens.admit(27)] == [0, 0]


def test_an_attempt_that_is_cancelled_while_it_looks_leaves_its_place_to_another() -> None:
    """A cancelled task would otherwise keep the breaker open for ever."""
    opens = breaker()
    for moment in (0, 3, 6):
        opens.failed(moment, "no")
    assert opens.admit(16) == 0
    opens.abandoned()
    assert opens.admit(16) == 0


def test_an_interrupted_attempt_is_unknown_and_leaves_its_place_at_the_breaker() -> None:
    """The hub may have read it, and the next caller may look whether the hub is back."""
    shared = breaker()
    for moment in (0, 3, 6):
        shared.failed(moment, "no")
    play = Play(breaker=shared)
    step = play.campaign.next_step(play.now)
    assert isinstance(step, Send)
    play.campaign.interrupted(step)
    (outcome,) = play.campaign.outcomes()
    assert isinstance(outcome, OutcomeUnknownError)
    assert shared.admit(play.now) == 0


def test_a_new_call_fails_at_once_where_one_under_way_waits_with_the_breaker() -> None:
    """A call that began before the outage was known is tried until its own deadline."""
    shared = breaker()
    under_way = Play(breaker=shared, retry=PublishRetry(for_seconds=60))
    (outcome,) = under_way.run(never_sent)
    assert under_way.now - 1000 > 45
    # 0.2 + 0.4 + 0.8 + 1.6 + 3.2 s, then only where the breaker lets one look, every 10 s.
    assert len(under_way.requests) < 6 + 6
    assert isinstance(outcome, NotPublishedError)
    late = Play(breaker=shared)
    late.now = under_way.now
    (refused,) = late.run(never_sent)
    assert isinstance(refused, NotPublishedError)
    assert (refused.code, late.requests, late.notices) == ("circuit_open", [], [])


def test_a_refusal_is_no_failure_of_the_hub() -> None:
    """Bad input of one caller must not shut out the others."""

    def refuse(play: Play, sent: Send) -> None:
        refused = {"status": 403, "code": "forbidden", "detail": "no", "retryable": False}
        play.answer(sent, refused, status=403)

    shared = breaker()
    for moment in range(20):
        play = Play(breaker=shared)
        play.now += moment
        play.run(refuse)
    assert shared.admit(2000) == 0


def sent_by(items: "list[Outgoing]", *, answers: "Callable[[Play, Send], None]") -> list[Any]:
    """The bodies of the requests for these items."""
    bodies = []

    def attempt(play: Play, sent: Send) -> None:
        bodies.append(json.loads(sent.body))
        answers(play, sent)

    play = Play()
    play.campaign = Campaign(items, play.rules, now=play.now)
    while step := play.campaign.next_step(play.now):
        if isinstance(step, Send):
            attempt(play, step)
        else:
            play.now += step.notice.pause_seconds
    return bodies


def all_taken(play: Play, sent: Send) -> None:
    play.answer(sent, *(ok(1) for _ in sent.indices))


def test_a_payload_for_several_channels_is_one_request_with_one_payload() -> None:
    """The items before and behind it are requests of their own, and the list keeps its order."""
    several = Outgoing.to_each(["a", "b", "c"], {"n": 1}, key="k", idempotency_key="i", end=True)
    items = [Outgoing.of("x", 0), *several, Outgoing.of("y", 2), Outgoing.of("z", 3)]
    before, together, behind = sent_by(items, answers=all_taken)
    assert [item["channel"] for item in before] == ["x"]
    assert together == {
        "channels": ["a", "b", "c"], "data": {"n": 1}, "key": "k", "end": True,
        "idempotency_key": "i",
    }  # fmt: skip
    assert [item["channel"] for item in behind] == ["y", "z"]


def test_of_several_channels_only_those_that_failed_are_asked_again() -> None:
    """Two as one request, and one alone as any other publication."""
    answers = iter([(ok(1), GONE, GONE), (ok(1), GONE), (ok(1),)])
    items = list(Outgoing.to_each(["a", "b", "c"], 1, idempotency_key="i"))
    bodies = sent_by(items, answers=lambda play, sent: play.answer(sent, *next(answers)))
    assert [body["channels"] for body in bodies[:2]] == [["a", "b", "c"], ["b", "c"]]
    assert bodies[2] == [{"channel": "c", "data": 1, "idempotency_key": "i"}]


def test_more_channels_than_the_hub_takes_at_once_are_several_requests() -> None:
    """100 in one, and its bytes are those of one payload."""
    items = list(Outgoing.to_each([f"c{n}" for n in range(250)], "x" * 60_000))
    batch = PublishBatch(tuple(items), max_items=250, max_bytes=1024 * 1024)
    assert len(batch.next_request()) == 100
    assert len(batch.body(batch.next_request())) < 70_000


def test_a_channel_that_is_named_twice_and_an_option_that_is_none_are_refused_by_name() -> None:
    """The refusal comes before anything is sent."""
    swapped: Any = {"eur": 1}
    with pytest.raises(TypeError, match="is of type dict, expected a name or a list"):
        Outgoing.to_each(swapped, "prices")
    with pytest.raises(ValueError, match="'a' is named twice"):
        Outgoing.to_each(["a", "b", "a"], 1)
    with pytest.raises(TypeError, match="'ttl'"):
        Outgoing.to_each(["a"], 1, ttl=3)  # type: ignore[call-arg]  # what the test is about
