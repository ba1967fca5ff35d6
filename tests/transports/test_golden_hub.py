"""The answers of a running hub have the names that the golden files say.

The encoders are compared byte by byte in `tests/wire/test_golden.py`; here is what only the whole
hub makes: the `ok` of each reply, polls, and answers to `POST /api/publish`.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import jwt
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.golden import Case, golden, golden_case, name_of, shape
from tests.support.hub_process import HubProcess

SECONDS = 10.0
KEY = "t" * 32
# A command's values that this hub has to accept, where those of the golden file are examples.
REFUSED = {"authenticate"}


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(HUB_PRESENCE="true", HUB_NAMESPACES='{"rows":{"keyed":true}}') as running:
        yield running


@pytest.fixture
def session(hub: HubProcess) -> Iterator[ClientConnection]:
    """A WebSocket after its welcome, subscribed to what the golden commands name."""
    with connect(hub.ws_url, open_timeout=SECONDS, close_timeout=SECONDS) as opened:
        assert shape(received(opened)) == shape(golden_case("pushes", "welcome")["wire"])
        for channel in ("prices", "chat:42"):
            ask(opened, {"op": "subscribe", "id": channel, "channel": channel})
        yield opened


def received(session: ClientConnection) -> Any:
    return json.loads(session.recv(timeout=SECONDS))


def ask(session: ClientConnection, command: Case) -> Any:
    """The command's reply; pushes in between are skipped."""
    session.send(json.dumps(command))
    while True:
        push = received(session)
        if push["op"] == "reply" and push["id"] == command["id"]:
            return push


@pytest.mark.parametrize(
    "case", [case for case in golden("commands") if case["wire"]["op"] not in REFUSED], ids=name_of
)
def test_a_golden_command_is_carried_out_and_answered_under_the_golden_names(
    session: ClientConnection, case: Case
) -> None:
    """Each as it stands in the file."""
    command = case["wire"]
    if command["op"] == "history":
        publish = golden_case("commands", "publish, not back to me")["wire"]
        ask(session, {**publish, "id": "before"})
        command = {name: value for name, value in command.items() if name != "since"}
    if command["op"] == "subscribe":
        of = "pattern" if "pattern" in command else "channel"
        ask(session, {"op": "unsubscribe", "id": "u", of: command[of]})
    if command.get("state") or command.get("remove"):
        command = {**command, "channel": "rows:prices"}
    if command["op"] == "unsubscribe" and "pattern" in command:
        ask(session, {"op": "subscribe", "id": "s", "pattern": command["pattern"]})
    which = f"{command['op']}, a pattern" if "pattern" in command else command["op"]
    if "count" in command:
        which = f"{command['op']}, how many"
    if "from_time" in command:
        which = f"{command['op']}, backwards"
    expected = golden_case("replies", which)["wire"]["ok"]
    if command.get("state"):
        expected = {**expected, "state": True}
    answer = ask(session, command)
    assert set(answer) == {"op", "id", "ok"}
    assert set(answer["ok"]) == set(expected)
    for name in ("publications", "members"):
        optional = {"key", "from", "sub", "tags", "remove", "end"}
        for each in answer["ok"].get(name, []):
            assert set(each) - optional == set(expected[name][0]) - optional


def test_a_repeated_golden_publish_is_answered_as_a_duplicate(session: ClientConnection) -> None:
    """Under the name that clients look for."""
    command = golden_case("commands", "publish, repeatable")["wire"]
    ask(session, command)
    expected = golden_case("replies", "publish, repeated")["wire"]["ok"]
    assert shape(ask(session, {**command, "id": 99})["ok"]) == shape(expected)


def test_a_refused_command_is_answered_under_the_golden_names(session: ClientConnection) -> None:
    """A token that is none."""
    command = golden_case("commands", "authenticate")["wire"]
    expected = golden_case("replies", "refused")["wire"]
    assert set(ask(session, command)["error"]) == set(expected["error"])


def test_a_token_that_holds_is_answered_under_the_golden_name() -> None:
    """How long it holds, in seconds."""
    claims = {"sub": "ada", "exp": int(time.time()) + 600}
    token = jwt.encode({**claims, "hub": {"subscribe": ["prices"]}}, KEY, "HS256")
    command = {**golden_case("commands", "authenticate")["wire"], "token": token}
    expected = golden_case("replies", "authenticate")["wire"]["ok"]
    with HubProcess(HUB_TOKEN_KEYS=KEY) as hub:
        url = f"{hub.ws_url}?channel=prices&token={token}"
        with connect(url, open_timeout=SECONDS, close_timeout=SECONDS) as opened:
            assert shape(ask(opened, command)["ok"]) == shape(expected)


def test_pushes_of_a_running_hub_have_the_golden_names(
    hub: HubProcess, session: ClientConnection
) -> None:
    """A message, and a join of somebody else."""
    httpx.post(f"{hub.url}/api/publish/prices", json={"eur": 1.5}, timeout=SECONDS)
    expected = golden_case("pushes", "message")["wire"]
    while (push := received(session))["op"] != "message":
        assert push["op"] in {"join", "presence_reset"}
    assert shape(push) == shape(expected)
    with connect(f"{hub.ws_url}?channel=prices", open_timeout=SECONDS) as other:
        other.recv(timeout=SECONDS)
        while (push := received(session))["op"] != "join":
            pass
    assert set(push) == set(golden_case("pushes", "join")["wire"])
    assert set(push["member"]) == {"id", "connection"}


def test_a_poll_is_answered_under_the_golden_names(hub: HubProcess) -> None:
    """With something in it."""
    case = golden_case("polls", "an answer")
    httpx.post(f"{hub.url}/api/publish/prices", json={"eur": 1.5}, timeout=SECONDS)
    answer = httpx.get(f"{hub.url}/poll?channel=prices&last=1&wait=1", timeout=SECONDS).json()
    expected = case["wire"]
    messages = [push for push in answer["pushes"] if push["op"] == "message"]
    assert shape({**answer, "pushes": messages}) == shape(
        {**expected, "pushes": expected["pushes"][:1]}
    )


def test_a_golden_request_to_publish_is_answered_under_the_golden_names(hub: HubProcess) -> None:
    """One item is refused, one is new and then a repeat."""
    case = golden("publishing")
    items = [dict(item) for item in case["request"]]
    items[1]["channel"] = "not allowed"
    first = httpx.post(hub.url + case["path"], json=items, timeout=SECONDS)
    again = httpx.post(hub.url + case["path"], json=items, timeout=SECONDS)
    assert first.status_code == case["status"]
    published, refused, duplicate = case["answer"]
    assert shape(first.json()[0]) == shape(published)
    assert shape(first.json()[1]) == shape(refused)
    assert shape(again.json()[2]) == shape(duplicate)


def test_whatever_a_golden_publication_says_is_taken(hub: HubProcess) -> None:
    """A removal, tags and an end, a time to live, and what is in no history; several channels."""
    case = golden("publishing")
    answer = httpx.post(hub.url + case["path"], json=case["options"], timeout=SECONDS)
    assert answer.status_code == 200
    assert [each["channel"] for each in answer.json()] == [
        each["channel"] for each in case["options"]
    ]
    several = case["several"]
    answer = httpx.post(hub.url + case["path"], json=several["request"], timeout=SECONDS)
    assert answer.status_code == several["status"]
    assert [shape(each) for each in answer.json()] == [shape(each) for each in several["answer"]]
