"""The commands that `hub serve` prints at its start can be copied and work."""

import json

import pytest

from tests.support.hub_process import HubProcess

KEY, TOKEN = '-H "Authorization: Bearer $KEY" ', '-H "Authorization: Bearer $TOKEN" '


@pytest.mark.parametrize(
    ("keys", "publish", "subscribe", "operate"),
    [
        ({}, "", "", True),
        ({"HUB_PUBLISH_KEYS": "p" * 32}, KEY, "", False),
        ({"HUB_TOKEN_KEYS": "t" * 32}, KEY, TOKEN, False),
        ({"HUB_PUBLISH_KEYS": "p" * 32, "HUB_OPERATOR_KEYS": "o" * 32}, KEY, "", True),
    ],
    ids=["nothing", "publish keys", "token keys", "operator keys"],
)
def test_the_commands_shown_carry_the_credentials_that_they_need(
    keys: dict[str, str], publish: str, subscribe: str, operate: bool
) -> None:
    """The dashboard's address is shown only if somebody may use it."""
    with HubProcess(allow_tracebacks=False, HUB_LOG_FORMAT="console", **keys) as hub:
        shown = hub.stderr
    assert f"curl {publish}-d '{{\"hello\":1}}' {hub.url}/api/publish/news\n" in shown
    assert f"curl {subscribe}-N '{hub.url}/sse?channel=news'\n" in shown
    assert (f"{hub.url}/dashboard\n" in shown) is operate
    assert f"{hub.url}/docs\n" in shown


def test_a_collector_of_logs_gets_nothing_but_json() -> None:
    """Line by line; the address is part of `started`."""
    with HubProcess() as hub:
        hub.stop()
        events = [json.loads(line) for line in hub.stderr.splitlines()]
    assert [event["url"] for event in events if event["event"] == "started"] == [hub.url]
