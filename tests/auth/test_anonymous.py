"""Who may read without credentials: by default nobody where others can connect and a key is set."""

from typing import Any

import httpx2 as httpx
import jwt
import pytest

from hub import Hub, Settings
from hub.auth.credentials import Credentials
from hub.errors import SettingsError, UnauthorizedError
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
def test_reading_without_credentials(
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
