"""A running hub logs each peer that it refuses, without the secrets that were refused."""

import base64
import io
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest

from hub import Hub, Settings
from hub.observe.logs import make_logger
from tests.support.raw_connection import raw_connection
from tests.transports.peers import PEERS, Peer, Query, http_client

SIGNING = "a-signing-key-of-more-than-32-bytes!"


def token(seconds: float, *, key: str = SIGNING, subject: str = "ann") -> str:
    grants = {"subscribe": ["prices"]}
    claims = {"sub": subject, "exp": time.time() + seconds, "hub": grants}
    return jwt.encode(claims, key, algorithm="HS256")


class Logged:
    """The lines of a hub's log."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def refused(self) -> list[dict[str, Any]]:
        lines = map(json.loads, self.stream.getvalue().splitlines())
        return [line for line in lines if line["event"] == "refused"]


@pytest.fixture
def logged() -> Logged:
    return Logged()


@pytest.fixture
async def hub(logged: Logged) -> AsyncIterator[Hub]:
    settings = Settings(port=0, drain_seconds=0, token_keys=(SIGNING,), log_format="json")
    async with Hub(settings, log=make_logger(settings, logged.stream)) as hub:
        yield hub


@pytest.mark.parametrize("kind", PEERS.values(), ids=PEERS)
async def test_a_token_that_a_session_sends_and_that_does_not_hold_is_in_the_log(
    hub: Hub, logged: Logged, kind: type[Peer]
) -> None:
    """With its address and what is wrong with it, and never the token itself."""
    wrong = token(3600, key="another-signing-key-of-32-bytes-or-so")
    others = token(3600, subject="bob")
    async with kind(hub.url, Query("prices", token=token(3600)), {}) as peer:
        for sent in (wrong, others):
            assert "error" in await peer.command(op="authenticate", channel="", token=sent)
    first, second = logged.refused()
    assert (first["code"], first["address"]) == ("unauthorized", "127.0.0.1")
    assert first["reason"] == "token signature matches no key"
    assert (second["code"], second["reason"]) == (
        "forbidden",
        "the token belongs to another subject",
    )
    assert not any(part in logged.stream.getvalue() for part in wrong.split("."))


async def test_a_hub_whose_channels_everybody_may_read_says_so_at_its_start(
    logged: Logged,
) -> None:
    """Also where it is embedded: keys for publishers keep nobody from reading."""
    settings = Settings(
        host="0.0.0.0",
        port=0,
        drain_seconds=0,
        publish_keys=("k" * 32,),
        log_format="json",
        anonymous="subscribe",
    )
    async with Hub(settings, log=make_logger(settings, logged.stream)):
        said = [json.loads(line) for line in logged.stream.getvalue().splitlines()]
    (warning,) = [line for line in said if line["event"] == "setting"]
    assert warning["level"] == "warning"
    assert "everybody who can reach this node may read every channel" in warning["message"]


SECRET = "s3cr3t-of-somebody"
WRONG: dict[str, tuple[str, str, dict[str, str]]] = {
    "key": ("POST", "/api/publish/prices", {"X-API-Key": SECRET}),
    "bearer": ("GET", "/api/channels", {"Authorization": f"Bearer {SECRET}"}),
    "basic": (
        "GET",
        "/api/nodes",
        {"Authorization": f"Basic {base64.b64encode(f'ann:{SECRET}'.encode()).decode()}"},
    ),
    "token in a header": ("GET", "/sse?channel=prices", {"Authorization": f"Bearer {SECRET}"}),
    "token in the URL": ("GET", f"/sse?channel=prices&token={SECRET}", {}),
    "token of a poll": ("GET", f"/poll?channel=prices&token={SECRET}", {}),
}


@pytest.mark.parametrize("name", sorted(WRONG))
async def test_a_credential_that_does_not_hold_is_in_the_log(
    hub: Hub, logged: Logged, name: str
) -> None:
    method, path, headers = WRONG[name]
    async with http_client(base_url=hub.url) as client:
        body = b"1" if method == "POST" else None
        answer = await client.request(method, path, headers=headers, content=body)
        assert answer.status_code in {401, 403}
    (line,) = logged.refused()
    assert line["address"] == "127.0.0.1"
    assert line["reason"]
    assert SECRET not in logged.stream.getvalue()
    assert base64.b64encode(f"ann:{SECRET}".encode()).decode() not in logged.stream.getvalue()


async def test_a_token_that_does_not_hold_for_a_websocket_is_in_the_log(
    hub: Hub, logged: Logged
) -> None:
    """The handshake succeeds, because a browser could not read why it does not."""
    async with raw_connection(hub.url) as peer:
        assert (await peer.upgrade(f"/ws?channel=prices&token={SECRET}")).status == 101
        assert (await peer.push("goodbye"))["code"] == 4401
    (line,) = logged.refused()
    assert (line["code"], line["address"]) == ("unauthorized", "127.0.0.1")
    assert SECRET not in logged.stream.getvalue()


@pytest.mark.parametrize("path", ["/ws", "/sse?channel=a", "/poll?channel=a", "/api/channels"])
async def test_an_origin_that_may_not_is_in_the_log_with_the_host(
    hub: Hub, logged: Logged, path: str
) -> None:
    """The line has both names, so that an operator sees which of them is wrong."""
    origin = "https://app.example:8443"
    headers = {"Origin": origin, "Host": "app.example"}
    if path == "/ws":
        headers |= {"Connection": "Upgrade", "Upgrade": "websocket"}
        headers |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    async with http_client(base_url=hub.url) as client:
        assert (await client.get(path, headers=headers)).status_code == 403
    (line,) = logged.refused()
    assert (line["code"], line["origin"], line["host"]) == ("forbidden", origin, "app.example")
    assert "proxy_set_header Host $http_host" in line["reason"]


async def test_a_long_origin_with_a_password_is_cut_and_shows_none(
    hub: Hub, logged: Logged
) -> None:
    origin = f"https://ann:{SECRET}@{'a' * 5000}.example"
    async with http_client(base_url=hub.url) as client:
        assert (await client.get("/api/channels", headers={"Origin": origin})).status_code == 403
    (line,) = logged.refused()
    assert len(str(line)) < 1000
    assert SECRET not in logged.stream.getvalue()


async def test_a_host_that_may_not_be_named_is_in_the_log(logged: Logged) -> None:
    settings = Settings(port=0, drain_seconds=0, log_format="json")
    async with (
        Hub(settings, log=make_logger(settings, logged.stream)) as hub,
        http_client(base_url=hub.url) as client,
    ):
        for path in ("/", "/readyz", "/api/channels", "/sse?channel=a"):
            answer = await client.get(path, headers={"Host": "evil.example"})
            assert (answer.status_code, answer.json()["code"]) == (421, "misdirected_request")
    lines = logged.refused()
    assert {line["code"] for line in lines} == {"misdirected_request"}
    assert {line["host"] for line in lines} == {"evil.example"}
    assert len(lines) == 4


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_page_of_elsewhere_opens_no_session_and_may_lead_to_public_pages(
    logged: Logged, site: str
) -> None:
    """Such as with an image; links to what anybody may load go on working."""
    settings = Settings(port=0, drain_seconds=0, log_format="json")
    async with (
        Hub(settings, log=make_logger(settings, logged.stream)) as hub,
        http_client(base_url=hub.url, headers={"Sec-Fetch-Site": site}) as client,
    ):
        for path in ("/sse?channel=a", "/poll?channel=a&wait=0", "/poll?session=true"):
            assert (await client.get(path)).status_code == 403
        for path in ("/", "/dashboard", "/client.js", "/readyz", "/api/openapi.json"):
            assert (await client.get(path)).status_code == 200
        assert not hub.node.counters.opened
