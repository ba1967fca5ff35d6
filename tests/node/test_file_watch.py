"""A change of a file counts once all of it has stood still between two looks.

The hub's own certificate follows its files, and half a pair never takes its place.
"""

import asyncio
import os
import shutil
import ssl
from pathlib import Path

import pytest
import structlog

from hub.errors import SettingsError
from hub.node.file_watch import Certificate, FileWatch
from tests.support.certificates import Certificates, is_installed, make_certificates


class Watch:
    """Watches one file and counts what it is told."""

    def __init__(self, *paths: Path) -> None:
        self.changes = 0
        self.watch = FileWatch(paths, self._changed)

    async def _changed(self) -> None:
        self.changes += 1

    async def look(self, times: int = 1) -> int:
        for _ in range(times):
            await self.watch.look()
        return self.changes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written = tmp_path / "keys"
    written.write_text("before")
    return written


async def test_a_file_that_stays_as_it_is_tells_nothing(path: Path) -> None:
    """A look at an unchanged file tells nothing, however often it happens."""
    assert await Watch(path).look(5) == 0


async def test_a_change_is_told_once_it_has_stood_still(path: Path) -> None:
    """The look that sees it first may see half of it."""
    watched = Watch(path)
    path.write_text("after it")
    assert await watched.look() == 0
    assert await watched.look() == 1
    assert await watched.look(3) == 1


async def test_a_file_that_is_still_being_written_is_not_told(path: Path) -> None:
    """Each part puts it off until the next look."""
    watched = Watch(path)
    for size in range(10, 15):
        path.write_text("x" * size)
        assert await watched.look() == 0
    assert await watched.look() == 1


async def test_a_change_of_two_files_is_told_once(path: Path, tmp_path: Path) -> None:
    """A certificate and its key are renewed one after the other."""
    key = tmp_path / "key"
    key.write_text("before")
    watched = Watch(path, key)
    path.write_text("after it")
    assert await watched.look() == 0
    key.write_text("after it")
    assert await watched.look() == 0
    assert await watched.look(3) == 1


async def test_a_file_that_goes_and_one_that_is_put_in_its_place_are_changes(path: Path) -> None:
    """As an editor and a mounted secret do it: another file under the same name."""
    watched = Watch(path)
    path.unlink()
    assert await watched.look(2) == 1
    other = path.with_suffix(".new")
    other.write_text("before")
    os.utime(other, (1, 1))
    other.rename(path)
    assert await watched.look(2) == 2


pytestmark = pytest.mark.skipif(not is_installed(), reason="openssl makes the certificates")


class Served:
    """One certificate of files that can be renewed."""

    def __init__(self, folder: Path) -> None:
        self.logged = structlog.testing.LogCapture()
        self.before = make_certificates(_folder(folder, "before"))
        self.after = make_certificates(_folder(folder, "after"))
        self.cert, self.key = folder / "server.pem", folder / "server.key"
        self.put(self.before)
        log = structlog.wrap_logger(None, processors=[self.logged])
        self.certificate = Certificate(str(self.cert), str(self.key), log)

    def put(self, made: Certificates, *, key: Certificates | None = None) -> None:
        shutil.copy(made.certificate, self.cert)
        shutil.copy((key or made).key, self.key)

    @property
    def events(self) -> list[str]:
        return [entry["event"] for entry in self.logged.entries]

    async def look(self, times: int = 2) -> list[str]:
        for _ in range(times):
            await self.certificate.look()
        return self.events

    async def is_trusted_by(self, made: Certificates) -> bool:
        """Whether a handshake of a client that trusts this authority succeeds."""
        server = await asyncio.start_server(
            lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=self.certificate.context
        )
        port = server.sockets[0].getsockname()[1]
        trusting = ssl.create_default_context(cafile=made.authority)
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        except ssl.SSLError:
            return False
        else:
            writer.close()
            return True
        finally:
            server.close()


def _folder(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


async def test_a_renewed_certificate_is_shown_to_new_handshakes(served: Served) -> None:
    """Once both files have stood still between two looks."""
    served.put(served.after)
    assert await served.look(1) == []
    assert await served.is_trusted_by(served.before)
    assert await served.look(1) == ["tls_certificate_read"]
    assert await served.is_trusted_by(served.after)
    assert not await served.is_trusted_by(served.before)


async def test_a_certificate_whose_key_is_another_one_changes_nothing(served: Served) -> None:
    """The error is logged once, and the hub keeps the old pair until a whole one is there."""
    served.put(served.after, key=served.before)
    assert await served.look(6) == ["tls_certificate_not_read"]
    assert await served.is_trusted_by(served.before)
    served.put(served.after)
    assert await served.look() == ["tls_certificate_not_read", "tls_certificate_read"]
    assert await served.is_trusted_by(served.after)


async def test_a_certificate_that_is_taken_away_is_said_once(served: Served) -> None:
    """Not at each look: a log of the same line every second tells nobody more."""
    served.cert.unlink()
    assert await served.look(6) == ["tls_certificate_not_read"]
    assert await served.is_trusted_by(served.before)


def test_files_that_are_no_pair_are_refused_at_the_start(served: Served, tmp_path: Path) -> None:
    """The error has both names, and what is allowed."""
    with pytest.raises(SettingsError, match=r"HUB_TLS_CERT is .*, HUB_TLS_KEY is .*; allowed: PEM"):
        Certificate(str(tmp_path / "absent.pem"), "", structlog.get_logger())
    with pytest.raises(SettingsError, match="allowed: PEM"):
        Certificate(str(served.cert), str(served.after.key), structlog.get_logger())
