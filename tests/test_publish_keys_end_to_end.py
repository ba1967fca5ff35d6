"""Publisher keys of a running hub: scoped at every door, and replaced without a restart."""

import asyncio
import time
from functools import partial
from pathlib import Path

import httpx2 as httpx
import jwt
import pytest

from hub import Hub, load_settings
from tests.support.waiting import eventually
from tests.transports.peers import Query, WebSocketPeer, http_client

OLD, NEW, NARROW = "old-key" * 5, "new-key" * 5, "narrow-key" * 4


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def config(file: Path, *keys: str) -> None:
    listed = ", ".join(f'"{key}"' for key in keys)
    file.write_text(f"port = 0\ndrain_seconds = 0\npublish_keys = [{listed}]\n")


async def publish(http: httpx.AsyncClient, channel: str, key: str) -> int:
    answer = await http.post(f"/api/publish/{channel}", json=1, headers=bearer(key))
    return answer.status_code


async def test_a_scoped_key_is_forbidden_elsewhere_at_every_door(tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    config(file, f"{NARROW}=orders:*|stock", OLD)
    async with Hub(load_settings(config_file=file, flags={}, environ={})) as hub:
        async with http_client(base_url=hub.url) as http:
            assert await publish(http, "orders:1", NARROW) == 200
            for _ in range(3):  # also when the head is known
                assert await publish(http, "news", NARROW) == 403
            assert await publish(http, "news", OLD) == 200
            items = [{"channel": "stock", "data": 1}, {"channel": "news", "data": 1}]
            batch = await http.post("/api/publish", json=items, headers=bearer(NARROW))
            assert batch.status_code == 207
            assert [each.get("code") for each in batch.json()] == [None, "forbidden"]
        async with WebSocketPeer(hub.url, Query("stock"), bearer(NARROW)) as peer:
            refused = await peer.command(op="publish", channel="news", data=1)
            assert refused["error"]["code"] == "forbidden"
            assert "ok" in await peer.command(op="publish", channel="orders:2", data=1)


async def test_keys_are_replaced_while_the_hub_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is taken out holds no more, also on connections that have used it for long."""
    monkeypatch.setattr("hub.node.file_watch.LOOK_SECONDS", 0.02)
    file = tmp_path / "hub.toml"
    config(file, OLD)
    async with Hub(load_settings(config_file=file, flags={}, environ={})) as hub:
        async with http_client(base_url=hub.url) as http:
            for _ in range(3):
                assert await publish(http, "news", OLD) == 200
            assert await publish(http, "news", NEW) == 401
            config(file, OLD, NEW)

            async def new_one_holds() -> bool:
                return await publish(http, "news", NEW) == 200

            await eventually(new_one_holds)
            assert await publish(http, "news", OLD) == 200
            async with WebSocketPeer(hub.url, Query("news"), bearer(OLD)) as peer:
                async with WebSocketPeer(hub.url, Query("news"), bearer(NEW)) as other:
                    config(file, NEW)
                    while (push := await peer.push())["op"] != "goodbye":
                        pass
                    assert (push["code"], push["reason"]) == (4401, "the key has been taken out")
                    assert await publish(http, "news", OLD) == 401
                    assert await publish(http, "news", NEW) == 200
                    assert "ok" in await other.command(op="ping")


async def test_a_key_that_stays_is_never_refused_while_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by a file that is half written, nor by one that cannot be read."""
    monkeypatch.setattr("hub.node.file_watch.LOOK_SECONDS", 0.02)
    file = tmp_path / "hub.toml"
    config(file, NARROW, OLD)
    seen: set[int] = set()
    async with Hub(load_settings(config_file=file, flags={}, environ={})) as hub:
        async with http_client(base_url=hub.url) as http:

            async def load() -> None:
                while True:
                    seen.add(await publish(http, "news", NARROW))

            async def holds(key: str) -> bool:
                return await publish(http, "news", key) == 200

            reloads = hub.node.counters.key_reloads
            loading = [asyncio.create_task(load()) for _ in range(4)]
            for key in (NEW, OLD):
                failed = reloads["failed"]
                file.write_text("publish_keys = [")
                await eventually(partial(lambda before: reloads["failed"] > before, failed))
                config(file, NARROW, key)
                await eventually(partial(holds, key))
            assert reloads == {"failed": 2, "read": 2}
            assert not await holds(NEW)
            for task in loading:
                task.cancel()
            await asyncio.gather(*loading, return_exceptions=True)
    assert seen == {200}


async def test_a_key_does_not_make_the_token_beside_it_hold_longer() -> None:
    """All that is sent has to hold, also where the same head has passed before."""
    secret = "s" * 32
    keys = {"publish_keys": OLD, "token_keys": secret, "token_leeway_seconds": "0"}
    flags = {"port": "0", "drain_seconds": "0", **keys}
    async with Hub(load_settings(config_file=None, flags=flags, environ={})) as hub:
        token = jwt.encode({"sub": "ann", "exp": int(time.time()) + 2}, secret)
        headers = {"X-API-Key": OLD, **bearer(token)}
        async with http_client(base_url=hub.url) as http:

            async def status() -> int:
                answer = await http.post("/api/publish/news", json=1, headers=headers)
                return answer.status_code

            assert [await status() for _ in range(3)] == [200] * 3

            async def is_over() -> bool:
                return await status() == 401

            await eventually(is_over)
