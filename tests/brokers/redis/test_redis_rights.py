"""A node works with a Redis that takes no functions, and with a user who may not do everything."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
from redis import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoPermissionError, ResponseError

from hub.brokers.redis.keys import Keys
from hub.brokers.redis.link import library
from hub.brokers.redis.link.library import Library
from hub.core.options import HUB_NAMESPACE, ChannelOptions, is_reserved
from tests.brokers.redis.acl import NODE_RULES, PASSWORD, PUBLISHER_RULES
from tests.brokers.redis.fakes import Command, FakeConnection, Log
from tests.brokers.redis.nodes import TestNode, node
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

KEEPS = {"deep": ChannelOptions(history_size=100, presence=True)}
EVALS = "+eval"


def rules(*without: str, more: Sequence[str] = ()) -> list[str]:
    """Those of a node, less some."""
    assert set(without) <= set(NODE_RULES)
    return [rule for rule in NODE_RULES if rule not in without] + list(more)


def set_user(redis: RedisServer, name: str, given: Sequence[str]) -> str:
    """Make the user; the URL that it logs in with."""
    answer = redis.ask("ACL", "SETUSER", name, *given)
    assert answer.startswith(b"+OK"), answer
    return f"redis://{name}:{PASSWORD}@127.0.0.1:{redis.port}"


async def works(one: TestNode, channel: str) -> None:
    """Publishing, delivering, history and idempotency."""
    await one.is_ready()
    stream = await one.subscribe(channel)
    for _ in range(2):
        await one.publish(channel, 1, idempotency_key="x")
    await eventually(lambda: stream.data == [b"1"])
    assert (await one.broker.history(channel, 0, 10)).publications


def warned(one: TestNode, event: str) -> list[dict[str, Any]]:
    return [dict(line) for line in one.logged if line["event"] == event]


def rights_of(one: TestNode, event: str) -> list[str]:
    (line,) = warned(one, event)
    assert line["level"] == "warning"
    return list(line["rights"])


def way(one: TestNode) -> object:
    """The command that calls are made with."""
    return one.broker.shard("a").calls._library._prefixes["publish"][0]


# -- the documented users ------------------------------------------------------------------------


async def test_documented_user_of_a_node_is_enough(redis: RedisServer, channel: str) -> None:
    """The node uses functions and warns of no missing right."""
    url = set_user(redis, "hub", NODE_RULES)
    async with node(url, namespaces=KEEPS) as one:
        await works(one, f"deep:{channel}")
        assert way(one) == "FCALL"
        assert not [line for line in one.logged if line["level"] == "warning"]


@pytest.fixture
def publisher(redis: RedisServer) -> Iterator[Redis]:
    set_user(redis, "shop", PUBLISHER_RULES)
    with Redis(
        port=redis.port, protocol=2, username="shop", password=PASSWORD, decode_responses=True
    ) as client:
        yield client


def keys_of(channel: str) -> tuple[str, str]:
    return f"hub:{{{channel}}}:meta", f"hub:{{{channel}}}:log"


@pytest.mark.parametrize("channel", ["prices", "orders:1", "orders:eu:7"])
async def test_documented_publisher_publishes_on_its_channels(
    redis: RedisServer, publisher: Redis, channel: str
) -> None:
    async with node(redis.url) as one:
        stream = await one.subscribe(channel)
        publisher.fcall("hub_publish", 2, *keys_of(channel), "1")
        publisher.fcall("hub_publish", 3, *keys_of(channel), f"hub:{{{channel}}}:once:a", "2")
        await eventually(lambda: stream.data == [b"1", b"2"])


@pytest.mark.parametrize("channel", ["pricesx", "news", "order", "hub:stats", "orders"])
async def test_documented_publisher_publishes_nowhere_else(
    redis: RedisServer, publisher: Redis, channel: str
) -> None:
    async with node(redis.url) as one:
        await one.is_ready()
        with pytest.raises(NoPermissionError):
            publisher.fcall("hub_publish", 2, *keys_of(channel), "1")
        with pytest.raises(NoPermissionError):
            publisher.publish(f"hub:{{{channel}}}", "1")


async def test_documented_publisher_is_no_operator(redis: RedisServer, publisher: Redis) -> None:
    """The documented publisher asks no node anything, lists no nodes, and reads no other keys."""
    async with node(redis.url) as one:
        await one.is_ready()
        publisher.publish("hub:raw:ticks:eur", "1")
        for name in ("hub:{/nodes}:ask:aaaa", "hub:raw:other", "hub:canary:a", "other"):
            with pytest.raises(NoPermissionError):
                publisher.publish(name, "1")
        for name in ("hub:{/nodes}:tags", "hub:{/nodes}:node:aaaa", "hub:{news}:meta"):
            with pytest.raises(NoPermissionError):
                publisher.hset(name, "a", "b")
        for refused in (("SMEMBERS", "hub:{/nodes}:tags"), ("FLUSHALL",), ("CONFIG", "GET", "*")):
            with pytest.raises(NoPermissionError):
                publisher.execute_command(*refused)  # type: ignore[no-untyped-call]


# -- the hub's own namespace ---------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["hub", "staging"])
@pytest.mark.parametrize("channel", ["hub:stats", "hub:anything", "hub:"])
async def test_public_function_refuses_the_hubs_own_namespace(
    redis: RedisServer, prefix: str, channel: str
) -> None:
    """Under any prefix, and nothing is written; the hub's own figures are from nobody else."""
    async with node(redis.url) as one:
        await one.is_ready()
        stem = f"{prefix}:{{{channel}}}"
        with Redis(port=redis.port, protocol=2) as client:
            before = client.dbsize()
            with pytest.raises(ResponseError, match="only the hub itself publishes"):
                client.fcall("hub_publish", 2, f"{stem}:meta", f"{stem}:log", "1")
            assert client.dbsize() == before


@pytest.mark.parametrize("channel", ["hub", "hubs:a", "a:hub:b", "Hub:stats"])
async def test_a_channel_that_only_looks_reserved_is_published(
    redis: RedisServer, channel: str
) -> None:
    assert not is_reserved(channel)
    async with node(redis.url) as one:
        await one.is_ready()
        with Redis(port=redis.port, protocol=2) as client:
            assert client.fcall("hub_publish", 2, *keys_of(channel), "1")[1] == 1


def test_function_and_hub_know_the_same_namespace() -> None:
    assert f"'{{{HUB_NAMESPACE}:'" in library._BODY


# -- what is used in place of functions ----------------------------------------------------------

WITHOUT = [
    # Taken away, given besides, how calls are made then, and the rights that the log names.
    (["+function|load"], [], "EVALSHA", {"redis_no_functions": ["+function|load"]}),
    (["+fcall"], [], "EVALSHA", {"redis_no_functions": ["+fcall"]}),
    (
        ["+fcall", "+function|load"],
        [],
        "EVALSHA",
        {"redis_no_functions": ["+function|load", "+fcall"]},
    ),
    (
        ["+fcall", "+function|load", "+script|load"],
        [EVALS],
        "EVAL",
        {"redis_scripts_not_loaded": ["+script|load"]},
    ),
    (
        ["+fcall", "+function|load", "+evalsha"],
        [EVALS],
        "EVAL",
        {"redis_scripts_not_loaded": ["+evalsha"]},
    ),
    (
        ["+function|load", "+evalsha", "+script|load"],
        [EVALS],
        "EVAL",
        {
            "redis_no_functions": ["+function|load"],
            "redis_scripts_not_loaded": ["+script|load"],
        },
    ),
]


@pytest.mark.parametrize(("without", "more", "taken", "named"), WITHOUT)
async def test_user_without_some_way_to_run_functions_gets_the_next_best(
    redis: RedisServer,
    channel: str,
    without: list[str],
    more: list[str],
    taken: str,
    named: dict[str, list[str]],
) -> None:
    """Everything works, and the log names the missing right."""
    url = set_user(redis, "hub", rules(*without, more=more))
    async with node(url, namespaces=KEEPS) as one:
        await works(one, f"deep:{channel}")
        for event, rights in named.items():
            assert rights_of(one, event) == rights
        assert way(one) == taken


async def test_user_who_may_run_nothing_is_a_problem_that_names_it(redis: RedisServer) -> None:
    gone = ("+fcall", "+function|load", "+evalsha", "+script|load")
    async with node(set_user(redis, "hub", rules(*gone))) as one:
        await eventually(lambda: "neither functions nor scripts" in "".join(one.broker.problems()))
        assert "'eval'" in "".join(one.broker.problems())
        assert rights_of(one, "redis_no_functions") == ["+function|load", "+fcall"]
        assert rights_of(one, "redis_scripts_not_loaded") == ["+script|load"]


async def test_functions_that_somebody_else_loaded_are_called(
    redis: RedisServer, channel: str
) -> None:
    """An operator may load them and give nodes no right to."""
    async with node(redis.url) as loading:
        await loading.is_ready()
    async with node(set_user(redis, "hub", rules("+function|load")), namespaces=KEEPS) as one:
        await works(one, f"deep:{channel}")
        assert not [line for line in one.logged if line["level"] == "warning"]
        assert way(one) == "FCALL"


async def test_server_without_the_command_gets_scripts(channel: str) -> None:
    """Some hosts take it away by its name."""
    with RedisServer(rename_command="FUNCTION unheard-of") as redis:
        async with node(redis.url, namespaces=KEEPS) as one:
            await works(one, f"deep:{channel}")
            (line,) = warned(one, "redis_no_functions")
            assert "unknown command 'FUNCTION'" in str(line["reasons"])
            assert len(str(line)) < 1000


async def test_nothing_is_said_twice_when_the_connection_comes_back(
    redis: RedisServer, channel: str
) -> None:
    async with node(set_user(redis, "hub", rules("+function|load"))) as one:
        await works(one, channel)
        commands = one.broker.shard(channel).calls
        connects = commands.connects
        redis.ask("CLIENT", "KILL", "USER", "hub")
        await eventually(lambda: commands.connects > connects)
        assert len(warned(one, "redis_no_functions")) == 1


async def test_full_server_that_takes_no_functions_gets_scripts(
    redis: RedisServer, channel: str
) -> None:
    """FUNCTION LOAD needs memory: a node that starts meanwhile serves who reads all the same."""
    redis.ask("CONFIG", "SET", "maxmemory", "1")
    async with node(redis.url, namespaces=KEEPS) as one:
        await one.is_ready()
        await one.subscribe(f"deep:{channel}")
        (line,) = warned(one, "redis_no_functions")
        assert "OOM" in str(line["reasons"])
        redis.ask("CONFIG", "SET", "maxmemory", "0")
        await works(one, f"deep:{channel}-2")


# -- rights of what the functions do -------------------------------------------------------------

USED = sorted({"+xadd", "+hset", "+pexpire", "+xrange", "+hscan", "+zadd", "+time"})


@pytest.mark.parametrize("right", USED)
@pytest.mark.parametrize("scripts", [False, True], ids=["functions", "scripts"])
async def test_right_that_functions_need_is_named_before_it_is_missed(
    redis: RedisServer, right: str, scripts: bool
) -> None:
    """Redis itself says only that the user can't run `this command`."""
    more = [EVALS] if scripts else []
    gone = [right, "+fcall"] if scripts else [right]
    async with node(set_user(redis, "hub", rules(*gone, more=more))) as one:
        await eventually(lambda: warned(one, "redis_rights_missing"))
        assert rights_of(one, "redis_rights_missing") == [right]


async def test_missing_right_to_publish_is_named(redis: RedisServer) -> None:
    async with node(set_user(redis, "hub", rules(more=["-publish"]))) as one:
        await eventually(lambda: warned(one, "redis_rights_missing"))
        assert rights_of(one, "redis_rights_missing") == ["+publish", "&hub:*"]


async def test_keys_of_another_prefix_are_named(redis: RedisServer) -> None:
    """The whole prefix is missing, not each command."""
    async with node(set_user(redis, "hub", rules("~hub:*", more=["~other:*"]))) as one:
        await eventually(lambda: warned(one, "redis_rights_missing"))
        assert rights_of(one, "redis_rights_missing")[0] == "~hub:*"


# -- whatever a server answers -------------------------------------------------------------------


def refusing_functions(error: str) -> FakeConnection:
    """To a server that says `error` to whatever is about functions."""

    def answer(command: Command) -> object:
        match command:
            case (b"INFO", _):
                return b"role:master\r\nredis_version:7.4.0\r\n"
            case ((b"FUNCTION" | b"FCALL"), *_):
                return ResponseError(error)
            case (b"SCRIPT", b"LOAD", _):
                return b"0" * 40
            case (b"EVALSHA", *_):
                return ResponseError("NOSCRIPT No matching script.")
            case _:
                return b""

    return FakeConnection(answer)


ERRORS = [
    "ERR unknown command 'FUNCTION', with args beginning with: 'LOAD'",
    "ERR Unknown subcommand or wrong number of arguments for 'LOAD'. Try FUNCTION HELP.",
    "ERR syntax error",
    "ERR This Redis command is not configured/allowed",
    "ERR command is not allowed",
    "NOPERM User hub has no permissions to run the 'function|load' command",
    "ERR Error compiling function: user_function:1: unexpected symbol",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF Redis is configured to save RDB snapshots",
    "whatever",
]


@pytest.mark.parametrize("error", ERRORS)
async def test_whatever_is_said_to_functions_scripts_are_used(error: str) -> None:
    log = Log()
    made = Library(use_functions=True, keys=Keys(), log=log.logger)
    await made.load(cast("AbstractConnection", refusing_functions(error)))
    assert made.call("open", ("k",), ())[0] == "EVALSHA"
    assert bool(log.events) is ("unknown command" not in error)
    assert all(error in str(event["reasons"]) for event in log.events)
