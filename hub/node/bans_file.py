"""Bans and revocations in a file (`HUB_BANS_PATH`): of nodes whose broker keeps nothing on disk.

The file has one JSON object a line, and is written anew as a whole for each change, beside itself
and then put in its place: who is cut off while writing leaves the file before it. There are 20,000
words at most, and operators say few of them.

Workers of one machine share the file. Whichever of them an operator asks writes it, under a lock
beside it, with what it has of the others' words: of two about one name the later one stays.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from structlog.typing import FilteringBoundLogger

from hub.auth.bans import Standing, Standings
from hub.errors import SettingsError, UnavailableError
from hub.settings import Settings

_LINE = msgspec.json.Decoder(Standing)


class BansFile:
    """Implements `hub.admin.bans.Kept`; one per node.

    Args:
        now_ms: milliseconds since 1970 UTC.
    """

    def __init__(self, path: Path, log: FilteringBoundLogger, *, now_ms: Callable[[], int]) -> None:
        self._path = path
        self._now_ms = now_ms
        self._log = log
        self._writing = asyncio.Lock()

    def read(self) -> list[Standing]:
        """What the file says; nothing where there is none.

        Raises `SettingsError` where it cannot be read: a node that does not know who is banned
        must not let everybody in.
        """
        try:
            lines = self._path.read_bytes().splitlines()
            return [_LINE.decode(line) for line in lines if line.strip()]
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError, RecursionError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no list of bans"
            raise SettingsError(f"HUB_BANS_PATH: {self._path} cannot be read: {why}") from None

    async def write(self, words: Iterable[Standing]) -> None:
        """Have the file say these too; raise `UnavailableError` where it does not take them."""
        said = tuple(words)
        async with self._writing:
            try:
                await asyncio.to_thread(self._add, said)
            except (OSError, SettingsError) as error:
                why = error.message if isinstance(error, SettingsError) else error.strerror
                self._log.error("bans_not_written", path=str(self._path), reason=why)
                raise UnavailableError(
                    f"it holds until this node ends, and could not be written: {why}"
                ) from None

    def _add(self, said: Iterable[Standing]) -> None:
        known, now_ms = Standings(), self._now_ms()
        with self._path.with_name(f"{self._path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for each in (*self.read(), *said):
                known.merge(each, now_ms)
            self._replace(b"".join(msgspec.json.encode(each) + b"\n" for each in known))

    def _replace(self, text: bytes) -> None:
        beside = self._path.with_name(f"{self._path.name}.new")
        # Subjects stand in it: nobody else's business.
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)


def bans_file(
    settings: Settings, log: FilteringBoundLogger, *, now_ms: Callable[[], int]
) -> BansFile | None:
    """The file that the settings name, where no broker keeps on disk what it has."""
    if not settings.bans_path or not settings.broker.startswith("memory:"):
        return None
    return BansFile(Path(settings.bans_path), log, now_ms=now_ms)
