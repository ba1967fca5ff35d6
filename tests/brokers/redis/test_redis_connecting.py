"""Ways to reach a Redis, and what the hub finds and leaves there."""

import asyncio
import contextlib
import importlib.util
import shutil
import socket
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from hub.brokers.redis.link import library
from hub.brokers.redis.link.connection import Backoff, FixedServer
from hub.brokers.redis.link.library import PUBLIC_VERSION
from hub.errors import NotPublishedError, SettingsError
from tests.brokers.redis.acl import ACL
from tests.brokers.redis.nodes import FAST, node
from tests.support.redis_server import RedisServer, free_port
from tests.support.waiting import eventually


async def _works(url: str, channel: str) -> None:
    async with node(url) as one:
        await one.is_ready()
        stream = await one.subscribe(channel)
        await one.publish(channel, 1, idempotency_key="x")
        await eventually(lambda: stream.data == [b"1"])
        assert (await one.broker.history(channel, 0, 10)).publications


async def test_acl_user_with_only_what_is_documented(channel: str) -> None:
    with RedisServer(user=f"hub on >s3cr:t {ACL}") as redis:
        await _works(f"redis://hub:s3cr%3At@127.0.0.1:{redis.port}", channel)


async def test_wrong_password_is_a_problem_that_names_no_secret(channel: str) -> None:
    with RedisServer(requirepass="right") as redis:
        async with node(f"redis://:wrong@127.0.0.1:{redis.port}/0") as one:
            await eventually(lambda: "password" in one.broker.problems()[0])
            assert "wrong@" not in one.broker.problems()[0]
            with pytest.raises(NotPublishedError):
                await one.publish(channel, 1)
        assert "wrong@" not in str(one.logged)


async def test_server_that_says_nothing_is_a_problem_in_words(channel: str) -> None:
    """A server that waits for another kind of greeting, with TLS or without, says nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    with contextlib.closing(listener):
        port = listener.getsockname()[1]
        options = replace(FAST, connect_timeout_seconds=0.2)
        async with node(f"redis://127.0.0.1:{port}", options=options) as one:
            await eventually(lambda: "not connected within 0.2 s" in one.broker.problems()[0])
            with pytest.raises(NotPublishedError):
                await one.publish(channel, 1)


async def test_a_hub_connects_to_a_unix_socket(redis: RedisServer, channel: str) -> None:
    await _works(f"unix://{redis.socket_path}", channel)


async def test_a_hub_uses_the_database_of_its_url(redis: RedisServer, channel: str) -> None:
    await _works(f"redis://127.0.0.1:{redis.port}/3", channel)
    with Redis(port=redis.port, protocol=2, db=3) as client:
        assert client.exists(f"hub:{{{channel}}}:meta")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
async def test_a_hub_connects_over_tls(channel: str, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    port = free_port()
    with RedisServer(
        tls_port=str(port),
        tls_cert_file=str(certificate),
        tls_key_file=str(key),
        tls_ca_cert_file=str(certificate),
        tls_auth_clients="no",
    ):
        await _works(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}", channel)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "redis://localhost:port",
        "redis://localhost?nonsense=1",
        "redis:/otherhost",
        "redis",
    ],
)
def test_url_that_names_no_redis_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(SettingsError, match="URL of a Redis"):
        FixedServer(url)


def test_message_about_a_url_shows_no_password() -> None:
    with pytest.raises(SettingsError) as refused:
        FixedServer("redis://user:s3cret@localhost:nonsense/0")
    assert "s3cret" not in refused.value.message


def test_backoff_grows_to_its_cap_and_begins_anew() -> None:
    backoff = Backoff(0.1, 2.0)
    waits = [backoff.next_seconds() for _ in range(200)]
    assert waits[0] <= 0.1
    assert 1.0 < max(waits) <= 2.0
    backoff.reset()
    assert backoff.next_seconds() <= 0.1


@pytest.mark.parametrize("found", [PUBLIC_VERSION - 1, PUBLIC_VERSION + 1])
async def test_public_function_is_replaced_only_when_it_is_older(
    redis: RedisServer, channel: str, found: int
) -> None:
    library = f"""#!lua name=hub
    redis.register_function('hub_publish', function() return 'theirs' end)
    redis.register_function('hub_version', function() return {found} end)"""
    redis.ask("FUNCTION", "LOAD", library)
    async with node(redis.url) as one:
        await one.publish(channel, 1)
        stem = f"hub:{{{channel}}}"
        answer = redis.ask("FCALL", "hub_publish", "2", f"{stem}:meta", f"{stem}:log", "2")
        assert (b"theirs" in answer) == (found > PUBLIC_VERSION)


def test_functions_that_are_registered_otherwise_are_another_version(tmp_path: Path) -> None:
    """With another name, so that nodes with either of them find what they were made for."""
    source = Path(library.__file__).read_text()
    need_no_room = '"leave", "renew", "members", "register"'
    assert need_no_room in source
    copy = tmp_path / "other_library.py"
    copy.write_text(source.replace(need_no_room, '"members"'))
    spec = importlib.util.spec_from_file_location(copy.stem, copy)
    assert spec is not None
    assert spec.loader is not None
    other = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    assert other._DIGEST != library._DIGEST


async def test_library_that_vanishes_is_loaded_again(redis: RedisServer, channel: str) -> None:
    """A publisher is told meanwhile that nothing was published."""
    async with node(redis.url) as one:
        stream = await one.subscribe(channel)
        await one.publish(channel, 1)
        redis.ask("FUNCTION", "FLUSH")
        with pytest.raises(NotPublishedError):
            await one.publish(channel, 2)
        await eventually(one.broker.shard(channel).calls.up.is_set)
        await one.publish(channel, 3)
        await eventually(lambda: stream.data == [b"1", b"3"])


async def test_server_that_became_a_replica_is_left(redis: RedisServer, channel: str) -> None:
    async with node(redis.url) as one:
        await one.publish(channel, 1)
        redis.ask("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(NotPublishedError, match="READONLY"):
            await one.publish(channel, 2)
        await eventually(lambda: "it is a replica" in "".join(one.broker.problems()))
        redis.ask("REPLICAOF", "NO", "ONE")
        await eventually(one.broker.shard(channel).calls.up.is_set)
        assert (await one.publish(channel, 3)).position.offset >= 1


@pytest.mark.parametrize("use_functions", [True, False])
async def test_master_without_the_replicas_that_it_should_have_takes_nothing(
    redis: RedisServer, channel: str, use_functions: bool
) -> None:
    """Nobody else would have it, if this one were lost."""
    async with node(redis.url, options=replace(FAST, use_functions=use_functions)) as one:
        await one.publish(channel, 1)
        redis.ask("CONFIG", "SET", "min-replicas-to-write", "1")
        with pytest.raises(NotPublishedError, match="NOREPLICAS"):
            await one.publish(channel, 2)
        redis.ask("CONFIG", "SET", "min-replicas-to-write", "0")
        assert (await one.publish(channel, 3)).position.offset == 2


@pytest.mark.parametrize("functions", [True, False], ids=["functions", "scripts"])
async def test_full_server_refuses_publications_and_goes_on_delivering(
    redis: RedisServer, channel: str, functions: bool
) -> None:
    """Publications to an existing and to a new channel are refused, and leave nothing in Redis."""
    async with node(redis.url, options=replace(FAST, use_functions=functions)) as one:
        stream = await one.subscribe(channel)
        await one.publish(channel, 1)
        redis.ask("CONFIG", "SET", "maxmemory", "1")
        for name in (channel, f"{channel}-new"):
            with pytest.raises(NotPublishedError, match="OOM"):
                await one.publish(name, 2)
        assert (await one.broker.history(channel, 0, 1)).publications
        (told,) = [event for event in one.logged if event["event"] == "redis_refused"]
        assert "OOM" in str(told["reason"])
        redis.ask("CONFIG", "SET", "maxmemory", "0")
        await one.publish(channel, 3)
        await eventually(lambda: stream.data == [b"1", b"3"])
        assert not stream.gaps


async def test_nothing_piles_up_while_the_subscriber_is_away(redis: RedisServer) -> None:
    """Sessions may come and go meanwhile; only the channels that are wanted
    in the end are asked for."""
    async with node(redis.url) as one:
        await one.is_ready()
        subscriber = one.broker.shard("a")._pubsub
        kept = len(subscriber._wanted)
        redis.kill()
        await eventually(lambda: not subscriber.up.is_set())
        for number in range(1000):
            subscriber.add(b"%d" % number)
            subscriber.remove(b"%d" % number)
        subscriber.add(b"wanted")
        assert len(subscriber._changed) + len(subscriber._wanted) == kept + 1
        redis.start()
        await eventually(lambda: subscriber.hears(b"wanted"))


async def test_a_redis_that_stays_away_is_not_logged_at_every_attempt() -> None:
    """Each of a node's connections says each reason once; the attempts go on all the same."""
    attempts = 0

    def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        async with node(f"redis://127.0.0.1:{port}", options=FAST) as one:
            await eventually(lambda: attempts >= 20)
            lost = [event for event in one.logged if event["event"] == "redis_connection_lost"]
            said = Counter(str(event["reason"]) for event in lost)
            connections = 2
            assert 0 < max(said.values()) <= connections, said
