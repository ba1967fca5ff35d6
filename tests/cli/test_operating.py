"""The operators' commands as processes, against a real hub."""

import json
from collections.abc import Iterator

import httpx2 as httpx
import pytest

from tests.cli.operating import TOKEN_KEY, OperatedHub, environment, publish, run, subscribed
from tests.support.hub_process import HubProcess

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with OperatedHub() as started:
        yield started


async def test_connections_are_listed_filtered_and_counted(hub: HubProcess, channel: str) -> None:
    """A table with all columns in a pipe; more than `--limit` is said, with the mark to go on."""
    variables = environment(hub.url)
    async with subscribed(hub, channel, agent="one/1") as one, subscribed(hub, "other"):
        async with subscribed(hub, channel, agent="two/2"):
            ended = await run("connections", "--channel", channel, "--limit", "1", **variables)
            more = await run(
                "connections", "--channel", channel, "--sort", "-user_agent", "--json", **variables
            )
    titles, row = ended.out.splitlines()
    assert titles.split()[:2] == ["CONNECTION", "NODE"]
    assert row.split()[1:3] == ["test-node", "websocket"]
    assert "hub: 1 of 2; more with --after " in ended.err
    page = json.loads(more.out)
    assert [row["user_agent"] for row in page["connections"]] == ["two/2", "one/1"]
    assert page["connections"][1]["connection"] == one.id
    assert more.err == ""


async def test_names_that_peers_chose_move_no_cursor(hub: HubProcess, channel: str) -> None:
    """A user agent with escape sequences is shown without them."""
    # CSI as one byte (ECMA-48 section 5.4), which RFC 9110 section 5.5 lets pass in a header.
    headers = {b"User-Agent": b"evil\x9b2J"}
    async with httpx.AsyncClient(headers=headers, timeout=30) as client:
        async with client.stream("GET", f"{hub.url}/sse?channel={channel}") as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            ended = await run("connections", "--channel", channel, **environment(hub.url))
    assert "evil\ufffd2J" in ended.out
    assert "\x9b" not in ended.out


async def test_channels_and_nodes_are_listed(hub: HubProcess, channel: str) -> None:
    """Channels are chosen by the beginning of their name, and nodes are listed with their state."""
    variables = environment(hub.url)
    async with subscribed(hub, channel):
        await publish(hub, channel, 1, 2)
        listed = await run("channels", channel[:6], **variables)
        as_json = await run("channels", channel, "--json", **variables)
        nodes = await run("nodes", **variables)
    row = next(line.split() for line in listed.out.splitlines() if channel in line)
    assert (row[1], row[3].endswith(":2")) == ("1", True)
    (found,) = json.loads(as_json.out)["channels"]
    assert (found["channel"], found["subscribers"]) == (channel, 1)
    titles, node = nodes.out.splitlines()
    assert (titles.split()[0], node.split()[0], node.split()[-1]) == ("NODE", "test-node", "ok")


async def test_a_disconnected_connection_is_found_among_the_closed(
    hub: HubProcess, channel: str
) -> None:
    """The row has the code and the reason, and a second attempt does not find the connection."""
    variables = environment(hub.url)
    async with subscribed(hub, channel, agent="to-be-closed") as peer:
        done = await run("disconnect", peer.id, **variables)
        await peer.connection.wait_closed()
        assert peer.connection.close_code == 4403
        again = await run("disconnect", peer.id, "--json", **variables)
        closed = await run("closed", **variables)
        others = await run("closed", "--subject", "somebody else", **variables)
    assert peer.id not in others.out
    assert (done.code, done.out, done.err) == (0, "", f"hub: {peer.id} is disconnected\n")
    assert (again.code, again.out) == (1, "")
    assert again.err.startswith(f"hub: not_found: no connection '{peer.id}'")
    row = next(line for line in closed.out.splitlines() if peer.id in line)
    assert "4403" in row
    assert "disconnected by operator" in row


async def test_a_channel_is_taken_from_a_connection_that_stays(
    hub: HubProcess, channel: str
) -> None:
    """The other subscription goes on."""
    variables = environment(hub.url)
    async with subscribed(hub, channel, "stays") as peer:
        done = await run("unsubscribe", peer.id, channel, "--json", **variables)
        left = await run("connections", "--channel", "stays", "--json", **variables)
    assert json.loads(done.out) == {"connection": peer.id, "channel": channel}
    (row,) = json.loads(left.out)["connections"]
    assert [each["channel"] for each in row["subscriptions"]] == ["stays"]


async def test_a_publication_is_explained_by_offset_or_position(
    hub: HubProcess, channel: str
) -> None:
    """One sentence with its time; as JSON the hub's answer as it is."""
    variables = environment(hub.url)
    async with subscribed(hub, channel) as peer:
        await publish(hub, channel, 1)
        said = await run("explain", peer.id, channel, "1", **variables)
        as_json = await run("explain", peer.id, channel, "an-epoch:1", "--json", **variables)
    assert said.code == 0
    assert said.out.startswith("written: written to its connection when it came (")
    told = json.loads(as_json.out)
    assert (told["epoch"], told["offset"], told["connection"]) == ("an-epoch", 1, peer.id)


async def test_publications_that_a_subject_got_stand_on_one_line_of_time(channel: str) -> None:
    """The line is over all connections of the subject, with a verdict for one publication,
    and for a stretch of time."""
    with OperatedHub(HUB_TOKEN_KEYS=TOKEN_KEY) as own:
        variables = environment(own.url)
        asked = ("explain", "--subject", "ada", channel)
        async with subscribed(own, channel, subject="bob"):
            async with subscribed(own, channel, subject="ada") as first:
                await publish(own, channel, 1)
                await run("disconnect", first.id, **variables)
                await first.connection.wait_closed()
            await publish(own, channel, 2)
        missed = await run(*asked, "2", **variables)
        early = await run(*asked, "--from", "1999-01-01", "--to", "1999-01-02", **variables)
        as_json = await run(*asked, "1", "--from", "1999-01-01", "--json", **variables)
    assert missed.code == 0
    verdict, titles, *rows = missed.out.splitlines()
    assert verdict.startswith("not_subscribed: ")
    assert f"{first.id} had ended: 4403 disconnected by operator" in verdict
    assert titles.split() == ["TIME", "CONNECTION", "WHAT", "CHANNEL", "OFFSETS", "WHY"]
    at = titles.index("WHAT")
    assert [row[at:].split()[0] for row in rows] == [
        "opened", "subscribed", "written", "closed", "absent",
    ]  # fmt: skip
    assert (early.code, early.out) == (1, "")
    assert "no connection of ada is open" in early.err
    assert json.loads(as_json.out)["explained"]["answer"] == "written"


@pytest.mark.parametrize(
    ("mistyped", "says"),
    [
        (("nobody", "here", "1"), "unknown: no connection of that name is open"),
        (("{peer}", "hree", "1"), "not_published: "),
        (("{peer}", "here", "99"), "not_published: the newest of here is "),
        (("--subject", "aad"), "no connection of aad is open, or among those that are remembered"),
        (("--subject", "aad", "here", "1"), "no connection of aad is open"),
    ],
)
async def test_a_name_that_nobody_knows_does_not_look_like_an_answer(
    hub: HubProcess, mistyped: tuple[str, ...], says: str
) -> None:
    """The command ends with 1, as JSON too."""
    variables = environment(hub.url)
    async with subscribed(hub, "here") as peer:
        await publish(hub, "here", 1)
        words = ("explain", *(word.format(peer=peer.id) for word in mistyped))
        said = await run(*words, **variables)
        as_json = await run(*words, "--json", **variables)
    assert (said.code, as_json.code) == (1, 1)
    assert says in said.out + said.err
    assert json.loads(as_json.out)


async def test_a_node_is_drained_waited_for_and_taken_back() -> None:
    """Peers are told to come back; `--wait` ends when nobody is left."""
    with OperatedHub() as own:
        variables = environment(own.url)
        async with subscribed(own, "a") as one, subscribed(own, "a") as two:
            ended = await run("drain", "test-node", "--window", "0.5", "--wait", **variables)
            for peer in (one, two):
                await peer.connection.wait_closed()
                assert peer.connection.close_code == 1012
        assert ended.code == 0
        said = ended.err.splitlines()
        assert said[0] == "hub: test-node closes 2 connections within 0.5 s"
        assert said[-1] == "hub: test-node is empty"
        nodes = await run("nodes", **variables)
        assert nodes.out.split()[-1] == "draining"
        again = await run("drain", "test-node", **variables)
        assert (again.code, again.err.split()[1]) == (1, "conflict:")
        undone = await run("drain", "test-node", "--undo", "--json", **variables)
        assert json.loads(undone.out)["node"] == "test-node"
        async with subscribed(own, "a"):
            shares = await run("rebalance", **variables)
        assert shares.out.splitlines()[1].split() == ["test-node", "1", "0"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("drain", "nowhere"), 1, "hub: not_found: no node 'nowhere' lives\n"),
        (
            ("explain", "a", "b"),
            2,
            "hub: give CONNECTION CHANNEL OFFSET, or --subject [CHANNEL] [OFFSET]\n",
        ),
        (("explain", "a", "b", "1", "--from", "1:00"), 2, "hub: --from and --to need --subject"),
        (("explain", "--subject", "a", "b", "1", "c"), 2, "hub: with --subject give at most "),
        (
            ("explain", "--subject", "a", "--from", "tea"),
            2,
            "hub: 'tea' is no time; allowed: 17:20",
        ),
        (
            ("explain", "--subject", "a", "--from", "2026-01-02", "--to", "2026-01-01"),
            2,
            "hub: --to 2026-01-01 is before --from 2026-01-02\n",
        ),
        (
            ("drain", "a", "--undo", "--wait"),
            2,
            "hub: --undo cannot be combined with --window or --wait\n",
        ),
        (("tail",), 2, "hub: give channels, or --connection ID\n"),
        (("tail", "a", "--connection", "b"), 2, "hub: give channels, or --connection ID\n"),
        (("tail", "--connection", "b"), 1, "hub: not_found: no connection 'b' on any node\n"),
        (("tail", "a b"), 1, "hub: bad_request: "),
        (("connections", "--sort", "name"), 1, "hub: bad_request: sort is 'name', allowed are"),
        (("nodes", "--url", "nowhere"), 2, "hub: hub URL is 'nowhere', expected something like"),
        (("nodes", "--url", "http://h:abc"), 2, "hub: hub URL is 'http://h:abc', expected"),
        (("nodes", "--url", "http://127.0.0.1:9"), 1, "hub: no hub at http://127.0.0.1:9: "),
        (("nodes", "--key", "wrong"), 1, "hub: unauthorized: the key is not one"),
        (("nodes", "--key", ""), 1, "hub: unauthorized: an operator key is needed"),
    ],
)
async def test_a_command_that_cannot_be_done_says_so_in_one_line(
    hub: HubProcess, arguments: tuple[str, ...], code: int, says: str
) -> None:
    """The line is on stderr, the exit code tells misuse from refusal, and stdout stays empty."""
    ended = await run(*arguments, **environment(hub.url))
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith(says)
    assert len(ended.err.splitlines()) == 1


async def test_an_address_with_the_wrong_scheme_is_told_the_right_one(hub: HubProcess) -> None:
    ended = await run("nodes", "--url", hub.url.replace("http:", "https:"))
    assert ended.code == 1
    assert ended.err.rstrip().endswith("; does the URL begin with http:// there?")


async def test_help_shows_commands_in_groups() -> None:
    """Those who publish, serve and operate each find theirs together."""
    ended = await run("--help")
    titles = ["Publish and subscribe", " subscribe ", "Serve", " serve ", "Operate", " top "]
    places = [ended.out.index(text) for text in titles]
    assert places == sorted(places)
