"""Keys read again when their files change (`hub.node.file_watch`): publishers', and those that
verify tokens.

What cannot be read changes nothing, is counted and said in the log. What is set by flag or
environment wins over the config file, and cannot change while a process runs: then publishers' keys
are not watched.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from structlog.typing import FilteringBoundLogger

from hub.auth.keys import HeldKey, read_publish_key
from hub.core.counters import Counters, Counts
from hub.errors import SettingsError
from hub.node.access import PEM, public_keys_of
from hub.node.file_watch import FileWatch
from hub.settings import Settings
from hub.settings.catalog import Origin
from hub.settings.sources import Layer, file_layer

if TYPE_CHECKING:
    from hub.auth.public_keys import PublicKey

_SETTING = "publish_keys"

_KeyT = TypeVar("_KeyT")


def watched_file(settings: Settings) -> Path | None:
    """The file whose publisher keys count, or would if it had some; None where none does."""
    origin = settings.origin_of(_SETTING)
    return settings.config_path if origin in {Origin.FILE, Origin.DEFAULT} else None


class _KeyWatch(FileWatch, Generic[_KeyT]):
    """Reads keys of some kind again and hands them on.

    Args:
        name: of the setting that they are of, and of the log's lines.
        read: gives the keys, in a thread; raises `SettingsError` where they cannot be read.
        take: uses them from now on; what it returns is logged.
        reloads: counts what was `read` and what `failed`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        name: str,
        read: Callable[[], list[_KeyT]],
        take: Callable[[list[_KeyT]], dict[str, object]],
        reloads: Counts,
        log: FilteringBoundLogger,
    ) -> None:
        super().__init__(paths, self._read_again)
        self._name = name
        self._read = read
        self._take = take
        self._reloads = reloads
        self._log = log

    async def _read_again(self) -> None:
        try:
            keys = await asyncio.to_thread(self._read)
        except SettingsError as error:
            self._reloads["failed"] += 1
            self._log.warning(
                f"{self._name}_not_read",
                reason=error.message[:500],
                message="the keys before it still hold",
            )
            return
        self._reloads["read"] += 1
        self._log.info(f"{self._name}_read", **self._take(keys))


class KeyWatch(_KeyWatch[HeldKey]):
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

        def take(keys: list[HeldKey]) -> dict[str, object]:
            ended = replace(keys)
            return {"keys": sorted(key.name for key in keys), "sessions_ended": ended}

        super().__init__(
            [path],
            name=_SETTING,
            read=lambda: read_keys(path),
            take=take,
            reloads=counters.key_reloads,
            log=log,
        )


def read_keys(path: Path) -> list[HeldKey]:
    """The publisher keys in a config file; raise `SettingsError`."""
    values = file_layer(path).values
    only = Layer(Origin.FILE, {_SETTING: values.get(_SETTING, ())})
    return [read_publish_key(key.get_secret_value()) for key in Settings(only).publish_keys]


def key_files(settings: Settings) -> list[Path]:
    """The PEM files of `HUB_TOKEN_PUBLIC_KEYS`; what stands there as text is in no file."""
    return [Path(each) for each in settings.token_public_keys if not each.startswith(PEM)]


class TokenKeyWatch(_KeyWatch["PublicKey"]):
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
        named = settings.token_public_keys

        def take(keys: "list[PublicKey]") -> dict[str, object]:
            replace(keys)
            return {"keys": len(keys)}

        super().__init__(
            key_files(settings),
            name="token_public_keys",
            read=lambda: public_keys_of(named),
            take=take,
            reloads=counters.token_key_reloads,
            log=log,
        )
