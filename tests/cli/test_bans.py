"""`hub ban`, `hub unban` and `hub revoke` against a real hub."""

import json
import time

import jwt

from tests.cli.operating import TOKEN_KEY, OperatedHub, environment, run
from tests.transports.peers import Query, WebSocketPeer


def token(sub: str, **claims: object) -> str:
    payload: dict[str, object] = {
        "sub": sub,
        "exp": time.time() + 600,
        "hub": {"subscribe": ["*"]},
    }
    return jwt.encode(payload | claims, TOKEN_KEY, algorithm="HS256")


async def goodbye(peer: WebSocketPeer) -> tuple[int, str]:
    while (push := await peer.push())["op"] != "goodbye":
        pass
    return push["code"], push["reason"]


async def test_a_subject_is_banned_and_let_in_again(channel: str) -> None:
    """Its connections end at once; a second `unban` says that nobody was banned."""
    with OperatedHub(HUB_TOKEN_KEYS=TOKEN_KEY) as hub:
        variables = environment(hub.url)
        async with WebSocketPeer(hub.url, Query(channel, token=token("ann")), {}) as peer:
            done = await run("ban", "ann", "--for", "15m", "--reason", "spam", **variables)
            assert await goodbye(peer) == (4403, "spam")
        assert (done.code, done.out) == (0, "")
        assert done.err.startswith("hub: ann is banned until ")
        shown = await run("ban", "ann", "--json", **variables)
        assert json.loads(shown.out)["sub"] == "ann"
        lifted = await run("unban", "ann", **variables)
        assert (lifted.code, lifted.err) == (0, "hub: ann may come in again\n")
        again = await run("unban", "ann", **variables)
        assert (again.code, "not_found" in again.err) == (1, True)
        async with WebSocketPeer(hub.url, Query(channel, token=token("ann")), {}):
            pass
        async with WebSocketPeer(hub.url, Query(channel, token=token("bob", jti="7")), {}) as peer:
            revoked = await run("revoke", "--jti", "7", **variables)
            assert await goodbye(peer) == (4401, "the token has been revoked")
        assert (revoked.code, revoked.err) == (0, "hub: revoked\n")


async def test_a_wrong_call_ends_with_2() -> None:
    for arguments in (
        ("ban",),
        ("ban", "ann", "--for", "never"),
        ("ban", "ann", "--for", "soon"),
        ("revoke",),
        ("revoke", "--sub", "ann"),
        ("revoke", "--jti", "7", "--sub", "ann", "--issued-before", "1"),
    ):
        assert (await run(*arguments, HUB_URL="http://127.0.0.1:9")).code == 2, arguments
