"""Without credentials nobody may read if others can connect and a key is set."""

import asyncio
import json
from typing import Any

import httpx2 as httpx
import jwt
import pytest

from hub import Hub, Settings
from hub.auth.credentials import NO_CREDENTIALS, NO_CREDENTIALS_OUTSIDE, Credentials
from hub.errors import HubError, SettingsError, UnauthorizedError
from hub.node.access import policy_of
from tests.support.raw_connection import raw_connection
from tests.transports.peers import PEERS, Peer, Query, http_client

PUBLISH, OPERATE, TOKEN = "p" * 32, "o" * 32, "t" * 32
P: dict[str, Any] = {"publish_keys": PUBLISH}
O: dict[str, Any] = {"operator_keys": OPERATE}  # noqa: E741 - as in the tables of the settings
T: dict[str, Any] = {"token_keys": TOKEN}


@pytest.mark.parametrize(
    ("host", "keys", "anonymous", "may_read"),
    [
        ("127.0.0.1", {}, "auto", True),
        ("127.0.0.1", P, "auto", True),
        ("127.0.0.1", O, "auto", True),
        ("127.0.0.1", T, "auto", False),
        ("0.0.0.0", P, "auto", False),
        ("0.0.0.0", O, "auto", False),
        ("0.0.0.0", T, "auto", False),
        ("0.0.0.0", {"insecure": True}, "auto", True),
        ("0.0.0.0", P | {"insecure": True}, "auto", False),
        ("0.0.0.0", P, "subscribe", True),
        ("0.0.0.0", T, "subscribe", True),
        ("127.0.0.1", T, "subscribe", True),
        ("127.0.0.1", P, "none", False),
        ("0.0.0.0", P | T, "none", False),
    ],
)
def test_strangers_read_where_the_settings_allow_it(
    host: str, keys: dict[str, Any], anonymous: str, may_read: bool
) -> None:
    """Publishing and operating never follow from it."""
    policy = policy_of(Settings(host=host, anonymous=anonymous, **keys))
    if may_read:
        assert policy.identify(Credentials()).may_subscribe("news")
    else:
        with pytest.raises(UnauthorizedError, match=r"a (key|token) is needed"):
            policy.identify(Credentials())
    if keys.keys() - {"insecure"}:
        with pytest.raises(UnauthorizedError):
            policy.identify_publisher(Credentials())


def test_a_key_or_a_token_reads_where_strangers_may_not() -> None:
    policy = policy_of(Settings(host="0.0.0.0", **P, **O, **T))
    for key in (PUBLISH, OPERATE):
        assert policy.identify(Credentials(api_key=key)).may_subscribe("news")
    token = jwt.encode({"hub": {"subscribe": ["news"]}}, TOKEN, algorithm="HS256")
    assert policy.identify(Credentials(token=token)).may_subscribe("news")


def test_without_any_key_none_would_shut_everybody_out() -> None:
    with pytest.raises(SettingsError, match=r"anonymous is 'none': .*nobody could do anything"):
        Settings(anonymous="none")


@pytest.mark.parametrize("kind", PEERS.values(), ids=PEERS)
async def test_every_door_is_closed_off_loopback(kind: type[Peer]) -> None:
    """401, or 4401 where a browser can read no status; and open to a key."""
    settings = Settings(host="0.0.0.0", port=0, drain_seconds=0, **P)
    async with Hub(settings) as hub:
        url = hub.url.replace("0.0.0.0", "127.0.0.1")
        async with http_client(base_url=url) as http:
            answers: list[httpx.Response] = [
                await http.get(path)
                for path in (
                    "/sse?channel=news",
                    "/poll?channel=news&wait=0",
                    "/api/channels",
                    "/api/channels/news/history",
                    "/api/channels/news/presence",
                )
            ]
            assert {answer.status_code for answer in answers} == {401}
            assert (await http.get("/healthz")).status_code == 200
        async with raw_connection(url) as peer:
            assert (await peer.upgrade("/ws?channel=news")).status == 101
            assert (await peer.push("goodbye"))["code"] == 4401
        async with kind(url, Query("news"), {"Authorization": f"Bearer {PUBLISH}"}) as peer:
            await hub.publish("news", 1)
            assert await peer.data(1) == [1]


# -- behind a foreign server, which listens where it likes -----------------------------------------


@pytest.mark.parametrize(
    ("given", "may_here", "may_outside"),
    [
        ({}, True, False),
        ({"insecure": True}, True, True),
        (P, True, False),
        (O, True, False),
        (P | {"insecure": True}, True, False),
        (P | {"anonymous": "subscribe"}, True, True),
        (T | {"anonymous": "subscribe"}, True, True),
        (T, False, False),
    ],
)
def test_a_peer_of_another_machine_may_no_more_than_where_the_hub_itself_listens_for_it(
    given: dict[str, Any], may_here: bool, may_outside: bool
) -> None:
    """Publishing and operating without a key are for this machine alone as well."""
    policy = policy_of(Settings(**given))
    open_to = {NO_CREDENTIALS: may_here, NO_CREDENTIALS_OUTSIDE: may_outside}
    for credentials, may_read in open_to.items():
        if may_read:
            assert policy.identify(credentials).may_subscribe("news")
        else:
            with pytest.raises(UnauthorizedError, match=r"needed|only this machine may connect"):
                policy.identify(credentials)
        may_do_all = may_read and not given.keys() - {"insecure"}
        for judge in (policy.identify_publisher, policy.check_operator):
            if may_do_all:
                assert judge(credentials).operator
            else:
                with pytest.raises(HubError):
                    judge(credentials)


ELSEWHERE = ("203.0.113.9", 40_000)


@pytest.mark.parametrize("given", [{}, P, O], ids=["none", "publish", "operator"])
@pytest.mark.parametrize(
    ("client", "server", "may"),
    [
        (("127.0.0.1", 4), ("127.0.0.1", 80), True),
        (("::1", 4), ("::1", 80), True),
        (("::ffff:127.0.0.1", 4), ("::ffff:127.0.0.1", 80), True),
        # A UNIX socket, and a test's own client.
        (None, ("/run/app.sock", None), True),
        (("testclient", 50_000), ("testserver", 80), True),
        (ELSEWHERE, ("203.0.113.1", 80), False),
        (("2001:db8::1", 4), ("2001:db8::2", 80), False),
        (("::ffff:203.0.113.9", 4), None, False),
        # What a server has from its proxy's header, and one on this machine that asks by the
        # address of the network.
        (ELSEWHERE, ("127.0.0.1", 80), False),
        (("127.0.0.1", 4), ("203.0.113.1", 80), False),
    ],
)
async def test_every_door_of_a_mounted_hub_is_closed_to_other_machines(
    given: dict[str, Any],
    client: tuple[str, int] | None,
    server: tuple[str, int | None] | None,
    may: bool,
) -> None:
    async with Hub(Settings(drain_seconds=0, **given), listen=False) as hub:
        for path in ("/poll?channel=a&wait=0", "/api/channels", "/api/channels/a/history"):
            sent = await asked(hub, "http", path, client, server)
            assert (sent[0]["status"] == 401) is not may, path
        for kind, path in (("http", "/sse?channel=a"), ("websocket", "/ws?channel=a")):
            sent = await asked(hub, kind, path, client, server)
            said = sent[0].get("status") or json.loads(sent[1]["text"])
            if may:
                assert said == 200 or said["op"] == "welcome", path
            else:
                assert said == 401 or said["code"] == 4401, path
        if not given:
            sent = await asked(hub, "http", "/api/publish/a", client, server, method="POST")
            assert (sent[0]["status"] == 401) is not may
        sent = await asked(hub, "http", "/healthz", client, server)
        assert sent[0]["status"] == 200


async def test_a_peer_of_a_mounted_hub_has_one_address_whatever_family_its_socket_has() -> None:
    """A trusted IPv4 proxy is trusted also where the server's socket shows its
    address as mapped to IPv6."""
    settings = Settings(drain_seconds=0, trusted_proxies="10.0.0.0/8", **P)
    async with Hub(settings, listen=False) as hub:
        for client, told, address in (
            ("::ffff:192.0.2.1", "", "192.0.2.1"),
            ("::ffff:10.0.0.7", "203.0.113.9", "203.0.113.9"),
            ("10.0.0.7", "203.0.113.10", "203.0.113.10"),
            ("2001:db8::1", "203.0.113.11", "2001:db8::/64"),
        ):
            sent = await asked(hub, "http", "/api/nodes", (client, 4), None, told=told)
            assert sent[0]["status"] == 403
            rows = hub.node.refusals.table.refusals()
            assert address in {row.address for row in rows}, client


async def asked(
    hub: Hub,
    kind: str,
    path: str,
    client: tuple[str, int] | None,
    server: tuple[str, int | None] | None,
    *,
    method: str = "GET",
    told: str = "",
) -> list[dict[str, Any]]:
    """Returns the first two messages or more that a mounted hub sends in answer to a request."""
    name, _, query = path.partition("?")
    scope: dict[str, Any] = {
        "type": kind, "method": method, "path": name, "raw_path": name.encode(),
        "query_string": query.encode(), "headers": [(b"host", b"localhost")], "root_path": "",
        "http_version": "1.1", "client": client, "server": server, "extensions": {},
    }  # fmt: skip
    if told:
        scope["headers"].append((b"x-forwarded-for", told.encode()))
    sent: list[dict[str, Any]] = []
    enough = asyncio.Event()
    came = iter(
        [{"type": f"{kind}.{'connect' if kind == 'websocket' else 'request'}", "body": b"1"}]
    )

    async def receive() -> dict[str, Any]:
        if (message := next(came, None)) is not None:
            return message
        await enough.wait()
        return {"type": f"{kind}.disconnect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))
        if len(sent) > 1:
            enough.set()

    async with asyncio.timeout(30):
        await hub.asgi()(scope, receive, send)
    return sent
