"""Tokens of a provider that is not the project's own: an OpenID Connect provider from PyPI.

It runs as a process of its own. Started again it has another key, as after a rotation. Its tokens
name no key (`kid`), so a new key is learnt with the next reading of the set.
"""

import importlib.util
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from urllib.parse import parse_qs, urlsplit

import httpx2 as httpx
import pytest

from hub import Hub, Settings
from tests.support.waiting import eventually, eventually_blocking
from tests.transports.peers import Query, WebSocketPeer, http_client

needs_provider = pytest.mark.skipif(
    importlib.util.find_spec("oidc_provider_mock") is None,
    reason="oidc-provider-mock is not installed",
)
CLIENT, SECRET, BACK = "shop", "secret", "http://localhost/back"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def provider(port: int) -> Iterator[str]:
    """The issuer of a provider that runs at the port, with a key that it has just made."""
    issuer = f"http://127.0.0.1:{port}"
    program = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)]
    running = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        assert running.poll() is None, "the provider has ended"
        try:
            return httpx.get(f"{issuer}/jwks").status_code == 200
        except httpx.TransportError:
            return False

    try:
        eventually_blocking(answers, what="the provider's readiness")
        yield issuer
    finally:
        running.kill()
        running.wait(10)


def sign_in(issuer: str, subject: str) -> str:
    """The ID token of a user who signs in, as a browser and its application do it."""
    found = httpx.get(f"{issuer}/.well-known/openid-configuration").json()
    asked = {"client_id": CLIENT, "redirect_uri": BACK, "response_type": "code", "scope": "openid"}
    answer = httpx.post(found["authorization_endpoint"], params=asked, data={"sub": subject})
    (code,) = parse_qs(urlsplit(answer.headers["location"]).query)["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK}
    tokens = httpx.post(found["token_endpoint"], data=form, auth=(CLIENT, SECRET)).json()
    return str(tokens["id_token"])


@needs_provider
async def test_a_user_of_a_foreign_provider_comes_in_and_its_old_key_does_not_outlive_a_rotation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hub.auth.provider.REFRESH_SECONDS", 0.2)
    monkeypatch.setattr("hub.auth.provider._LAST_RETRY_SECONDS", 0.2)
    port = free_port()
    async with AsyncExitStack() as stack:
        with provider(port) as issuer:
            old = sign_in(issuer, "ann")
            told = Settings(
                port=0,
                drain_seconds=0,
                token_jwks_url=f"{issuer}/jwks",
                token_issuer=issuer,
                token_audience=CLIENT,
                token_default_grants='{"subscribe":["news"]}',
            )
            hub = await stack.enter_async_context(Hub(told))
            async with WebSocketPeer(hub.url, Query("news", token=old), {}) as peer:
                await hub.publish("news", 1)
                assert await peer.data(1) == [1]
        async with http_client(base_url=hub.url) as http:

            async def status(token: str) -> int:
                answer = await http.get(f"/poll?channel=news&wait=0&token={token}")
                return answer.status_code

            assert await status(old) == 200
            with provider(port) as issuer:
                new = sign_in(issuer, "ann")

                async def new_key_holds() -> bool:
                    return await status(new) == 200

                await eventually(new_key_holds)
                assert await status(old) == 401
