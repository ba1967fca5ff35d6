"""The policy's answer is tested for every combination of keys, tokens and settings."""

import base64
from collections.abc import Callable

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.credentials import Credentials
from hub.auth.policy import Policy
from hub.core.identity import Identity
from hub.errors import ForbiddenError, HubError, UnauthorizedError

NOW = 1_700_000_000.0
PUBLISH_KEY, OPERATOR_KEY = "a-publish-key", "an-operator-key"
TOKEN_KEY = "a-token-key-of-at-least-32-bytes"
CLAIMS = {"sub": "ada", "hub": {"subscribe": ["news"], "publish": ["chat:*"]}}
TOKEN = jwt.encode(CLAIMS, TOKEN_KEY, algorithm="HS256")
NOTHING = Credentials()


def policy(what: str) -> Policy:
    """`what` names what is set: `p`ublish, `o`perator and `t`oken keys."""
    return Policy(
        publish_keys=[PUBLISH_KEY] if "p" in what else [],
        operator_keys=[OPERATOR_KEY] if "o" in what else [],
        token_keys=[TOKEN_KEY] if "t" in what else [],
        origins=["https://app.example"],
        clock=lambda: NOW,
    )


def bearer(value: str) -> Credentials:
    return Credentials(authorization=f"Bearer {value}")


def basic(user: str, password: str) -> Credentials:
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    return Credentials(authorization=f"Basic {encoded}")


def outcome(action: Callable[[], object]) -> str:
    """`yes`, or the code of the error."""
    try:
        action()
    except HubError as error:
        return error.code
    return "yes"


def answers(policy: Policy, credentials: Credentials) -> tuple[str, str, str]:
    """May it subscribe to `prices`, publish on `prices`, operate?"""
    return (
        outcome(lambda: policy.identify(credentials).check_subscribe("prices")),
        outcome(lambda: policy.identify_publisher(credentials).check_publish("prices")),
        outcome(lambda: policy.check_operator(credentials)),
    )


YES, WHO, NO = "yes", "unauthorized", "forbidden"


@pytest.mark.parametrize(
    ("what", "sent", "expected"),
    [
        ("", NOTHING, (YES, YES, YES)),
        ("p", NOTHING, (YES, WHO, NO)),
        ("o", NOTHING, (YES, WHO, WHO)),
        ("t", NOTHING, (WHO, WHO, NO)),
        ("po", NOTHING, (YES, WHO, WHO)),
        ("pt", NOTHING, (WHO, WHO, NO)),
        ("ot", NOTHING, (WHO, WHO, WHO)),
        ("pot", NOTHING, (WHO, WHO, WHO)),
        ("p", bearer(PUBLISH_KEY), (YES, YES, NO)),
        ("po", bearer(PUBLISH_KEY), (YES, YES, NO)),
        ("pot", bearer(PUBLISH_KEY), (YES, YES, NO)),
        ("o", bearer(OPERATOR_KEY), (YES, YES, YES)),
        ("pot", bearer(OPERATOR_KEY), (YES, YES, YES)),
        ("t", bearer(TOKEN), (NO, NO, NO)),
        ("pot", bearer(TOKEN), (NO, NO, NO)),
    ],
)
def test_the_table_of_the_module_holds(
    what: str, sent: Credentials, expected: tuple[str, str, str]
) -> None:
    """Subscribe, publish, operate: a row for what is set and what is sent."""
    assert answers(policy(what), sent) == expected


WRONG = (
    Credentials(api_key="wrong"),
    Credentials(api_key=""),
    Credentials(api_key=TOKEN + "x"),
    Credentials(token=""),
    Credentials(token="wrong"),
    Credentials(token=PUBLISH_KEY),
    Credentials(token=TOKEN[:-4] + "AAAA"),
    Credentials(authorization=""),
    Credentials(authorization="Bearer"),
    Credentials(authorization="Bearer wrong"),
    Credentials(authorization=f"Bearer {TOKEN}.more"),
    Credentials(authorization=f"Digest {PUBLISH_KEY}"),
    Credentials(authorization=PUBLISH_KEY),
    Credentials(authorization="Basic ???"),
    Credentials(authorization="Basic /w=="),
    Credentials(authorization="Basic " + base64.b64encode(PUBLISH_KEY.encode()).decode()),
    basic("ops", "wrong"),
    Credentials(token=TOKEN, api_key="wrong"),
    Credentials(api_key=PUBLISH_KEY, authorization="Bearer wrong"),
)


@pytest.mark.parametrize("what", ["", "p", "o", "t", "pt", "pot"])
@pytest.mark.parametrize("sent", WRONG)
def test_a_credential_that_does_not_hold_is_unauthorized_and_never_anonymous(
    what: str, sent: Credentials
) -> None:
    """A wrong credential is refused even if nothing is set and a peer without
    one might do everything."""
    configured = policy(what)

    assert outcome(lambda: configured.identify(sent)) == WHO
    assert outcome(lambda: configured.identify_publisher(sent)) == WHO
    if what in {"", "o", "pot"}:
        assert outcome(lambda: configured.check_operator(sent)) == WHO


@pytest.mark.parametrize(
    "sent",
    [
        bearer(PUBLISH_KEY),
        Credentials(authorization=f"bearer {PUBLISH_KEY}"),
        Credentials(authorization=f"BEARER   {PUBLISH_KEY} "),
        Credentials(api_key=PUBLISH_KEY),
        basic("anything", PUBLISH_KEY),
    ],
)
def test_a_key_is_taken_from_every_header_that_may_carry_one(sent: Credentials) -> None:
    """The scheme's letters may be of either case; the identity shows a digest of the key."""
    identity = policy("pot").identify(sent)

    assert identity.publisher.startswith("key:")
    assert PUBLISH_KEY not in repr(identity)


def test_a_token_is_taken_from_the_url_and_from_the_header() -> None:
    """An EventSource sets no headers, a backend has no reason to write it into a URL."""
    configured = policy("t")

    identity = configured.identify(Credentials(token=TOKEN))

    assert identity == configured.identify(bearer(TOKEN)) == configured.authenticate(TOKEN)
    assert (identity.subject, identity.subscribe, identity.publish) == (
        "ada",
        ("news",),
        ("chat:*",),
    )


@pytest.mark.parametrize("sent", ["abc", "ey.abc", "a.b.c.d"])
def test_a_text_that_is_neither_a_key_nor_a_token_is_told_what_a_token_is(sent: str) -> None:
    """The message says what a token looks like, so that a user who cut off a part of one
    looks in the right place."""
    configured = Policy(publish_keys=["key"], token_keys=[TOKEN_KEY])
    with pytest.raises(UnauthorizedError, match=r"no token .three parts joined by dots.* not one"):
        configured.identify(bearer(sent))
    with pytest.raises(UnauthorizedError, match=r"^the key is not one that is set here$"):
        configured.identify(Credentials(api_key=sent))
    with pytest.raises(UnauthorizedError, match=r"^the key is not one that is set here$"):
        Policy(publish_keys=["key"]).identify(bearer(sent))


def test_a_key_that_looks_like_a_token_is_a_key() -> None:
    """A Bearer value is a key first."""
    configured = Policy(publish_keys=["a.b.c"], token_keys=[TOKEN_KEY])

    assert configured.identify(bearer("a.b.c")).publish == ("*",)


def test_the_most_specific_of_several_credentials_says_who_it_is() -> None:
    """A page opened by an operator may connect as the user whose token it holds."""
    sent = Credentials(token=TOKEN, authorization=f"Bearer {OPERATOR_KEY}")
    configured = policy("pot")

    assert configured.identify(sent).subject == "ada"
    assert configured.check_operator(sent).operator


def test_a_browser_operates_with_the_key_as_its_password() -> None:
    """Basic is what a browser can ask for; colons may stand in the key."""
    configured = Policy(operator_keys=["key:with:colons"])

    assert configured.check_operator(basic("me", "key:with:colons")).operator


@pytest.mark.parametrize("what", ["p", "t", "pt"])
@pytest.mark.parametrize("sent", [NOTHING, bearer(PUBLISH_KEY), bearer(TOKEN), bearer("wrong")])
def test_without_operator_keys_the_answer_names_the_setting(what: str, sent: Credentials) -> None:
    """Only setting a key helps, whatever is sent."""
    with pytest.raises(ForbiddenError, match="HUB_OPERATOR_KEYS is not set"):
        policy(what).check_operator(sent)


def test_a_stranger_who_may_only_read_is_told_so_at_the_grant() -> None:
    """A session that may do both is told that publishing is forbidden; a mere publisher is
    told that a key is missing."""
    stranger = policy("p").identify(NOTHING)

    assert not stranger.operator
    assert outcome(lambda: stranger.check_publish("prices")) == NO
    with pytest.raises(UnauthorizedError, match="HUB_PUBLISH_KEYS"):
        policy("p").identify_publisher(NOTHING)
    with pytest.raises(UnauthorizedError, match="or a token that grants it"):
        policy("pt").identify_publisher(NOTHING)


def test_a_key_in_both_rings_is_an_operators() -> None:
    """The greater right counts."""
    configured = Policy(publish_keys=["same"], operator_keys=["same"])

    assert configured.check_operator(bearer("same")).operator


def test_an_expired_token_is_refused_by_the_clock_that_was_handed_in() -> None:
    """The same token holds a second before its end and not at it."""
    token = jwt.encode({"exp": int(NOW)}, TOKEN_KEY, algorithm="HS256")
    before = Policy(token_keys=[TOKEN_KEY], clock=lambda: NOW - 1)

    assert before.authenticate(token).expires_at == NOW
    assert outcome(lambda: policy("t").authenticate(token)) == WHO


def test_only_an_unconfigured_hub_is_open() -> None:
    """The composition root binds loopback only while this is true; origins do not count."""
    assert policy("").open
    assert not any(policy(what).open for what in ("p", "o", "t"))


def test_origins_are_asked_of_the_list() -> None:
    """Same host or listed; see the list's own tests."""
    configured = policy("")

    configured.check_origin("https://app.example", "hub.example")
    configured.check_origin("http://hub.example", "hub.example")
    configured.check_origin(None, "hub.example")
    with pytest.raises(ForbiddenError):
        configured.check_origin("https://evil.example", "hub.example")


def test_credentials_never_show_their_values() -> None:
    """A log line with the whole object leaks nothing."""
    assert repr(Credentials("Bearer s3cret", "s3cret", "s3cret")) == "Credentials(...)"


@given(st.sampled_from([f"Bearer {TOKEN}x", "Bearer s3cret", "Basic s3cret", "s3cret s3cret"]))
def test_messages_never_show_what_was_sent(header: str) -> None:
    """The value that does not hold may be one that holds elsewhere."""
    with pytest.raises(UnauthorizedError) as caught:
        policy("pot").identify(Credentials(authorization=header))
    assert "s3cret" not in caught.value.message
    assert TOKEN not in caught.value.message


@given(st.text(), st.sampled_from(["authorization", "api_key", "token"]))
def test_no_random_credential_is_anybody(value: str, place: str) -> None:
    """A random credential raises nothing but `UnauthorizedError`."""
    with pytest.raises(UnauthorizedError):
        policy("pot").identify(Credentials(**{place: value}))


def test_anonymous_identities_share_one_scope() -> None:
    """Idempotency keys of strangers are one publisher's."""
    assert policy("").identify(NOTHING) == Identity(
        publisher="anonymous", subscribe=("*",), publish=("*",), operator=True
    )
