"""Clusters whose servers announce names of hosts, which certificates and redirects may need."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hub.brokers.redis.topology import slots
from hub.brokers.redis.topology.cluster import ClusterTopology
from hub.brokers.redis.topology.slots import HostNames, View, parse_nodes
from tests.brokers.redis.acl import ACL
from tests.brokers.redis.nodes import FAST, TestNode, node
from tests.brokers.redis.test_redis_failures import KEEPS_ALL
from tests.support.certificates import Certificates, is_installed, make_certificates
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

# TLS takes its time on a busy machine.
PATIENT = replace(FAST, command_timeout_seconds=2.0, connect_timeout_seconds=5.0)
# The map is looked at only where a server points elsewhere.
ON_DOUBT = replace(PATIENT, cluster_seconds=1000.0)
ANNOUNCES = {"cluster_announce_hostname": "localhost"}
PREFERS = {"cluster_preferred_endpoint_type": "hostname"}
UNHEARD = {"cluster_announce_hostname": "no-such-host.invalid"}


def channels_of(prefix: str) -> list[str]:
    """One of each master."""
    names = [f"deep:{prefix}-{number}" for number in range(1000)]
    thirds = [int(slots.slot(name) * 3 / 16384) for name in names]
    return [names[thirds.index(third)] for third in range(3)]


async def works_everywhere(one: TestNode, prefix: str) -> None:
    await one.is_ready()
    for channel in channels_of(prefix):
        stream = await one.subscribe(channel)
        await one.publish(channel, 1)
        await eventually(lambda stream=stream: stream.data == [b"1"])  # type: ignore[misc]


def connections(server: RedisServer) -> int:
    """Of the hub, those that last."""
    listed = server.ask("CLIENT", "LIST").decode()
    return len(re.findall(r"name=hub:\S+:(?:commands|subscriber)", listed))


def cluster_of(one: TestNode) -> ClusterTopology:
    topology = one.broker._topology
    assert isinstance(topology, ClusterTopology)
    return topology


# -- over TLS ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Which name a host, and no address."""
    if not is_installed():
        pytest.skip("openssl makes the certificates")
    return make_certificates(tmp_path_factory.mktemp("certificates"), "DNS:localhost")


@pytest.fixture(params=[ANNOUNCES, ANNOUNCES | PREFERS], ids=["announced", "preferred"])
def named(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[RedisCluster]:
    with RedisCluster(tls=certificates, spare=True, more=request.param) as made:
        yield made


def url_of(cluster: RedisCluster, certificates: Certificates) -> str:
    """Which names the hosts as the certificates do."""
    named = cluster.url.replace("127.0.0.1", "localhost").replace("redis+", "rediss+")
    return f"{named}?ssl_ca_certs={certificates.authority}&ssl_check_hostname=yes"


async def test_certificates_that_name_hosts_are_enough(
    named: RedisCluster, certificates: Certificates, channel: str
) -> None:
    """Servers are connected to by the names that they announce, also after a failover."""
    async with node(url_of(named, certificates), options=PATIENT, namespaces=KEEPS_ALL) as one:
        await works_everywhere(one, channel)
        named.masters[0].kill()
        first = channels_of(channel)[0]
        gone = f"127.0.0.1:{named.masters[0].public_port}"
        await eventually(lambda: gone not in cluster_of(one)._shards)
        await one.is_ready()
        assert (await one.publish(first, 2)).position.offset >= 1


async def test_slot_that_moves_is_followed_by_name(
    named: RedisCluster, certificates: Certificates, channel: str
) -> None:
    """To a server that owns nothing yet, too."""
    first = channels_of(channel)[0]
    way = (slots.slot(first), named.masters[0], named.spares[0])
    async with node(url_of(named, certificates), options=ON_DOUBT, namespaces=KEEPS_ALL) as one:
        await one.is_ready()
        stream = await one.subscribe(first)
        await one.publish(first, 1)
        named.begin_move(*way)
        named.move_keys(*way)
        await one.publish(first, 2)
        named.end_move(*way)
        await one.publish(first, 3)
        await eventually(lambda: stream.data == [b"1", b"2", b"3"])


async def test_certificate_of_another_host_is_none(certificates: Certificates) -> None:
    """The announced name is what is looked for in it."""
    with RedisCluster(tls=certificates, more=UNHEARD) as made:
        async with node(url_of(made, certificates), options=PATIENT) as one:
            assert one.broker.problems()


# -- without -------------------------------------------------------------------------------------


@pytest.mark.parametrize("spare", [False, True])
async def test_server_that_is_pointed_to_by_name_is_the_one_known_by_address(
    channel: str, spare: bool
) -> None:
    """No second connection stays at it, whether it owned something before or not."""
    first = channels_of(channel)[0]
    with RedisCluster(spare=True, more=ANNOUNCES | PREFERS) as made:
        target = made.spares[0] if spare else made.masters[1]
        way = (slots.slot(first), made.masters[0], target)
        async with node(made.url, options=ON_DOUBT, namespaces=KEEPS_ALL) as one:
            await one.is_ready()
            await one.publish(first, 1)
            made.begin_move(*way)
            made.move_keys(*way)
            for number in range(2, 5):
                await one.publish(first, number)
            made.end_move(*way)
            await one.publish(first, 5)
            await eventually(lambda: cluster_of(one).shard(first).calls.up.is_set())
            await eventually(lambda: not cluster_of(one)._guests)
            await eventually(lambda: connections(target) == 2)
            assert len(cluster_of(one)._shards) == (4 if spare else 3)
            # By the name that they prefer.
            for place in cluster_of(one)._shards:
                assert "localhost" in cluster_of(one)._url_of(place)


async def test_name_that_is_not_preferred_is_not_needed(channel: str) -> None:
    """A host name that the cluster does not prefer may be unknown here, so
    the node uses the address."""
    with RedisCluster(more=UNHEARD) as made:
        async with node(made.url, options=PATIENT, namespaces=KEEPS_ALL) as one:
            await works_everywhere(one, channel)


async def test_names_that_are_preferred_and_not_announced_do_no_harm(channel: str) -> None:
    """Redis points to `?` then."""
    first = channels_of(channel)[0]
    with RedisCluster(more=PREFERS) as made:
        way = (slots.slot(first), made.masters[0], made.masters[1])
        async with node(made.url, options=ON_DOUBT, namespaces=KEEPS_ALL) as one:
            await works_everywhere(one, channel)
            made.move_slot(*way)
            await one.publish(first, 2)
            assert not [place for place in cluster_of(one)._guests if "?" in place]


async def test_user_who_may_not_ask_for_slots_gets_addresses(channel: str) -> None:
    with RedisCluster(
        user=f"hub on >secret {ACL} +cluster|nodes", more=ANNOUNCES | PREFERS
    ) as made:
        url = made.url.replace("://", "://hub:secret@")
        async with node(url, options=PATIENT, namespaces=KEEPS_ALL) as one:
            await works_everywhere(one, channel)


# -- what is read --------------------------------------------------------------------------------

NODES = b"""\
aa 10.0.0.1:7000@17000,a.example myself,master - 0 0 1 connected 0-9
bb 10.0.0.2:7000@17000,b.example,shard-id=77 master - 0 0 2 connected 10-19
cc 10.0.0.3:7000@17000,,tls-port=0,shard-id=88 slave bb 0 0 2 connected
dd 10.0.0.4:7000@17000 master - 0 0 3 connected
"""
SLOTS = [[0, 9, [b"a.example", 7000, b"aa", []]], [10, 19, [b"10.0.0.2", 7000, b"bb"], [None, 1]]]


def test_announced_names_are_read_with_and_without_more_behind_them() -> None:
    view = parse_nodes(NODES, "10.0.0.1", SLOTS)
    assert view.names == {"10.0.0.1:7000": "a.example:7000", "10.0.0.2:7000": "b.example:7000"}
    assert view.members == [f"10.0.0.{number}:7000" for number in (1, 2, 3, 4)]
    assert view.preferred == {"a.example:7000", "10.0.0.2:7000"}


@pytest.mark.parametrize("slots", [None, b"", [], [None], [[1, 2]], Exception("NOPERM")])
def test_no_map_of_preferred_names_is_none(slots: object) -> None:
    assert parse_nodes(NODES, "10.0.0.1", slots).preferred == frozenset()


@pytest.mark.parametrize(("tls", "second"), [(True, "b.example:7000"), (False, "10.0.0.2:7000")])
def test_names_are_connected_to_where_they_are_needed(tls: bool, second: str) -> None:
    """With TLS always, else where they are preferred."""
    names = HostNames(tls=tls)
    assert names.endpoint("10.0.0.1:7000") == "10.0.0.1:7000"
    names.learn([parse_nodes(NODES, "10.0.0.1", SLOTS)])
    assert names.endpoint("10.0.0.1:7000") == "a.example:7000"
    assert names.endpoint("10.0.0.2:7000") == second
    assert names.endpoint("10.0.0.4:7000") == "10.0.0.4:7000"


@pytest.mark.parametrize(
    ("place", "address"),
    [
        ("a.example:7000", "10.0.0.1:7000"),
        ("A.Example:7000", "10.0.0.1:7000"),
        ("b.example:7000", "10.0.0.2:7000"),
        ("a.example:7001", "a.example:7001"),
        ("10.0.0.1:7000", "10.0.0.1:7000"),
        ("c.example:7000", "c.example:7000"),
        ("?:7000", "?:7000"),
    ],
)
def test_every_name_leads_back_to_an_address(place: str, address: str) -> None:
    names = HostNames(tls=False)
    names.learn([parse_nodes(NODES, "10.0.0.1", None)])
    assert names.address(place) == address


def test_unnamed_server_is_known_by_its_port_where_no_other_has_it() -> None:
    names = HostNames(tls=False)
    names.learn([View([], ["10.0.0.1:7000", "10.0.0.1:7001"])])
    assert names.address("?:7001") == "10.0.0.1:7001"


def test_name_of_a_server_that_has_gone_is_forgotten() -> None:
    names = HostNames(tls=True)
    names.learn([parse_nodes(NODES, "10.0.0.1", SLOTS)])
    names.learn([View([], ["10.0.0.9:7000"], {"10.0.0.9:7000": "a.example:7000"})])
    assert names.address("a.example:7000") == "10.0.0.9:7000"
    assert names.endpoint("10.0.0.1:7000") == "10.0.0.1:7000"
