"""Tickets: what an operator's page puts into URLs in place of the key."""

import jwt
import pytest

from hub.auth.credentials import Credentials
from hub.auth.policy import Policy
from hub.auth.tickets import LIFE_SECONDS
from hub.errors import ForbiddenError, UnauthorizedError
from tests.core.fakes import FakeClock

NOW = 1_700_000_000.0
OPERATOR_KEY = "an-operator-key"
TOKEN_KEY = "a-token-key-of-at-least-32-bytes"


def policy(
    clock: FakeClock, *, operator_keys: tuple[str, ...] = (OPERATOR_KEY,), tokens: str = TOKEN_KEY
) -> Policy:
    return Policy(operator_keys=operator_keys, token_keys=[tokens], clock=clock)


def ticket_of(issuer: Policy) -> str:
    ticket = issuer.ticket()
    assert ticket is not None
    return ticket


def test_a_ticket_opens_a_session_that_reads_everything_and_publishes_nothing() -> None:
    """The hub's own channels among what it reads; and it is not seen in presence."""
    clock = FakeClock(NOW)
    identity = policy(clock).identify(Credentials(token=ticket_of(policy(clock))))
    identity.check_subscribe("hub:stats")
    identity.check_subscribe("prices")
    assert identity.operator
    assert identity.observer
    with pytest.raises(ForbiddenError):
        identity.check_publish("prices")


def test_a_ticket_renews_a_session_that_a_ticket_opened() -> None:
    """The command `authenticate` takes a ticket as it takes a token."""
    clock = FakeClock(NOW)
    assert policy(clock).authenticate(ticket_of(policy(clock))).operator


def test_a_ticket_ends() -> None:
    clock = FakeClock(NOW)
    ticket = ticket_of(policy(clock))
    clock.advance(LIFE_SECONDS)
    with pytest.raises(UnauthorizedError, match="matches no key"):
        policy(clock).authenticate(ticket)


def test_a_ticket_is_no_key() -> None:
    """The API refuses a ticket as a key, so one that is read in a log is of no use there."""
    clock = FakeClock(NOW)
    ticket = ticket_of(policy(clock))
    for sent in (Credentials(authorization=f"Bearer {ticket}"), Credentials(api_key=ticket)):
        with pytest.raises(UnauthorizedError):
            policy(clock).check_operator(sent)


def test_a_ticket_holds_at_every_node_with_the_key_and_nowhere_else() -> None:
    """Keys may be several while one is replaced; the first one signs."""
    clock = FakeClock(NOW)
    ticket = ticket_of(policy(clock))
    assert policy(clock, operator_keys=("newer", OPERATOR_KEY)).authenticate(ticket).operator
    with pytest.raises(UnauthorizedError):
        policy(clock, operator_keys=("newer",)).authenticate(ticket)


def test_a_token_is_no_ticket_even_where_both_keys_are_the_same_text() -> None:
    """A holder of the token key must not become an operator by signing a token."""
    clock, shared = FakeClock(NOW), "the-same-text-of-at-least-32-bytes"
    claims = {"exp": NOW + 60, "hub": {"subscribe": ["*"]}}
    identity = policy(clock, operator_keys=(shared,), tokens=shared).authenticate(
        jwt.encode(claims, shared, algorithm="HS256")
    )
    assert not identity.operator


def test_without_operator_keys_there_is_no_ticket() -> None:
    assert Policy(clock=FakeClock(NOW)).ticket() is None
