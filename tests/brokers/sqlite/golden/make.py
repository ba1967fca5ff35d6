"""Makes the history file that a test opens once its format is an older one.

    python -m tests.brokers.sqlite.golden.make FILE

writes FILE, and beside it FILE.json with what it holds. Run it with the last code of a format,
before the format changes.
"""

import asyncio
import json
import sys
from pathlib import Path

from hub.core.ports import PublishRequest
from hub.core.publication import REMOVES
from tests.brokers.sqlite.nodes import StoredNode

CHANNELS = ("a", "long:a", "none:a", "rows:a", "table:a")
KEYED = ("rows:a", "table:a")


async def fill(node: StoredNode) -> None:
    """Publish with every field, in every kind of channel, in many commits and in large ones."""
    full = PublishRequest(
        "a", b'{"b":"\xc3\xa9\\n"}', "p", key="k", sender="ann", skip_connection="c", trace="t"
    )
    for number in range(7):
        await node.broker.publish(full)
        await node.publish("none:a", idempotency_key=f"none {number}")
    await node.stored.publish_many([PublishRequest("long:a", b"%d" % n, "p") for n in range(150)])
    for key in "abcdef":
        for name in KEYED:
            await node.publish(name, b'"%b"' % key.encode(), key=key, idempotency_key=f"i {key}")
    await node.publish("rows:a", b"null", key="b", marks=REMOVES)
    await node.publish("forgotten")
    node.forget("forgotten")
    await node.publish("a", b'"last"', idempotency_key="i")


async def content(node: StoredNode) -> dict[str, object]:
    """Return heads, publications, and rows, as plain JSON."""
    found: dict[str, object] = {}
    for name in CHANNELS:
        page = await node.history(name, 0, 1000)
        publications = [
            [each.offset, each.data.decode(), each.key, each.sender, each.skip_connection,
             each.trace, each.time_ms]
            for each in page.publications
        ]  # fmt: skip
        rows = {}
        if name in KEYED:
            rows = {k: [n, data.decode()] for k, (n, data) in (await node.rows(name)).items()}
        found[name] = {
            "head": [page.head.epoch, page.head.offset],
            "oldest": page.oldest,
            "publications": publications,
            "rows": rows,
        }
    found["forgotten"] = (await node.history("forgotten")).head.epoch
    return found


async def make(path: Path) -> None:
    async with StoredNode(path) as node:
        await fill(node)
    async with StoredNode(path, clock=node.clock) as node:
        holds = await content(node)
    path.with_suffix(".json").write_text(json.dumps(holds, sort_keys=True) + "\n")


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1])))
