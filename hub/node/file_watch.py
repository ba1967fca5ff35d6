"""Files that are read again when they change: no restart, nobody is cut for it.

Publishers' keys, keys that verify tokens and the hub's own certificate are followed here
(`hub.node.key_watch`, `hub.node.tls`). Files are looked at once a second. What changed is read when
all of it has stood still for a second, so that half a file is not taken for a whole one. Not by a
signal: SIGHUP ends a hub, and has workers replaced one by one; and in a container a file that is
mounted anew sends none.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

LOOK_SECONDS = 1.0

_Mark = tuple[int, int, int] | None
"""What tells one state of a file from another; None where there is no file."""


class FileWatch:
    """Calls `changed` once for each change of any of `paths`; it raises nothing."""

    def __init__(self, paths: Sequence[Path], changed: Callable[[], Awaitable[None]]) -> None:
        self._paths = tuple(paths)
        self._changed = changed
        self._taken = self._marks()
        self._seen = self._taken

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Look once."""
        # In a thread: a file may lie on a disk of the network.
        now = await asyncio.to_thread(self._marks)
        before, self._seen = self._seen, now
        if now == self._taken or now != before:
            return
        self._taken = now
        await self._changed()

    def _marks(self) -> tuple[_Mark, ...]:
        return tuple(map(_mark, self._paths))


def _mark(path: Path) -> _Mark:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
