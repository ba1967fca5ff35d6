"""Members are the union over nodes: the first anywhere joins, the last anywhere leaves."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import structlog
from msgspec import structs
from redis import Redis

from hub.brokers.redis.keys import Keys
from hub.brokers.redis.leases import RedisRoster
from hub.brokers.redis.options import RedisOptions
from hub.core.options import ChannelOptions
from hub.core.pushes import Change, Join, Leave, Member, PresenceReset, Update
from hub.errors import HubError, UnavailableError
from tests.brokers.redis.nodes import FAST, TestNode, node
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

NAMESPACES = {"room": ChannelOptions(presence=True)}
ROOM = "room:1"
KEYS = Keys()
ANN, BOB = Member("ann", "c1", "ann"), Member("bob", "c2", "bob")
# Longer than a node needs to renew on a busy machine, and as short as a test likes it.
LEASE_SECONDS = 1.5


@dataclass
class Place:
    """One node with its roster."""

    node: TestNode
    roster: RedisRoster

    @property
    def announced(self) -> list[Change | PresenceReset]:
        return self.node.announced

    async def ids(self, channel: str = ROOM) -> list[str]:
        return [member.id for member in await self.roster.members(channel)]

    async def has_announced(self, *expected: Change | PresenceReset) -> None:
        """Wait for the last of these; then all came, once, in this order, and nothing else."""
        await eventually(lambda: len(self.announced) >= len(expected), what=f"{expected}")
        assert self.announced == list(expected)


@contextlib.asynccontextmanager
async def place(
    redis: RedisServer,
    tag: str,
    *,
    renews: bool = True,
    functions: bool = True,
    options: RedisOptions = FAST,
) -> AsyncGenerator[Place]:
    """A node in the room; it does not renew where it is to die, as it were."""
    tasks: set[asyncio.Task[object]] = set()
    options = replace(options, use_functions=functions)
    async with node(redis.url, options=options, namespaces=NAMESPACES) as one:
        roster = RedisRoster(
            one.broker.shard,
            tag=tag,
            spawn=lambda work: tasks.add(asyncio.ensure_future(work)),
            log=structlog.get_logger(),
            lease_seconds=LEASE_SECONDS,
        )
        await one.is_ready()
        await one.subscribe(ROOM)
        if renews:
            await roster.start()
        yield Place(one, roster)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def join(member: Member) -> Join:
    return Join(ROOM, member)


def leave(member: Member) -> Leave:
    return Leave(ROOM, member)


@pytest.mark.parametrize("functions", [True, False], ids=["functions", "scripts"])
async def test_the_first_on_any_node_joins_and_the_last_leaves(
    redis: RedisServer, functions: bool
) -> None:
    """All nodes hear it, once, whatever comes and goes in between."""
    async with place(redis, "a", functions=functions) as a:
        async with place(redis, "b", functions=functions) as b:
            a.roster.change(ROOM, join(ANN))
            await b.has_announced(join(ANN))
            b.roster.change(ROOM, join(ANN))
            b.roster.change(ROOM, join(BOB))
            await b.has_announced(join(ANN), join(BOB))
            assert await a.ids() == await b.ids() == ["ann", "bob"]
            a.roster.change(ROOM, leave(ANN))
            b.roster.change(ROOM, leave(BOB))
            await b.has_announced(join(ANN), join(BOB), leave(BOB))
            b.roster.change(ROOM, leave(ANN))
            for each in (a, b):
                await each.has_announced(join(ANN), join(BOB), leave(BOB), leave(ANN))
            assert await a.ids() == []


async def test_members_come_with_who_they_are(redis: RedisServer) -> None:
    """A member has the connection and subject that its node gave, and members come in the
    order in which they came."""
    async with place(redis, "a") as a:
        nobody = Member("c9", "c9")
        for member in (BOB, nobody, ANN):
            a.roster.change(ROOM, join(member))
        await a.has_announced(join(BOB), join(nobody), join(ANN))
        assert await a.roster.members(ROOM) == [BOB, nobody, ANN]


async def test_the_leaves_of_a_dead_node_are_announced_once(redis: RedisServer) -> None:
    """The node that renews first after the lease ended announces them; a member that is
    elsewhere too has not left."""
    async with place(redis, "dead", renews=False) as dead:
        async with place(redis, "b") as b, place(redis, "c") as c:
            for member in (ANN, BOB):
                dead.roster.change(ROOM, join(member))
            await c.has_announced(join(ANN), join(BOB))
            cat, dog = Member("cat", "c3"), Member("dog", "c4")
            for roster, member in ((b.roster, BOB), (b.roster, cat), (c.roster, dog)):
                roster.change(ROOM, join(member))
            before = [join(ANN), join(BOB), join(cat), join(dog)]
            await eventually(lambda: len(c.announced) >= len(before))
            assert sorted(await b.ids()) == ["ann", "bob", "cat", "dog"]
            await eventually(lambda: leave(ANN) in b.announced and leave(ANN) in c.announced)
            # Several renewals later nobody has said it again.
            b.roster.change(ROOM, leave(cat))
            for each in (b, c):
                await eventually(partial(_contains, each.announced, leave(cat)))
                left = [change for change in each.announced if isinstance(change, Leave)]
                assert left == [leave(ANN), leave(cat)]
            assert sorted(await c.ids()) == ["bob", "dog"]


@pytest.mark.parametrize("functions", [True, False], ids=["functions", "scripts"])
async def test_a_full_redis_still_knows_who_is_there_and_who_leaves(
    redis: RedisServer, functions: bool
) -> None:
    """Otherwise leases would end, and members that are there would seem to have left."""
    async with place(redis, "a", functions=functions) as a:
        a.roster.change(ROOM, join(ANN))
        a.roster.change(ROOM, join(BOB))
        await a.has_announced(join(ANN), join(BOB))
        redis.ask("CONFIG", "SET", "maxmemory", "1")
        a.roster.change(ROOM, leave(BOB))
        await a.has_announced(join(ANN), join(BOB), leave(BOB))
        with Redis(port=redis.port, protocol=2) as client:
            until = client.zscore(Keys().leases(ROOM), "a")
            await eventually(
                lambda: client.zscore(Keys().leases(ROOM), "a") > until + LEASE_SECONDS * 1000,
                what="several renewals",
            )
        assert await a.ids() == ["ann"]
        assert a.announced == [join(ANN), join(BOB), leave(BOB)]


async def test_asking_does_not_show_who_was_on_a_dead_node(redis: RedisServer) -> None:
    """They are not shown even if no node renews, and so none is left that
    could be told of a leave."""
    async with place(redis, "dead", renews=False) as dead:
        dead.roster.change(ROOM, join(ANN))
        await dead.has_announced(join(ANN))
        assert await dead.ids() == ["ann"]

        async def nobody() -> bool:
            return not await dead.ids()

        await eventually(nobody)
        await dead.has_announced(join(ANN))


@pytest.mark.parametrize("functions", [True, False], ids=["functions", "scripts"])
@pytest.mark.parametrize("first", ["asks", "joins", "renews"])
@pytest.mark.parametrize("ended", ["all", "one"])
async def test_the_first_member_after_redis_stood_still_makes_nobody_leave(
    redis: RedisServer, functions: bool, first: str, ended: str
) -> None:
    """Nobody could renew meanwhile, and of two leases one may have ended and the other nearly."""
    async with (
        place(redis, "a", renews=False, functions=functions) as a,
        place(redis, "b", renews=False, functions=functions) as b,
        place(redis, "c", renews=False, functions=functions) as c,
    ):
        a.roster.change(ROOM, join(ANN))
        await b.has_announced(join(ANN))
        b.roster.change(ROOM, join(BOB))
        await a.has_announced(join(ANN), join(BOB))
        nearly = now_ms(redis) + int(LEASE_SECONDS * 1000 / 3)
        redis.ask("ZADD", Keys().leases(ROOM), "XX", str(nearly if ended == "one" else 1), "a")
        redis.ask("ZADD", Keys().leases(ROOM), "XX", "1", "b")
        everybody = ["ann", "bob"]
        if first == "joins":
            cat = Member("cat", "c3")
            c.roster.change(ROOM, join(cat))
            await c.has_announced(join(ANN), join(BOB), join(cat))
            everybody.append("cat")
        elif first == "renews":
            await a.roster._renew(ROOM)
        assert await c.ids() == everybody
        for each in (a, b):
            await each.roster._renew(ROOM)
        assert await c.ids() == everybody
        for each in (a, b, c):
            assert not [said for said in each.announced if isinstance(said, Leave)]


def now_ms(redis: RedisServer) -> int:
    """By its clock, since 1970."""
    with Redis(port=redis.port, protocol=2) as client:
        seconds, microseconds = client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def test_members_that_redis_forgot_are_told_to_it_again(redis: RedisServer) -> None:
    """The nodes tell Redis at the next renewal."""
    async with place(redis, "a") as a:
        a.roster.change(ROOM, join(ANN))
        await a.has_announced(join(ANN))
        redis.ask("FLUSHALL")

        async def ann_is_back() -> bool:
            return await a.ids() == ["ann"]

        await eventually(ann_is_back)


async def test_members_that_redis_did_not_hear_of_are_told_to_it_later(redis: RedisServer) -> None:
    """A leave that got lost while Redis was away, and a join; asking fails meanwhile."""
    async with place(redis, "a") as a:
        a.roster.change(ROOM, join(ANN))
        await a.has_announced(join(ANN))
        redis.kill()
        await eventually(lambda: a.node.broker.problems())
        a.roster.change(ROOM, join(BOB))
        a.roster.change(ROOM, leave(ANN))
        with pytest.raises(UnavailableError) as refused:
            await a.roster.members(ROOM)
        assert str(redis.port) not in str(refused.value), "members need not know where Redis is"
        redis.restart()

        async def only_bob() -> bool:
            with contextlib.suppress(UnavailableError):
                return await a.ids() == ["bob"]
            return False

        await eventually(only_bob)


async def test_a_lost_last_leave_is_told_when_somebody_comes(redis: RedisServer) -> None:
    """The next member renews the lease, but not the word on the one before."""
    async with place(redis, "a") as a:
        a.roster.change(ROOM, join(ANN))
        await a.has_announced(join(ANN))
        redis.ask("FUNCTION", "FLUSH")
        redis.ask("SCRIPT", "FLUSH")
        a.roster.change(ROOM, leave(ANN))
        await eventually(partial(_publishes, a.node))
        a.roster.change(ROOM, join(BOB))

        async def only_bob() -> bool:
            return await a.ids() == ["bob"]

        await eventually(only_bob)
        await a.has_announced(join(ANN), join(BOB), leave(ANN))


async def test_a_refresh_takes_back_what_the_node_did_not_say(redis: RedisServer) -> None:
    """After a failover Redis may have forgotten a leave: the node's word counts as a whole."""
    async with place(redis, "a") as a, place(redis, "a", renews=False) as former:
        former.roster.change(ROOM, join(ANN))
        await a.has_announced(join(ANN))
        a.roster.change(ROOM, join(BOB))
        a.roster.refresh(ROOM)
        await a.has_announced(join(ANN), join(BOB), leave(ANN))
        assert await a.ids() == ["bob"]


async def test_a_cut_connection_resets_presence_where_it_is_kept(redis: RedisServer) -> None:
    """The leaves and joins that were missed are unknown, so the room is reset; a channel
    without presence gets nothing."""
    async with place(redis, "a") as a:
        await a.node.subscribe("plain")
        redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await a.has_announced(PresenceReset(ROOM))


async def test_presence_leaves_nothing_behind(redis: RedisServer) -> None:
    """Both keys expire, also when every node dies."""
    async with place(redis, "a", renews=False) as a:
        a.roster.change(ROOM, join(ANN))
        await a.has_announced(join(ANN))
        for key in _keys():
            assert int(redis.ask("PTTL", key)[1:]) > 0


async def _publishes(node: TestNode) -> bool:
    with contextlib.suppress(HubError):
        return (await node.publish(ROOM, 1)).offset > 0
    return False


def _contains(announced: Sequence[object], change: Leave) -> bool:
    return change in announced


def _keys() -> Iterator[str]:
    yield f"hub:{{{ROOM}}}:here"
    yield f"hub:{{{ROOM}}}:leases"


@pytest.mark.parametrize("functions", [True, False], ids=["functions", "scripts"])
async def test_many_members_are_read_in_parts_and_each_is_told_once(
    redis: RedisServer, functions: bool
) -> None:
    """They come in the order in which they came, and no answer of Redis is larger than a part."""
    everybody = [Member(f"member-{n:05}", f"c{n}", f"member-{n:05}") for n in range(3000)]
    # So many calls at once take a busy machine longer than `FAST` waits for an answer, and for its
    # canary: a join is then told once more at another place, and what is on its way may be missed.
    patient = replace(FAST, command_timeout_seconds=20.0, canary_deadline_seconds=20.0)
    async with place(redis, "one", functions=functions, options=patient) as one:
        for member in everybody:
            one.roster.change(ROOM, Join(ROOM, member))
        await eventually(lambda: len(one.announced) == len(everybody), seconds=20)
        sizes: list[int] = []
        run = one.roster._run

        async def measured(*asked: Any) -> object:
            answer = await run(*asked)
            sizes.append(len(str(answer)))
            return answer

        one.roster._run = measured  # type: ignore[method-assign,assignment]  # how large an answer is
        assert await one.roster.members(ROOM) == everybody
    assert len(sizes) >= 5
    assert max(sizes) < 200_000


async def test_reading_members_of_a_room_that_nobody_entered_makes_nothing(
    redis: RedisServer,
) -> None:
    async with place(redis, "one") as one:
        assert await one.ids("room:2") == []
        with Redis(port=redis.port, protocol=2) as client:
            assert client.keys("hub:{room:2}*") == []


@pytest.mark.parametrize("functions", [True, False], ids=["functions", "scripts"])
async def test_leases_that_ended_together_make_nobody_leave(
    redis: RedisServer, functions: bool
) -> None:
    """As where Redis stood still, its clock was set, or the machine slept: all nodes are there, and
    the first one that renews judges nobody."""
    async with (
        place(redis, "a", functions=functions) as a,
        place(redis, "b", functions=functions) as b,
    ):
        a.roster.change(ROOM, join(ANN))
        await b.has_announced(join(ANN))
        b.roster.change(ROOM, join(BOB))
        await a.has_announced(join(ANN), join(BOB))
        leases = Keys().leases(ROOM)
        for _ in range(3):
            redis.ask("ZADD", leases, "XX", "1", "a", "1", "b")
            # Both renew within this time, one after the other.
            await asyncio.sleep(LEASE_SECONDS / 2)
        await asyncio.sleep(2 * LEASE_SECONDS)
        assert await a.ids() == await b.ids() == ["ann", "bob"]
        for each in (a, b):
            assert not [said for said in each.announced if isinstance(said, Leave)]


@pytest.mark.parametrize("functions", [True, False], ids=["functions", "scripts"])
async def test_the_last_word_of_a_member_counts_whichever_node_told_it(
    redis: RedisServer, *, functions: bool
) -> None:
    """An older word of another node, or the same again, changes nothing."""
    older, newer = (structs.replace(ANN, data=b'{"n":%d}' % n, said_ms=n) for n in (1, 2))
    newest = structs.replace(ANN, data='"\u00e9\\n"'.encode(), said_ms=3)
    async with (
        place(redis, "a", functions=functions) as a,
        place(redis, "b", functions=functions) as b,
    ):
        b.roster.change(ROOM, join(newer))
        await a.has_announced(join(newer))
        a.roster.change(ROOM, join(older))
        await eventually(lambda: bool(a.roster._here))
        assert await b.roster.members(ROOM) == [newer]
        b.roster.change(ROOM, Update(ROOM, newest))
        await a.has_announced(join(newer), Update(ROOM, newest))
        a.roster.refresh(ROOM)
        assert await a.roster.members(ROOM) == [newest]
        b.roster.change(ROOM, leave(newest))
        a.roster.change(ROOM, leave(older))
        await a.has_announced(join(newer), Update(ROOM, newest), leave(newest))


async def test_members_who_say_much_come_in_pages_bounded_in_bytes(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what is told nor what is asked for is much more than a page."""
    data = b'"' + b"x" * 4000 + b'"'
    said = [Member(f"m{number:03}", "c", None, data, 1) for number in range(200)]
    sizes: list[int] = []
    async with place(redis, "one") as one, place(redis, "two") as two:
        run = RedisRoster._run

        async def noted(roster: RedisRoster, function: str, channel: str, *rest: Any) -> object:
            answer = await run(roster, function, channel, *rest)
            asked = sum(len(each) for each in rest if isinstance(each, bytes))
            sizes.append(asked + sum(map(len, answer[1])) if isinstance(answer, list) else asked)
            return answer

        monkeypatch.setattr(RedisRoster, "_run", noted)
        for member in said:
            one.roster.change(ROOM, Join(ROOM, member))
        await eventually(lambda: len(sizes) == len(said))
        assert sorted(await two.ids()) == [member.id for member in said]
        redis.ask("DEL", KEYS.here(ROOM))
        one.roster.refresh(ROOM)
        await eventually(lambda: one.ids())
        await eventually(lambda: _all_there(two, said))
        assert max(sizes) < 300_000


async def _all_there(one: Place, said: Sequence[Member]) -> bool:
    return len(await one.ids()) == len(said)


async def test_members_that_have_gone_are_withdrawn_when_all_are_told_anew(
    redis: RedisServer,
) -> None:
    """A member that another node still reports stays."""
    async with place(redis, "one") as one, place(redis, "two") as two:
        one.roster.change(ROOM, Join(ROOM, ANN))
        one.roster.change(ROOM, Join(ROOM, BOB))
        two.roster.change(ROOM, Join(ROOM, BOB))
        await eventually(lambda: _all_there(two, [ANN, BOB]))
        # As if Redis had not heard that they left.
        one.roster._here[ROOM] = {"eve": Member("eve", "c3", None)}
        one.roster.refresh(ROOM)

        async def settled() -> bool:
            return sorted(await two.ids()) == ["bob", "eve"]

        await eventually(settled)
        one.roster.change(ROOM, Leave(ROOM, Member("eve", "c3", None)))
        two.roster.change(ROOM, Leave(ROOM, BOB))
        await eventually(lambda: _all_there(two, []))


async def test_a_member_of_a_later_version_is_listed_and_one_that_cannot_be_read_left_out(
    redis: RedisServer,
) -> None:
    """In the middle of a roll-out nobody's list fails for what another node knows more."""
    async with place(redis, "one") as one:
        one.roster.change(ROOM, Join(ROOM, ANN))
        await eventually(lambda: _all_there(one, [ANN]))
        for id_, member in (
            ("new", b'["new","c",null,"1",5,{"more":true}]'),
            ("newer", b'["newer","c",null,null,null,7]'),
            ("other", b'{"another":"shape"}'),
        ):
            redis.ask("HSET", KEYS.here(ROOM), id_, b"one 1\n" + b"9\n" + member)
        await eventually(lambda: _all_there(one, [ANN, ANN, ANN]))
        members = {member.id: member.data for member in await one.roster.members(ROOM)}
        assert members == {"ann": None, "new": b"1", "newer": None}
