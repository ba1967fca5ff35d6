"""A ban over brokers that are not Redis: a file outlives the hub, a process serves all workers."""

from pathlib import Path

from tests.multi_node.test_subjects import close_code
from tests.multi_node.watcher import SETTINGS, operator
from tests.support.hub_process import HubProcess
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
