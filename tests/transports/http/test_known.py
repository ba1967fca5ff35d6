"""A publisher's head that passed is remembered; what may be another answer next time is not."""

from pathlib import Path

import pytest

from hub.auth.policy import Policy
from hub.transports.http.app import make_routes
from hub.transports.http.dispatch import Call, Dispatcher
from hub.transports.http.ports import HttpLimits
from hub.transports.request import Request
from tests.core.fakes import FakeClock
from tests.transports.http.fakes import make_deps

KEY = "a-key-of-more-than-32-characters-1"
SECRET = "0123456789abcdef0123456789abcdef"


def make(files: Path, policy: Policy) -> Dispatcher:
    deps = make_deps(files, policy=policy, limits=HttpLimits(max_message_bytes=200))
    return Dispatcher(make_routes(deps), deps)


def ask(
    dispatcher: Dispatcher, channel: str = "a", *, method: str = "POST", **headers: str
) -> Call:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request({"host": "localhost", "content-length": "1", **named})
    request.method, request.target = method, f"/api/publish/{channel}".encode()
    return dispatcher.open(request)


def status(call: Call) -> int:
    return 200 if call.answer is None else call.answer.status


@pytest.fixture
def dispatcher(files: Path) -> Dispatcher:
    """With a publish key, whose head is known."""
    made = make(files, Policy(publish_keys=[KEY]))
    for _ in range(2):
        assert status(ask(made, authorization=f"Bearer {KEY}")) == 200
    assert len(made.heads._read) == 1
    return made


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer nothing-that-holds"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY}", "x_api_key": "nothing-that-holds"},
    ],
)
def test_another_credential_is_judged_anew(dispatcher: Dispatcher, headers: dict[str, str]) -> None:
    for _ in range(2):
        assert status(ask(dispatcher, **headers)) == 401
    assert status(ask(dispatcher, authorization=f"Bearer {KEY}")) == 200


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"content_length": "201"}, 413),
        ({"content_length": "one"}, 400),
        ({"content_encoding": "br"}, 415),
        ({"expect": "a-miracle"}, 417),
    ],
)
def test_fields_besides_a_known_head_are_judged_each_time(
    dispatcher: Dispatcher, headers: dict[str, str], refusal: int
) -> None:
    for _ in range(2):
        call = ask(dispatcher, authorization=f"Bearer {KEY}", **headers)
        assert status(call) == refusal
    assert status(ask(dispatcher, authorization=f"Bearer {KEY}")) == 200


def test_a_known_head_is_given_what_it_was_given_first(dispatcher: Dispatcher) -> None:
    call = ask(dispatcher, authorization=f"Bearer {KEY}")
    assert call.request.params == {"channel": "a"}
    assert call.request.identity.publisher.startswith("key:")
    assert ask(dispatcher, "b", authorization=f"Bearer {KEY}").request.params == {"channel": "b"}


def test_another_method_on_a_known_path_is_another_head(dispatcher: Dispatcher) -> None:
    assert status(ask(dispatcher, method="GET", authorization=f"Bearer {KEY}")) == 405


def test_another_host_is_judged_anew(files: Path) -> None:
    """A page whose name resolves here sends what a program on this machine sends."""
    dispatcher = make(files, Policy())
    assert status(ask(dispatcher)) == 200
    assert status(ask(dispatcher, host="evil.example")) == 421


def test_a_token_ends_also_where_its_head_is_known(files: Path) -> None:
    jwt = pytest.importorskip("jwt")
    clock = FakeClock()
    dispatcher = make(files, Policy(token_keys=[SECRET], clock=clock))
    claims = {"sub": "ann", "exp": 1010, "hub": {"publish": ["*"]}}
    token = f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"
    assert status(ask(dispatcher, authorization=token)) == 200

    clock.advance(20)

    assert status(ask(dispatcher, authorization=token)) == 401
    assert not dispatcher.heads._read


def test_a_grant_is_judged_for_each_channel(files: Path) -> None:
    """Only what passed is remembered."""
    dispatcher = make(files, Policy(publish_keys=[KEY]))
    for _ in range(2):
        assert status(ask(dispatcher, "hub:stats", authorization=f"Bearer {KEY}")) == 403
    assert not dispatcher.heads._read


def test_remembered_heads_are_bounded(files: Path) -> None:
    dispatcher = make(files, Policy())
    for number in range(3000):
        assert status(ask(dispatcher, f"c{number}")) == 200
        assert len(dispatcher.heads._read) <= 1024
    before = len(dispatcher.heads._read)
    ask(dispatcher, "a?" + "x" * 2000)
    assert len(dispatcher.heads._read) == before
