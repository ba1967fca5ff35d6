"""Files that are read again when they change: the hub's own certificate, and keys.

No restart is needed, and no connection is cut for it. `FileWatch` looks at its files once a
second. A change is read when all files of it have stood still for a second, so that half a file is
not taken for a whole one. It does not wait for a signal: SIGHUP ends a hub, and has workers
replaced one by one; and in a container a file that is mounted anew sends none.

A file that cannot be read changes nothing, and the log says so. `Certificate` is the hub's own TLS.
`KeyWatch` has publishers' keys of the config file, `TokenKeyWatch` the keys that verify tokens.
Publishers' keys set by flag or environment win over the config file, and cannot change while a
process runs: then the file is not watched.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from structlog.typing import FilteringBoundLogger

from hub.auth.keys import HeldKey, read_publish_key
from hub.core.counters import Counters, Counts
from hub.errors import SettingsError
from hub.node.access import PEM, public_keys_of
from hub.settings import Settings
from hub.settings.catalog import ValueSource
from hub.settings.sources import Layer, file_layer

if TYPE_CHECKING:
    from hub.auth.public_keys import PublicKey

LOOK_SECONDS = 1.0

_Mark = tuple[int, int, int] | None
"""Time of the last change, size and inode of a file; None where there is no file."""


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


class Certificate(FileWatch):
    """The certificate of a listener, in one context that follows its files.

    A change counts once both files have stood still for a second: a renewal writes one after the
    other. Handshakes that begin then get the new certificate; connections that stand keep theirs.

    Versions and ciphers are those that Python's `ssl.create_default_context` chooses for servers:
    TLS 1.2 with forward secrecy, and 1.3. ALPN offers `http/1.1` alone: HTTP/2 and 3 are a proxy's
    work. The deadline of a handshake is the listener's (`HUB_HANDSHAKE_TIMEOUT_SECONDS`).
    """

    def __init__(self, cert: str, key: str, log: FilteringBoundLogger) -> None:
        """Read the files; raise `SettingsError` where they are no certificate and its key."""
        self._files = (cert, key or cert)
        self._log = log
        super().__init__([Path(each) for each in self._files], self._read_again)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        try:
            self._load(self.context)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"HUB_TLS_CERT is {cert}, HUB_TLS_KEY is {key or cert}: {_reason(error)}; allowed:"
                " PEM files that the hub may read, a certificate with its chain and its private key"
                " without a passphrase"
            ) from None

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(*self._files, password=_no_passphrase)

    async def _read_again(self) -> None:
        """Take the new certificate; the old one stays where that fails."""
        try:
            await asyncio.to_thread(self._reload)
        except (OSError, ValueError) as error:
            self._log.error("tls_certificate_not_read", reason=_reason(error))
        else:
            self._log.info("tls_certificate_read", file=self._files[0])

    def _reload(self) -> None:
        # Tried apart: a context that has read half a pair serves nobody.
        self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        self._load(self.context)


def _no_passphrase() -> str:
    """OpenSSL would ask on the terminal, and the start would wait for ever."""
    raise ValueError("the key has a passphrase")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "they cannot be read"
    return (isinstance(error, OSError) and error.strerror) or str(error)


_SETTING = "publish_keys"

_KeyT = TypeVar("_KeyT")


def watched_file(settings: Settings) -> Path | None:
    """Return the config file, where its publishers' keys count; None where they do not."""
    origin = settings.origin_of(_SETTING)
    return settings.config_path if origin in {ValueSource.FILE, ValueSource.DEFAULT} else None


class _KeyWatch(FileWatch, Generic[_KeyT]):
    """Reads keys of some kind again and hands them on.

    Args:
        name: of the setting that they are of, and of the log's lines.
        read: returns the keys, in a thread; raises `SettingsError` where they cannot be read.
        take: uses them from now on; returns fields for the log.
        reloads: counts by `read` and `failed`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        name: str,
        read: Callable[[], list[_KeyT]],
        take: Callable[[list[_KeyT]], Awaitable[dict[str, object]]],
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
        self._log.info(f"{self._name}_read", **await self._take(keys))


class KeyWatch(_KeyWatch[HeldKey]):
    """Follows publishers' keys; one per node whose config file may have some."""

    def __init__(
        self,
        path: Path,
        *,
        replace: Callable[[list[HeldKey]], Awaitable[int]],
        counters: Counters,
        log: FilteringBoundLogger,
    ) -> None:
        """`replace` uses the keys from now on; it returns how many sessions that ended."""

        async def take(keys: list[HeldKey]) -> dict[str, object]:
            ended = await replace(keys)
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
    """Return the publishers' keys in a config file; raise `SettingsError`."""
    values = file_layer(path).values
    only = Layer(ValueSource.FILE, {_SETTING: values.get(_SETTING, ())})
    return [read_publish_key(key.get_secret_value()) for key in Settings(only).publish_keys]


def key_files(settings: Settings) -> list[Path]:
    """Return the PEM files of `HUB_TOKEN_PUBLIC_KEYS`; keys given as text are in no file."""
    return [Path(each) for each in settings.token_public_keys if not each.startswith(PEM)]


class TokenKeyWatch(_KeyWatch["PublicKey"]):
    """Follows the public keys that verify tokens; one per node that has such files.

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
        async def take(keys: "list[PublicKey]") -> dict[str, object]:
            replace(keys)
            return {"keys": len(keys)}

        super().__init__(
            key_files(settings),
            name="token_public_keys",
            read=lambda: public_keys_of(settings),
            take=take,
            reloads=counters.token_key_reloads,
            log=log,
        )
