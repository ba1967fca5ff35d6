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
        ("disconnect",),
        ("disconnect", "c1", "--subject", "ann"),
        ("unsubscribe", "c1"),
        ("unsubscribe", "--subject", "ann", "c1", "news"),
        ("ban", "ann", "--for", "never"),
        ("ban", "ann", "--for", "soon"),
        ("revoke",),
        ("revoke", "--sub", "ann"),
        ("revoke", "--jti", "7", "--sub", "ann", "--issued-before", "1"),
    ):
        assert (await run(*arguments, HUB_URL="http://127.0.0.1:9")).code == 2, arguments


async def test_a_ban_without_an_end_is_refused_with_what_is_allowed() -> None:
    refused = await run("ban", "ann", "--for", "never", HUB_URL="http://127.0.0.1:9")
    assert refused.err == "hub: --for is 'never': allowed are such as 90s, 15m, 1h, 30d\n"


async def test_all_connections_of_a_subject_are_closed_or_leave_a_channel(channel: str) -> None:
    with OperatedHub(HUB_TOKEN_KEYS=TOKEN_KEY) as hub:
        variables = environment(hub.url)
        asked = Query(channel, token=token("ann"))
        async with (
            WebSocketPeer(hub.url, asked, {}) as one,
            WebSocketPeer(hub.url, asked, {}) as two,
            WebSocketPeer(hub.url, Query(channel, token=token("bob")), {}) as bob,
        ):
            left = await run("unsubscribe", "--subject", "ann", channel, **variables)
            assert (left.code, left.err) == (0, f"hub: ann no longer gets {channel}\n")
            for peer in (one, two):
                while (push := await peer.push())["op"] != "unsubscribed":
                    pass
                assert push["channel"] == channel
            gone = await run("disconnect", "--subject", "ann", "--json", **variables)
            assert (gone.code, json.loads(gone.out)) == (0, {"sub": "ann"})
            assert [(await goodbye(peer))[0] for peer in (one, two)] == [4403, 4403]
            assert "ok" in await bob.command(op="ping")


async def test_bans_and_revocations_in_force_are_listed() -> None:
    with OperatedHub(HUB_TOKEN_KEYS=TOKEN_KEY) as hub:
        variables = environment(hub.url)
        assert (await run("ban", "ann", "--for", "2h", "--reason", "spam", **variables)).code == 0
        assert (await run("revoke", "--jti", "7", **variables)).code == 0
        listed = await run("bans", **variables)
        as_json = json.loads((await run("bans", "--json", **variables)).out)
    (ban,) = [line for line in listed.out.splitlines() if "ann" in line]
    assert "spam" in ban
    assert "1h59m" in ban
    assert {row["kind"] for row in as_json["bans"]} == {"ban", "token"}
