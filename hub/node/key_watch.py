"""Publisher keys read again when the config file changes: no restart, nobody is cut for it.

The file is looked at once a second. One that changed is read when it has stood still for a second,
so that half a file is not taken for a whole one. What cannot be read changes nothing and is said in
the log. Not by a signal: SIGHUP ends a hub, and has workers replaced one by one; and in a container
a file that is mounted anew sends none.

What is set by flag or environment wins over the file, and cannot change while a process runs: then
nothing is watched.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from hub.auth.keys import HeldKey, read_publish_key
from hub.core.counters import Counters
from hub.errors import SettingsError
from hub.settings import Settings
from hub.settings.catalog import Origin
from hub.settings.sources import Layer, file_layer

LOOK_SECONDS = 1.0
_SETTING = "publish_keys"

_Mark = tuple[int, int, int] | None
"""What tells one state of a file from another; None where there is no file."""


def watched_file(settings: Settings) -> Path | None:
    """The file whose publisher keys count, or would if it had some; None where none does."""
    origin = settings.origin_of(_SETTING)
    return settings.config_path if origin in {Origin.FILE, Origin.DEFAULT} else None


class KeyWatch:
    """One per node that has such a file."""

    def __init__(
        self,
        path: Path,
        *,
        replace: Callable[[list[HeldKey]], int],
        counters: Counters,
        log: FilteringBoundLogger,
    ) -> None:
        """`replace` takes the keys from now on; it returns how many sessions that ended."""
        self._path = path
        self._replace = replace
        self._counters = counters
        self._log = log
        self._taken = _mark(path)
        self._seen = self._taken

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Look once; read the file where it has changed and stands still."""
        # In a thread: the file may lie on a disk of the network.
        now = await asyncio.to_thread(_mark, self._path)
        before, self._seen = self._seen, now
        if now == self._taken or now != before:
            return
        self._taken = now
        try:
            keys = await asyncio.to_thread(read_keys, self._path)
        except SettingsError as error:
            self._counters.key_reloads["failed"] += 1
            self._log.warning(
                "publish_keys_not_read",
                reason=error.message[:500],
                message="the keys before it still hold",
            )
            return
        self._counters.key_reloads["read"] += 1
        ended = self._replace(keys)
        self._log.info(
            "publish_keys_read", keys=sorted(key.name for key in keys), sessions_ended=ended
        )


def read_keys(path: Path) -> list[HeldKey]:
    """The publisher keys in a config file; raise `SettingsError`."""
    values = file_layer(path).values
    only = Layer(Origin.FILE, {_SETTING: values.get(_SETTING, ())})
    return [read_publish_key(key.get_secret_value()) for key in Settings(only).publish_keys]


def _mark(path: Path) -> _Mark:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
