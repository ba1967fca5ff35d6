"""The bans of a node and the file that keeps them, as the settings describe both.

The file (`HUB_BANS_PATH`) keeps bans and revocations of nodes whose broker keeps nothing on disk.
It has one record a line, as a JSON object, and 20,000 records at most: a ban, a revocation, or the
end of one. Each change writes the whole file anew beside the old one, and then renames it: a
process that is killed while it writes leaves the old file. Workers of one machine share the file.
The worker that an operator asks writes it, under a lock beside it, together with the other workers'
records: of two records about one name the later one stays.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from structlog.typing import FilteringBoundLogger

from hub.admin.bans import AccessLog
from hub.auth.bans import Standing, Standings
from hub.core.ports import Broker
from hub.core.registry import SessionRegistry
from hub.errors import SettingsError, UnavailableError
from hub.node.core import Shared
from hub.observe.log_levels import HTTP
from hub.settings import Settings

_LINE = msgspec.json.Decoder(Standing)


class BansFile:
    """Implements `hub.admin.bans.StandingStore`; one per node.

    Args:
        now_ms: milliseconds since 1970 UTC.
    """

    def __init__(self, path: Path, log: FilteringBoundLogger, *, now_ms: Callable[[], int]) -> None:
        self._path = path
        self._now_ms = now_ms
        self._log = log
        self._writing = asyncio.Lock()

    def read(self) -> list[Standing]:
        """Return the records of the file; none where there is no file.

        Raises `SettingsError` where it cannot be read: a node that does not know who is banned
        must not let everybody in.
        """
        try:
            lines = self._path.read_bytes().splitlines()
            return [_LINE.decode(line) for line in lines if line.strip()]
        except FileNotFoundError:
            if self._path.parent.is_dir():
                return []
            missing = f"its directory {self._path.parent} is missing: make it"
            raise SettingsError(f"HUB_BANS_PATH: {self._path}: {missing}") from None
        except (OSError, ValueError, RecursionError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no list of bans"
            raise SettingsError(f"HUB_BANS_PATH: {self._path} cannot be read: {why}") from None

    async def write(self, records: Iterable[Standing]) -> None:
        """Add these records to the file; raise `UnavailableError` where it does not take them."""
        added = tuple(records)
        async with self._writing:
            try:
                await asyncio.to_thread(self._add, added)
            except (OSError, SettingsError) as error:
                why = error.message if isinstance(error, SettingsError) else error.strerror
                self._log.error("bans_not_written", path=str(self._path), reason=why)
                raise UnavailableError(
                    f"it holds until this node ends, and could not be written: {why}"
                ) from None

    def _add(self, records: Iterable[Standing]) -> None:
        known, now_ms = Standings(), self._now_ms()
        with self._path.with_name(f"{self._path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for each in (*self.read(), *records):
                known.merge(each, now_ms)
            self._replace(b"".join(msgspec.json.encode(each) + b"\n" for each in known))

    def _replace(self, text: bytes) -> None:
        beside = self._path.with_name(f"{self._path.name}.new")
        # It holds subjects, so no other user may read it.
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)


def access_log_of(
    settings: Settings,
    shared: Shared,
    *,
    broker: Broker | None,
    registry: Callable[[], SessionRegistry],
) -> AccessLog:
    """Make the bans of a node; `broker` is None where this node alone needs them."""

    def now_ms() -> int:
        return int(shared.wall_clock() * 1000)

    keeps_nothing = settings.broker.startswith("memory:")
    kept = None
    if settings.bans_path and keeps_nothing:
        kept = BansFile(Path(settings.bans_path), shared.log, now_ms=now_ms)
    return AccessLog(
        broker,
        registry,
        now_ms=now_ms,
        log=shared.log.bind(subsystem=HTTP),
        kept=kept,
        ends_with_hub=kept is None and keeps_nothing,
    )
