"""Fixtures that many tests use, and the order in which several workers run the tests."""

import functools
import gc
import os
import secrets
import ssl
from collections.abc import Generator
from pathlib import Path

import httpcore2
import pytest
from httpx2._config import DEFAULT_TIMEOUT_CONFIG
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.support.waiting import DEADLINE_SECONDS

# What takes longest, first of all: no worker is left with it at the end.
_FIRST = (
    "tests/benchmarks/test_bench.py",
    "tests/multi_node/test_random_",
    "tests/multi_node/",
    "tests/test_container.py",
    "tests/test_packaging.py",
    "tests/test_standard_streams.py",
    "tests/clients/python/test_package.py",
    "tests/chaos/",
    "tests/benchmarks/",
    "tests/brokers/redis/",
    "tests/browser/",
    "tests/k8s/",
    "tests/front/",
    "tests/core/test_node_model.py",
    "tests/cli/",
    "tests/clients/",
    "tests/transports/",
)
# Their tests share nothing, or what takes no time, and each takes long: several workers share them.
_SPREAD = (
    "tests/multi_node/test_random_",
    "tests/benchmarks/test_bench.py",
    "tests/benchmarks/test_scenarios.py",
    "tests/test_packaging.py",
)

# Examples may take their time: the machine may be busy. A search that is to find more than a run of
# all tests has time for sets the variable.
settings.register_profile(
    "hub", deadline=None, max_examples=int(os.environ.get("TESTS_EXAMPLES", "100"))
)
settings.load_profile("hub")


_read_certificates = httpcore2.default_ssl_context


@functools.cache
def _certificates(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """Of those that the environment names, else the system's."""
    return _read_certificates()


def _read_certificates_once(*, _trust_env: bool = True) -> ssl.SSLContext:
    """Share what the tests' own clients trust.

    Reading it takes 20 to 30 ms (measured), and the tests make thousands of clients, of which
    hardly one speaks TLS. What the product reads (`_trust_env=False`) is its own.
    """
    if not _trust_env:
        return _read_certificates(_trust_env=False)
    return _certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


httpcore2.default_ssl_context = _read_certificates_once
# The tests' own clients wait for a hub on a busy machine; what the product's wait, it says itself.
for _part in ("connect", "read", "write", "pool"):
    setattr(DEFAULT_TIMEOUT_CONFIG, _part, DEADLINE_SECONDS)


@pytest.fixture
def channel() -> str:
    """A channel of this test alone, in no namespace."""
    return f"test-{secrets.token_hex(4)}"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from visiting what is collected here, now and in each test.

    A million objects stay to the end: a test's own `gc.collect()` took 0.2 s for them.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have what takes longest begin first, where several workers share the tests."""

    def rank(item: pytest.Item) -> int:
        began = (at for at, start in enumerate(_FIRST) if item.nodeid.startswith(start))
        return next(began, len(_FIRST))

    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=rank)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave the names of all tests for the workers of a later run to compare with."""
    if session.config.option.collectonly and (path := os.environ.get("TESTS_NAMES")):
        Path(path).write_text("".join(f"{item.nodeid}\n" for item in session.items))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(ids: list[str]) -> None:
    """Refuse names that another process, at another second, does not find again.

    Workers compare their names too, but those that begin within one second agree about a name that
    was made of the time.
    """
    if path := os.environ.get("TESTS_NAMES"):
        known = set(Path(path).read_text().splitlines())
        if strange := [name for name in ids if name not in known]:
            pytest.exit(f"names that differ between processes: {strange[:3]}", returncode=4)


class ByFile(LoadFileScheduling):  # type: ignore[misc] # xdist has no types
    """A file stays in one worker, for what its tests share, but for those of `_SPREAD`."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(_SPREAD) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """For `--dist loadfile`."""
    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Leave the names of what failed where `tests/run` looks for them."""
    if (path := os.environ.get("TESTS_FAILED")) is None:
        return
    reports = [*terminalreporter.stats.get("failed", ()), *terminalreporter.stats.get("error", ())]
    names = sorted({report.nodeid for report in reports})
    Path(path).write_text("".join(f"{name}\n" for name in names))
