"""The operators' commands with two nodes: at either, the whole cluster is seen and told."""

import json

import pytest

from tests.cli.operating import (
    DEADLINE_SECONDS,
    KEY,
    environment,
    line_of,
    publish,
    run,
    started,
    subscribed,
)
from tests.cli.terminal import terminal
from tests.multi_node.fleet import hubs
from tests.support.redis_server import RedisServer, is_installed
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(not is_installed(), reason="no redis-server here"),
]


async def test_another_node_is_watched_drained_and_its_connections_followed(channel: str) -> None:
    """All commands talk to node-0; the peers are at node-1."""
    with RedisServer() as redis:
        async with hubs(redis.url, 2, HUB_OPERATOR_KEYS=KEY) as (asked, other):
            variables = environment(asked.url)
            async with subscribed(other, channel) as one, subscribed(other, channel) as two:
                async with terminal("top", "--every", "0.3", variables=variables) as seen:
                    # The sums come from what nodes say of themselves every few seconds.
                    await seen.sees(
                        lambda lines: (
                            {one.id, two.id} <= {line[:24] for line in lines}
                            and "2 nodes  2 connections" in lines[0]
                        ),
                        "both connections, and how many there are",
                    )
                    tail = ("tail", "--connection", one.id, "--json", "--every", "0.3")
                    async with started(*tail, **variables) as process:
                        await line_of(process)
                        await publish(asked, channel, "hello")
                        push = json.loads(await line_of(process))
                        assert (push["op"], push["data"]) == ("message", "hello")
                        drain = ("drain", "node-1", "--window", "3", "--wait")
                        ended = await run(*drain, **variables)
                        last = json.loads(await line_of(process))
                    assert (last["what"], last["code"]) == ("ended", 1012)
                    await seen.sees(lambda lines: "node-1: draining" in lines[2], "the drain")
                for peer in (one, two):
                    await peer.connection.wait_closed()
                    assert peer.connection.close_code == 1012
            assert ended.code == 0
            assert "hub: node-1 is empty" in ended.err
            nodes = await run("nodes", "--json", **variables)
            states = {row["node"]: row["draining"] for row in json.loads(nodes.out)["nodes"]}
            assert states == {"node-0": False, "node-1": True}
            closed = await run("closed", **variables)
            assert closed.out.count("draining") == 2


async def test_every_list_is_printed_while_redis_is_away(channel: str) -> None:
    """The list is that of the node that is asked, with what is missing and since
    when; no command ends with 1."""
    with RedisServer() as redis:
        async with hubs(redis.url, 2, HUB_OPERATOR_KEYS=KEY) as (asked, other):
            variables = environment(asked.url)
            async with subscribed(asked, channel) as peer:
                async with subscribed(other, channel):
                    pass
                await run("nodes", **variables)
                redis.kill()

                async def is_told() -> bool:
                    return "away since" in (await run("nodes", **variables)).err

                await eventually(is_told, seconds=DEADLINE_SECONDS, what="Redis is away")
                nodes = await run("nodes", **variables)
                assert (nodes.code, nodes.out.count("node-")) == (0, 2)
                assert "old" in nodes.out
                for command in ("closed", "connections", "top", "channels"):
                    ended = await run(command, **variables)
                    assert ended.code == 0, (command, ended.err)
                    if command == "connections":
                        assert peer.id in ended.out
                    said = "away since" if command == "top" else "not all nodes could be asked"
                    assert said in ended.err
