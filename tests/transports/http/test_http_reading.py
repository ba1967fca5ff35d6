"""Reading, operating, polling and commands over HTTP."""

from pathlib import Path
from urllib.parse import unquote

import pytest

from hub.admin.connections import Disconnect
from hub.admin.requests import AtConnection
from hub.auth.policy import Policy
from hub.core.options import Overflow
from hub.core.publication import Position
from hub.core.pushes import GapReason
from hub.core.reading import LookBack
from hub.errors import HubError
from hub.transports.http.ports import HttpLimits
from tests.transports.http.fakes import OPERATOR, PUBLISHER, Hub, make_hub, session_record

SECRET = "0123456789abcdef0123456789abcdef"


def token(**grants: list[str]) -> str:
    jwt = pytest.importorskip("jwt")
    claims = {"sub": "ann", "exp": 9_999_999_999, "hub": grants}
    return str(jwt.encode(claims, SECRET, algorithm="HS256"))


async def test_channels_come_in_pages_by_name(hub: Hub) -> None:
    """`next` is the `after` of the following page, null on the last."""
    hub.node.known = ["chat:2", "prices", "chat:1", "chat:3"]
    async with hub.client() as client:
        first = (await client.get("/api/channels?prefix=chat:&limit=2")).json()
        second = (await client.get(f"/api/channels?prefix=chat:&after={first['next']}")).json()
    assert [row["channel"] for row in first["channels"]] == ["chat:1", "chat:2"]
    assert (first["total"], first["next"]) == (3, "chat:2")
    assert [row["channel"] for row in second["channels"]] == ["chat:3"]
    assert second["next"] is None
    assert first["channels"][0] == {
        "channel": "chat:1", "position": "e1:2", "subscribers": 1, "history": 2, "presence": False,
        "publications_per_second": None, "watchers": 0, "keyed": False, "rows": None,
        "row_bytes": None,
    }  # fmt: skip


async def test_an_operator_sorts_channels_by_any_column(hub: Hub) -> None:
    """Of all nodes; the next page begins where this one ended, in any order."""
    hub.node.known = ["b", "c", "a"]
    async with hub.client(**OPERATOR) as client:
        first = (await client.get("/api/channels?sort=-subscribers&limit=2")).json()
        second = (
            await client.get(f"/api/channels?sort=-subscribers&limit=2&after={first['next']}")
        ).json()
        by_name = (await client.get("/api/channels?limit=2")).json()
        last = (await client.get("/api/channels?limit=2&after=b")).json()
        wrong = await client.get("/api/channels?sort=colour")
        nowhere = await client.get("/api/channels?sort=offset&after=b")
    assert [row["channel"] for row in first["channels"]] == ["c", "b"]
    assert [row["channel"] for row in second["channels"]] == ["a"]
    assert (first["total"], first["complete"], second["next"]) == (3, True, None)
    assert by_name["next"] == "b"
    assert [row["channel"] for row in last["channels"]] == ["c"]
    assert (wrong.status_code, nowhere.status_code) == (400, 400)
    asked = hub.node.channel_queries[1]
    assert (asked.sort, asked.skip, asked.after) == ("subscribers", 2, None)


async def test_an_operators_ticket_is_asked_for_with_the_key(hub: Hub) -> None:
    """A ticket goes into URLs, where the key must not be."""
    async with hub.client() as client:
        assert (await client.post("/api/ticket")).status_code == 401
        assert (await client.post("/api/ticket", headers=PUBLISHER)).status_code == 403
        told = (await client.post("/api/ticket", headers=OPERATOR)).json()
    assert told["ticket"].count(".") == 2


@pytest.mark.parametrize(
    "limit", ["0", "1001", "-1", "x", "NaN", "1_0", "-0", "%2B5", "1e1", "5.0", "%D9%A3", "9" * 30]
)
async def test_a_limit_outside_1_to_1000_is_refused(hub: Hub, limit: str) -> None:
    """Rather than silently changed; the range is told as it is."""
    async with hub.client() as client:
        answer = await client.get(f"/api/channels?limit={limit}")
    assert answer.status_code == 400
    assert answer.json()["detail"] == f"limit is {unquote(limit)!r}, allowed is 1 to 1,000"


async def test_a_token_reads_only_what_it_may_subscribe_to(files: Path) -> None:
    """The list leaves other channels out; their history and presence are forbidden."""
    hub = make_hub(files, policy=Policy(token_keys=[SECRET]))
    hub.node.known = ["chat:1", "prices"]
    async with hub.client() as client:
        stranger = await client.get("/api/channels")
        client.headers["Authorization"] = f"Bearer {token(subscribe=['chat:*'])}"
        listed = (await client.get("/api/channels")).json()
        ends = ("", "/history", "/presence")
        mine = [await client.get(f"/api/channels/chat:1{end}") for end in ends]
        others = [await client.get(f"/api/channels/prices{end}") for end in ends]
    assert stranger.status_code == 401
    assert [row["channel"] for row in listed["channels"]] == ["chat:1"]
    assert [answer.status_code for answer in mine] == [200, 200, 200]
    assert [answer.status_code for answer in others] == [403, 403, 403]


async def test_an_unknown_channel_is_not_found(hub: Hub) -> None:
    """A name that no channel can have is a bad request."""
    async with hub.client() as client:
        assert (await client.get("/api/channels/none")).status_code == 404
        assert (await client.get("/api/channels/a%21")).status_code == 400


async def test_history_keeps_bytes_and_says_what_is_missing(hub: Hub) -> None:
    """Offset 1 is no longer held, so only a since of 1 or later is complete."""
    async with hub.client() as client:
        answer = await client.get("/api/channels/a/history?since=e1:1&limit=7")
        older = (await client.get("/api/channels/a/history?since=e1:0")).json()
        other = (await client.get("/api/channels/a/history?since=e0:2")).json()
        future = (await client.get("/api/channels/a/history?since=e1:9")).json()
        everything = (await client.get("/api/channels/a/history")).json()
    assert b'"data":12345678901234567890123' in answer.content
    assert b'"data":1.0' in answer.content
    page = answer.json()
    assert [row["offset"] for row in page["publications"]] == [2, 3]
    assert (page["publications"][0]["key"], page["publications"][0]["from"]) == ("k", "ann")
    assert (page["epoch"], page["position"], page["oldest"]) == ("e1", "e1:3", 2)
    assert (page["complete"], page["next"]) == (True, None)
    assert not any(each["complete"] for each in (older, other, future, everything))
    assert hub.node.asked[:2] == [
        ("a", Position("e1", 1), 7), ("a", Position("e1", 0), 100),
    ]  # fmt: skip


async def test_a_malformed_since_is_refused(hub: Hub) -> None:
    """The node is not asked."""
    async with hub.client() as client:
        answer = await client.get("/api/channels/a/history?since=a=e1:1")
    assert answer.status_code == 400
    assert hub.node.asked == []


async def test_presence_lists_members_where_it_is_on(hub: Hub) -> None:
    """Elsewhere it is a bad request."""
    async with hub.client() as client:
        members = (await client.get("/api/channels/chat:1/presence")).json()["members"]
        off = await client.get("/api/channels/prices/presence")
    assert members == [
        {"id": "ann", "connection": "c1", "sub": "ann"}, {"id": "c2", "connection": "c2"},
    ]  # fmt: skip
    assert off.status_code == 400


async def test_members_are_counted_without_a_list(hub: Hub) -> None:
    async with hub.client() as client:
        counted = await client.get("/api/channels/chat:1/presence?count=true")
        listed = await client.get("/api/channels/chat:1/presence?count=false")
        wrong = await client.get("/api/channels/chat:1/presence?count=maybe")
    assert counted.json() == {"channel": "chat:1", "count": 2}
    assert len(listed.json()["members"]) == 2
    assert wrong.status_code == 400


@pytest.mark.parametrize(
    "path", ["/api/connections", "/api/connections/c1", "/api/nodes", "/api/stats"]
)
async def test_operating_needs_an_operators_key(hub: Hub, path: str) -> None:
    """Nothing: 401. A publisher's key: 403."""
    hub.admin.sessions["c1"] = session_record("c1")
    async with hub.client() as client:
        assert (await client.get(path)).status_code == 401
        assert (await client.get(path, headers=PUBLISHER)).status_code == 403
        assert (await client.get(path, headers=OPERATOR)).status_code == 200


async def test_a_connection_is_shown(hub: Hub) -> None:
    hub.admin.sessions = {"c2": session_record("c2", "a", "b")}
    async with hub.client(**OPERATOR) as client:
        one = (await client.get("/api/connections/c2")).json()
        missing = await client.get("/api/connections/c9")
    assert [each["channel"] for each in one["subscriptions"]] == ["a", "b"]
    assert one["node"] == "n1"
    assert missing.status_code == 404


async def test_deleting_a_connection_closes_it_for_good(hub: Hub) -> None:
    """4403: the client does not come back by itself."""
    hub.admin.sessions["c1"] = session_record("c1")
    async with hub.client(**OPERATOR) as client:
        closed = await client.delete("/api/connections/c1")
        missing = await client.delete("/api/connections/c9")
        refused = await client.delete("/api/connections/c1", headers=PUBLISHER)
    assert (closed.status_code, closed.content) == (204, b"")
    assert (missing.status_code, refused.status_code) == (404, 403)
    assert hub.admin.asked == [
        (Disconnect(name, 4403, "disconnected by operator"), AtConnection(name))
        for name in ("c1", "c9")
    ]


async def test_stats_are_the_nodes_state_and_its_counters(hub: Hub) -> None:
    """Without the histograms, which only Prometheus can use."""
    hub.counters.gaps[GapReason.SLOW] = 4
    hub.counters.dropped[Overflow.DROP_OLDEST] = 9
    async with hub.client(**OPERATOR) as client:
        stats = (await client.get("/api/stats")).json()
        nodes = (await client.get("/api/nodes")).json()["nodes"]
    assert stats["node"] == nodes[0]
    assert nodes[0]["uptime_seconds"] == 2.5
    assert stats["counted"]["gaps"] == {"slow": 4}
    assert stats["counted"]["dropped"] == {"drop_oldest": 9}
    assert "publish_to_write" not in stats["counted"]


async def test_a_node_that_does_not_know_the_others_lists_what_it_last_knew(hub: Hub) -> None:
    """The answer says that it is not complete, and the node answers for itself."""
    hub.admin.away = True
    async with hub.client(**OPERATOR) as client:
        told = (await client.get("/api/nodes")).raise_for_status().json()
    assert [each["node"] for each in told["nodes"]] == ["n1", "n2"]
    assert (told["node"], told["complete"]) == ("n1", False)
    assert told["unknown"] == "the other nodes are not known now"


async def test_a_command_carries_the_sessions_secret(hub: Hub) -> None:
    """The reply comes back as the node encoded it."""
    path = "/command?connection=c1"
    async with hub.client() as client:
        good = await client.post(path, content=b"{}", headers={"Authorization": "Bearer s1"})
        wrong = await client.post(path, content=b"{}", headers={"Authorization": "Bearer s2"})
        none = await client.post(path, content=b"{}")
        nobody = await client.post(
            "/command?connection=c9", content=b"{}", headers={"Authorization": "Bearer s1"}
        )
        nameless = await client.post("/command", content=b"{}")
    assert (good.status_code, good.json()) == (200, {"op": "reply", "id": 1, "ok": {}})
    assert [a.status_code for a in (wrong, none, nobody, nameless)] == [401, 401, 404, 400]


async def test_a_poll_is_checked_and_handed_on(hub: Hub) -> None:
    """The poll has the peer's identity and address."""
    query = "channel=a&channel=b&since=a=e:5&last=2&wait=1.5&fill=true"
    async with hub.client(**{"User-Agent": "probe"}) as client:
        answer = await client.get(f"/poll?{query}")
        await client.get("/poll?channel=a", headers={"Last-Event-ID": "e:7"})
    assert answer.json() == {"pushes": [], "positions": {}}
    first, second = hub.polls
    assert (first.channels, first.since, first.last) == (("a", "b"), {"a": Position("e", 5)}, 2)
    assert (first.wait_seconds, first.fill, first.connection) == (1.5, True, None)
    assert (first.user_agent, first.address) == ("probe", "127.0.0.1")
    assert (second.since, second.wait_seconds) == ({"a": Position("e", 7)}, 25)


async def test_a_poll_that_goes_on_carries_the_secret_and_no_grants(hub: Hub) -> None:
    """The session has its own; the secret in `Authorization` is not taken for a key."""
    async with hub.client(Authorization="Bearer s1") as client:
        answer = await client.get("/poll?connection=c1")
    assert answer.status_code == 200
    (poll,) = hub.polls
    assert (poll.connection, poll.secret, poll.identity.subscribe) == ("c1", "s1", ())


async def test_a_poll_checks_grants(files: Path) -> None:
    """A token in the URL will do, where no header can be set."""
    hub = make_hub(files, policy=Policy(token_keys=[SECRET]))
    mine = token(subscribe=["chat:*"])
    async with hub.client() as client:
        none = await client.get("/poll?channel=chat:1")
        good = await client.get(f"/poll?channel=chat:1&token={mine}")
        other = await client.get(f"/poll?channel=prices&token={mine}")
    assert [answer.status_code for answer in (none, good, other)] == [401, 200, 403]
    assert [poll.identity.subject for poll in hub.polls] == ["ann"]


@pytest.mark.parametrize(
    "query", ["", "channel=a&wait=56", "channel=a&wait=x", "channel=a&since=b=e:1", "channel=%ff"]
)
async def test_a_poll_that_cannot_be_meant_is_refused(hub: Hub, query: str) -> None:
    """Before anything waits."""
    async with hub.client() as client:
        assert (await client.get(f"/poll?{query}")).status_code == 400
    assert hub.polls == []


async def test_a_poll_of_too_many_channels_is_refused(files: Path) -> None:
    """32 at most, as PROTOCOL.md says."""
    hub = make_hub(files, limits=HttpLimits(max_poll_channels=1))
    async with hub.client() as client:
        answer = await client.get("/poll?channel=a&channel=b")
    assert (answer.status_code, answer.json()["code"]) == (400, "too_many_subscriptions")


async def test_a_hub_error_without_a_table_entry_is_a_500(hub: Hub) -> None:
    """An error class that is new tells the peer no more than that."""

    class StrangeError(HubError):
        code = "strange"

    hub.node.fails["a"] = StrangeError("odd")
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish/a", content=b"1")
    assert (answer.status_code, answer.json()["code"]) == (500, "strange")


async def test_presence_comes_in_pages_that_go_on(hub: Hub) -> None:
    """`next` is there until all have been told."""
    async with hub.client() as client:
        first = (await client.get("/api/channels/chat:1/presence?limit=1")).json()
        path = f"/api/channels/chat:1/presence?limit=1&after={first['next']}"
        last = (await client.get(path)).json()
        wrong = await client.get("/api/channels/chat:1/presence?limit=0")
        long = await client.get(f"/api/channels/chat:1/presence?after={'x' * 256}")
        longest = await client.get(f"/api/channels/chat:1/presence?after={'x' * 255}")
    told = [member["id"] for page in (first, last) for member in page["members"]]
    assert told == ["ann", "c2"]
    assert "next" not in last
    assert (wrong.status_code, long.status_code, longest.status_code) == (400, 400, 200)
    assert long.json()["detail"] == "after is 256 characters, a member's id has at most 255"


async def test_state_comes_in_pages_that_go_on(hub: Hub) -> None:
    """`next` is the key to go on after; a row has the names of the wire."""
    async with hub.client() as client:
        first = await client.get("/api/channels/table:a/state?limit=5&after=a%2Fb")
        plain = await client.get("/api/channels/table:a/state")
        wrong = await client.get("/api/channels/table:a/state?limit=0")
        other = await client.get("/api/channels/prices/state")
    assert first.json() == {
        "channel": "table:a",
        "position": "e:7",
        "rows": [{"key": "k", "offset": 5, "time": 1000, "from": "ann", "data": [1]}],
        "next": None,
    }
    assert hub.node.asked_state == [("table:a", "a/b", 5), ("table:a", "", 1000)]
    assert (plain.status_code, wrong.status_code, other.status_code) == (200, 400, 400)


@pytest.mark.parametrize(
    "moment",
    ["1764000000500", "2025-11-24T16:00:00.5Z", "2025-11-24T16:00:00.5",
     "2025-11-24T17:00:00.5+01:00", "2025-11-24T17:00:00.5%2B01:00", "2025-11-24%2016:00:00.5"],
)  # fmt: skip
async def test_history_is_read_from_a_moment_on(hub: Hub, moment: str) -> None:
    """In milliseconds or ISO 8601, whose `+` need not be encoded; without an offset it is UTC."""
    async with hub.client() as client:
        answer = await client.get(f"/api/channels/a/history?from_time={moment}&limit=7")
    assert answer.status_code == 200
    assert hub.node.looked_back == [LookBack(7, 1_764_000_000_500)]


async def test_history_is_read_backwards(hub: Hub) -> None:
    """Newest first; `next` is the `since` of the following page."""
    async with hub.client() as client:
        answer = await client.get("/api/channels/a/history?reverse=true&since=e1:9&limit=2")
    page = answer.json()
    assert [row["offset"] for row in page["publications"]] == [3, 2]
    assert (page["next"], page["complete"]) == ("e1:2", True)
    assert hub.node.looked_back == [LookBack(2, None, Position("e1", 9), reverse=True)]


@pytest.mark.parametrize("query", ["from_time=yesterday", "from_time=-1", "reverse=1"])
async def test_a_moment_or_a_direction_that_is_none_is_refused(hub: Hub, query: str) -> None:
    """The node is not asked."""
    async with hub.client() as client:
        assert (await client.get(f"/api/channels/a/history?{query}")).status_code == 400
    assert hub.node.looked_back == []


async def test_operators_let_go_of_history(hub: Hub) -> None:
    """204; nobody else may."""
    async with hub.client(**PUBLISHER) as client:
        assert (await client.delete("/api/channels/a/history")).status_code in {401, 403}
    async with hub.client(**OPERATOR) as client:
        assert (await client.delete("/api/channels/a/history")).status_code == 204
        assert (await client.delete("/api/channels/a%20b/history")).status_code == 400
    assert hub.node.cleared == ["a"]
