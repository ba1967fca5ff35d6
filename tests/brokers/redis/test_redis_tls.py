"""TLS and ACL users where a URL names many servers: Sentinel and Cluster, also as they fail."""

import asyncio
import re
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import psutil
import pytest
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from hub.brokers.redis.link.connection import FixedServer, close, connect
from hub.brokers.redis.link.outcomes import CONNECTION_ERRORS
from hub.brokers.redis.topology import slots
from hub.brokers.redis.topology.discovery import Discovery
from tests.brokers.redis.acl import ACL
from tests.brokers.redis.nodes import FAST, TestNode, node
from tests.brokers.redis.test_redis_failures import KEEPS_ALL, arrives, feeding
from tests.core.fakes import FakeClock
from tests.support.certificates import Certificates, is_installed, make_certificates
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_sentinel import SentinelSet
from tests.support.redis_server import RedisServer
from tests.support.waiting import DEADLINE_SECONDS, eventually

pytestmark = pytest.mark.skipif(not is_installed(), reason="openssl makes the certificates")

# TLS takes its time on a busy machine.
PATIENT = replace(FAST, command_timeout_seconds=2.0, connect_timeout_seconds=5.0)
USER = f"hub on >s3cr:t {ACL} +cluster|nodes"
# What the README says sentinels are asked.
SENTINEL_USER = (
    "watcher on >0ther -@all +@connection +sentinel|master +sentinel|get-master-addr-by-name"
)
LOGIN = "hub:s3cr%3At@"
SENTINEL_LOGIN = "sentinel_username=watcher&sentinel_password=0ther"


class Secured:
    """Servers with TLS and users, and the URL of a hub that may use them."""

    def __init__(self, made: SentinelSet | RedisCluster, tls: Certificates) -> None:
        self.made = made
        self.plain = made.url
        self.authority = f"ssl_ca_certs={tls.authority}"

    def url(self, login: str = LOGIN, query: str = "") -> str:
        scheme, _, rest = self.plain.partition("://")
        asked = "&".join(part for part in (query or self.authority, self._sentinel) if part)
        return f"{scheme.replace('redis+', 'rediss+')}://{login}{rest}?{asked}"

    @property
    def _sentinel(self) -> str:
        return SENTINEL_LOGIN if isinstance(self.made, SentinelSet) else ""

    @property
    def master(self) -> RedisServer:
        return self.made.servers[0] if isinstance(self.made, SentinelSet) else self.made.masters[0]

    @property
    def servers(self) -> Sequence[RedisServer]:
        if isinstance(self.made, SentinelSet):
            return [*self.made.servers, *self.made.sentinels]
        return [*self.made.masters, self.made.replica]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["sentinel", "cluster"])
def redis(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Secured]:
    made: SentinelSet | RedisCluster
    if request.param == "sentinel":
        made = SentinelSet(tls=certificates, user=USER, sentinel_user=SENTINEL_USER)
    else:
        made = RedisCluster(tls=certificates, user=USER)
    with made:
        yield Secured(made, certificates)


def _clients(server: RedisServer) -> set[tuple[str, str]]:
    """Which users of the hub are connected, and at which port."""
    found = server.ask("CLIENT", "LIST").decode().splitlines()
    lines = [dict(re.findall(r"(\S+)=(\S*)", line)) for line in found]
    return {
        (line["laddr"].rpartition(":")[2], line["user"])
        for line in lines
        if line.get("name", "").startswith("hub:")
    }


@asynccontextmanager
async def _two(redis: Secured) -> AsyncGenerator[tuple[TestNode, TestNode]]:
    async with (
        node(redis.url(), options=PATIENT, namespaces=KEEPS_ALL) as one,
        node(redis.url(), options=PATIENT, namespaces=KEEPS_ALL) as two,
    ):
        await one.is_ready()
        await two.is_ready()
        yield one, two


async def test_failover_keeps_to_tls_and_to_the_users(redis: Secured, channel: str) -> None:
    """Every connection, before and after the failover, uses the documented
    users and the TLS ports."""
    names = (f"deep:{channel}-{number}" for number in range(1000))
    channel = next(name for name in names if slots.slot(name) < 16384 // 3)
    async with _two(redis) as (one, two):
        stream = await two.subscribe(channel)
        async with feeding(one, channel) as feed:
            await feed.runs()
            redis.master.kill()
            await eventually(lambda: stream.resets)
            await feed.runs()
        await arrives(stream, feed)
        feed.check(stream)
        for server in redis.servers:
            if server is not redis.master:
                at = str(server.public_port)
                assert _clients(server) <= {(at, "hub"), (at, "watcher")}
        assert any(_clients(server) for server in redis.servers if server is not redis.master)


async def test_slot_that_moves_is_followed_by_tls(certificates: Certificates, channel: str) -> None:
    with RedisCluster(tls=certificates, user=USER, spare=True) as made:
        redis = Secured(made, certificates)
        names = (f"deep:{channel}-{number}" for number in range(1000))
        channel = next(name for name in names if slots.slot(name) < 16384 // 3)
        way = (slots.slot(channel), made.masters[0], made.spares[0])
        async with _two(redis) as (one, two):
            stream = await two.subscribe(channel)
            async with feeding(one, channel) as feed:
                await feed.runs()
                made.begin_move(*way)
                made.move_keys(*way)
                await feed.runs()
                made.end_move(*way)
                await feed.runs()
            await arrives(stream, feed)
            feed.check(stream)
            assert not stream.resets, "the servers vouch for each other over TLS too"


async def test_server_that_nobody_vouches_for_is_none(redis: Secured) -> None:
    async with node(redis.url(query="ssl_check_hostname=yes"), options=PATIENT) as one:
        assert one.broker.problems()
        assert not any(_clients(server) for server in redis.servers)


async def test_wrong_password_of_many_servers_is_told_and_not_shown(redis: Secured) -> None:
    async with node(redis.url(login="hub:wr0ng@"), options=PATIENT) as one:
        said = str((one.broker.problems(), one.logged))
        assert one.broker.problems()
        assert "wr0ng" not in said
        assert "0ther" not in said


async def test_questions_share_what_tls_needs_until_one_fails(certificates: Certificates) -> None:
    """To make it stops the loop for tens of milliseconds, and they are asked every second."""
    clock = FakeClock()
    discovery = Discovery(
        client_name="hub:test:question", timeout_seconds=5, patience_seconds=5, clock=clock
    )
    with RedisServer(tls=certificates) as redis:
        server = FixedServer(
            f"rediss://127.0.0.1:{redis.public_port}?ssl_ca_certs={certificates.authority}"
        )
        assert await discovery.ask(server, ("ECHO", "1"), ("ECHO", "2")) == [b"1", b"2"]
        context = discovery._tls
        clock.advance(3600)
        await discovery.ask(server, ("PING",))
        assert discovery._tls is context
    with pytest.raises(CONNECTION_ERRORS):
        await discovery.ask(server, ("PING",))
    for changed in (True, False):
        with pytest.raises(CONNECTION_ERRORS):
            await discovery.ask(server, ("PING",))
        assert (discovery._tls is not context) is changed
        context = discovery._tls


async def test_frozen_server_keeps_no_socket_of_a_closed_connection(
    certificates: Certificates,
) -> None:
    """TLS would wait for the server's goodbye."""
    with RedisServer(tls=certificates, requirepass="secret") as redis:
        connection = _to(redis.public_port, certificates)
        await connect(connection)
        redis.freeze()
        try:
            await close(connection)
            await eventually(lambda: not _open_to(redis.public_port))
        finally:
            redis.thaw()


async def test_server_that_refuses_and_freezes_keeps_no_socket(
    certificates: Certificates,
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.certificate, certificates.key)
    ended = threading.Event()

    def refuse() -> None:
        with tls.wrap_socket(listening.accept()[0], server_side=True) as client:
            client.recv(1024)
            client.sendall(b"-WRONGPASS invalid username-password pair\r\n")
            ended.wait(2 * DEADLINE_SECONDS)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        refusing = asyncio.create_task(asyncio.to_thread(refuse))
        port = listening.getsockname()[1]
        # Kept, as asyncio aborts what nobody refers to.
        connection = _to(port, certificates)
        try:
            with pytest.raises(RedisError, match="invalid username"):
                await connect(connection)
            await eventually(lambda: not _open_to(port))
        finally:
            ended.set()
            await refusing


def _open_to(port: int) -> bool:
    return any(
        used.raddr and used.raddr.port == port and used.status == psutil.CONN_ESTABLISHED
        for used in psutil.Process().net_connections("tcp")
    )


def _to(port: int, certificates: Certificates) -> AbstractConnection:
    url = f"rediss://:secret@127.0.0.1:{port}?ssl_ca_certs={certificates.authority}"
    return FixedServer(url).make("hub:test")
