"""A ban over brokers that are not Redis: a file outlives the hub, a process serves all workers."""

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import httpx2 as httpx
import jwt
import msgspec
import pytest
import structlog

from hub.auth.bans import Standing, StandingKind
from hub.errors import SettingsError
from hub.node.bans_file import BansFile
from tests.multi_node.fleet import hubs, is_ready
from tests.multi_node.test_subjects import close_code
from tests.multi_node.watcher import SETTINGS, SIGNING, operator, token
from tests.multi_node.workers import BROKER, WorkersHub
from tests.support.hub_process import HubProcess
from tests.support.redis_server import RedisServer, is_installed
from tests.support.waiting import eventually

BAN = {"seconds": 600, "reason": "spam"}


async def test_a_ban_in_a_file_outlives_the_hub(tmp_path: Path) -> None:
    settings = SETTINGS | {"HUB_BROKER": f"sqlite://{tmp_path / 'hub.db'}"}
    with HubProcess(allow_tracebacks=False, **settings) as hub:
        async with operator(hub) as client:
            answer = await client.put("/api/subjects/ann/ban", json=BAN)
            assert answer.status_code == 200
        assert await close_code(hub, "ann") == 4403
    with HubProcess(allow_tracebacks=False, **settings) as hub:
        assert await close_code(hub, "ann") == 4403
        assert await close_code(hub, "bob") == 0
        async with operator(hub) as client:
            assert (await client.delete("/api/subjects/ann/ban")).status_code == 204
    with HubProcess(allow_tracebacks=False, **settings) as hub:
        assert await close_code(hub, "ann") == 0


async def test_a_ban_holds_at_every_worker() -> None:
    """Whichever of them has the handshake."""
    with HubProcess(allow_tracebacks=False, HUB_WORKERS="2", **SETTINGS) as hub:
        async with operator(hub) as client:
            answer = await client.put("/api/subjects/ann/ban", json=BAN)
            assert answer.status_code == 200
        for _ in range(8):
            assert await close_code(hub, "ann") == 4403
        async with operator(hub) as client:
            assert (await client.delete("/api/subjects/ann/ban")).status_code == 204

            async def let_in() -> bool:
                return {await close_code(hub, "ann") for _ in range(6)} == {0}

            await eventually(let_in)


async def revoke_two(hub: HubProcess) -> None:
    """One token by its name, and a subject's older ones."""
    async with operator(hub) as client:
        for body in ({"jti": "t-1"}, {"sub": "bob", "issued_before": time.time() - 50}):
            assert (await client.post("/api/tokens/revoke", json=body)).status_code == 200


async def refused(hub: HubProcess) -> list[int]:
    """Returns the statuses of two revoked tokens, and then of two that are not revoked."""
    now = time.time()
    revoked = [made("ann", jti="t-1"), made("bob", iat=now - 100)]
    others = [made("ann", jti="t-2"), made("bob", iat=now)]
    async with httpx.AsyncClient(base_url=hub.url, timeout=10) as http:
        asked = [f"/poll?channel=news&wait=0&token={each}" for each in revoked + others]
        return [(await http.get(each)).status_code for each in asked]


async def test_revocations_in_a_file_outlive_the_hub(tmp_path: Path) -> None:
    settings = SETTINGS | {"HUB_BROKER": f"sqlite://{tmp_path / 'hub.db'}"}
    with HubProcess(allow_tracebacks=False, **settings) as hub:
        await revoke_two(hub)
        assert await refused(hub) == [401, 401, 200, 200]
    with HubProcess(allow_tracebacks=False, **settings) as hub:
        assert await refused(hub) == [401, 401, 200, 200]


@pytest.mark.skipif(not is_installed(), reason="redis-server is not installed")
async def test_revocations_hold_at_every_node_and_after_all_are_new() -> None:
    with RedisServer() as redis:
        async with hubs(redis.url, 2, **SETTINGS) as (one, two):
            await revoke_two(one)
            assert await refused(one) == [401, 401, 200, 200]

            async def held_back() -> bool:
                return await refused(two) == [401, 401, 200, 200]

            await eventually(held_back)
        async with hubs(redis.url, 1, **SETTINGS) as (later,):
            assert await refused(later) == [401, 401, 200, 200]


async def test_a_worker_that_is_new_knows_who_is_banned_and_what_is_revoked() -> None:
    """Each worker is replaced in turn (SIGHUP): the broker's process keeps what was said."""
    with HubProcess(allow_tracebacks=False, HUB_WORKERS="2", **SETTINGS) as hub:
        async with operator(hub) as client:
            assert (await client.put("/api/subjects/cyd/ban", json=BAN)).status_code == 200
            await revoke_two(hub)
        before = await started(hub)
        hub.signal(signal.SIGHUP)

        async def all_new() -> bool:
            now = await started(hub)
            return len(now) == 2 and not before & now

        await eventually(all_new, seconds=60)
        for _ in range(4):
            assert await close_code(hub, "cyd") == 4403
            assert await refused(hub) == [401, 401, 200, 200]


async def started(hub: HubProcess) -> set[int]:
    """When each worker did; nothing while the one that is asked goes."""
    with contextlib.suppress(httpx.HTTPError):
        async with operator(hub) as client:
            nodes = (await client.get("/api/nodes")).json()["nodes"]
            return {row["started_ms"] for row in nodes if row["worker"]}
    return set()


def made(subject: str, **claims: object) -> str:
    """A token that says more."""
    read = jwt.decode(token(subject), SIGNING, algorithms=["HS256"])
    return jwt.encode(read | claims, SIGNING, algorithm="HS256")


async def test_bans_that_the_memory_broker_forgets_are_kept_in_a_file(tmp_path: Path) -> None:
    """Killed, not stopped: what was answered is on the disk. A lifted ban stays lifted."""
    settings = SETTINGS | {"HUB_BANS_PATH": str(tmp_path / "bans")}
    with HubProcess(allow_tracebacks=False, **settings) as hub:
        async with operator(hub) as client:
            for name in ("cyd", "dan"):
                answer = await client.put(f"/api/subjects/{name}/ban", json=BAN)
                assert answer.status_code == 200
            assert (await client.delete("/api/subjects/dan/ban")).status_code == 204
        await revoke_two(hub)
        hub.kill()
        hub.start()
        assert [await close_code(hub, name) for name in ("cyd", "dan")] == [4403, 0]
        assert await refused(hub) == [401, 401, 200, 200]
    assert (tmp_path / "bans").stat().st_mode & 0o077 == 0


async def test_a_file_that_takes_nothing_is_said_and_the_ban_holds_until_the_node_ends(
    tmp_path: Path,
) -> None:
    """The operator learns that it will be gone then."""
    path = tmp_path / "away" / "bans"
    path.parent.mkdir()
    with HubProcess(allow_tracebacks=False, **SETTINGS, HUB_BANS_PATH=str(path)) as hub:
        path.parent.rmdir()
        async with operator(hub) as client:
            answer = await client.put("/api/subjects/cyd/ban", json=BAN)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert "could not be written" in answer.json()["detail"]
        assert await close_code(hub, "cyd") == 4403


async def test_workers_keep_bans_in_a_file_too(tmp_path: Path) -> None:
    """Said at whichever of them, and all processes end."""
    settings = SETTINGS | {"HUB_BANS_PATH": str(tmp_path / "bans"), "HUB_WORKERS": "2"}
    names = [f"cyd-{number}" for number in range(6)]
    with HubProcess(allow_tracebacks=False, **settings) as hub:
        for name in names:
            async with operator(hub) as client:
                answer = await client.put(f"/api/subjects/{name}/ban", json=BAN)
                assert answer.status_code == 200
        await revoke_two(hub)
        hub.stop()
        hub.start()
        assert [await close_code(hub, name) for name in names] == [4403] * 6
        assert await refused(hub) == [401, 401, 200, 200]


async def test_workers_know_who_is_banned_when_the_broker_process_has_died() -> None:
    """A worker that is started later knows the ban too."""
    with WorkersHub(2, **SETTINGS) as hub:
        async with operator(hub) as client:
            assert (await client.put("/api/subjects/cyd/ban", json=BAN)).status_code == 200

        async def holds() -> bool:
            return {await close_code(hub, "cyd") for _ in range(8)} == {4403}

        await eventually(holds)
        hub.kill_child(BROKER)
        assert await holds()
        await eventually(lambda: is_ready(hub), seconds=30)

        def refusals(number: int) -> int:
            of_one = [line for line in hub.stderr.splitlines() if f'-{number}"' in line]
            return sum('"refused"' in line for line in of_one)

        for number in (1, 2):
            hub.kill_child(number)
            before = refusals(number)

            async def new_one_knows(number: int = number, before: int = before) -> bool:
                # It has refused a token itself. The other one, who told it, may die after that.
                return await holds() and refusals(number) > before

            await eventually(new_one_knows, seconds=90)


async def test_nodes_that_write_one_file_keep_each_other_s_words(tmp_path: Path) -> None:
    """Of two about one name the later one; what has ended is left out."""
    one, two = _file(tmp_path / "bans"), _file(tmp_path / "bans")
    ann, bob, cyd = (Standing(StandingKind.BAN, name, 100, 2000) for name in ("ann", "bob", "cyd"))
    lifted = msgspec.structs.replace(ann, at_ms=101, lifted=True)
    await asyncio.gather(one.write([ann, bob]), two.write([cyd]))
    await two.write([lifted, Standing(StandingKind.BAN, "dan", 100, 1000)])
    await one.write([ann])
    assert sorted(one.read(), key=lambda said: said.name) == [lifted, bob, cyd]


def _file(path: Path) -> BansFile:
    return BansFile(path, structlog.get_logger(), now_ms=lambda: 1000)


def test_a_file_that_cannot_be_read_ends_the_start(tmp_path: Path) -> None:
    """A hub that does not know who is banned lets nobody in."""
    path = tmp_path / "bans"
    for rubbish in (b"rubbish", b'{"kind":"ban","name":"\xff","at_ms":1,"until_ms":2}', b"\x80"):
        path.write_bytes(rubbish)
        with pytest.raises(SettingsError, match="HUB_BANS_PATH"):
            _file(path).read()


def test_a_file_whose_directory_is_missing_ends_the_start(tmp_path: Path) -> None:
    """No ban could be kept there, and nobody would notice before the first."""
    with pytest.raises(SettingsError, match=r"HUB_BANS_PATH: .*directory .* is missing"):
        _file(tmp_path / "missing" / "bans").read()
