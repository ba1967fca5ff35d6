"""Keys read again when their files change (`hub.node.file_watch`): publishers', and those that
verify tokens.

What cannot be read changes nothing, is counted and said in the log. What is set by flag or
environment wins over the config file, and cannot change while a process runs: then publishers' keys
are not watched.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from hub.auth.keys import HeldKey, read_publish_key
from hub.core.counters import Counters
from hub.errors import SettingsError
from hub.node.access import PEM, public_keys_of
from hub.node.file_watch import FileWatch
from hub.settings import Settings
from hub.settings.catalog import Origin
from hub.settings.sources import Layer, file_layer

if TYPE_CHECKING:
    from hub.auth.public_keys import PublicKey

_SETTING = "publish_keys"


def watched_file(settings: Settings) -> Path | None:
    """The file whose publisher keys count, or would if it had some; None where none does."""
    origin = settings.origin_of(_SETTING)
    return settings.config_path if origin in {Origin.FILE, Origin.DEFAULT} else None


class KeyWatch(FileWatch):
    """Of publishers' keys; one per node whose config file may have some."""

    def __init__(
        self,
        path: Path,
        *,
        replace: Callable[[list[HeldKey]], int],
        counters: Counters,
        log: FilteringBoundLogger,
    ) -> None:
        """`replace` takes the keys from now on; it returns how many sessions that ended."""
        super().__init__([path], self._read)
        self._path = path
        self._replace = replace
        self._counters = counters
        self._log = log

    async def _read(self) -> None:
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


def key_files(settings: Settings) -> list[Path]:
    """The PEM files of `HUB_TOKEN_PUBLIC_KEYS`; what stands there as text is in no file."""
    return [Path(each) for each in settings.token_public_keys if not each.startswith(PEM)]


class TokenKeyWatch(FileWatch):
    """Of the public keys that verify tokens; one per node that has such files.

    A token whose key was taken out verifies nothing any more; a session that it has opened ends
    with the token, as where a provider takes one out of its set.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        replace: "Callable[[list[PublicKey]], None]",
        counters: Counters,
        log: FilteringBoundLogger,
    ) -> None:
        super().__init__(key_files(settings), self._read)
        self._named = settings.token_public_keys
        self._replace = replace
        self._counters = counters
        self._log = log

    async def _read(self) -> None:
        try:
            keys = await asyncio.to_thread(public_keys_of, self._named)
        except SettingsError as error:
            self._counters.token_key_reloads["failed"] += 1
            self._log.warning(
                "token_public_keys_not_read",
                reason=error.message[:500],
                message="the keys before it still hold",
            )
            return
        self._counters.token_key_reloads["read"] += 1
        self._replace(keys)
        self._log.info("token_public_keys_read", keys=len(keys))
