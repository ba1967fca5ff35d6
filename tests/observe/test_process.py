"""The numbers of the process: the names that the Prometheus library gives them, without a list."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import Metric

from hub.observe.process import ProcessNumbers, open_files


def shapes(families: Iterable[Metric]) -> set[tuple[str, str, str]]:
    return {(each.name, each.type, each.documentation) for each in families}


def test_the_numbers_have_the_names_and_kinds_of_the_library() -> None:
    library = ProcessCollector(registry=CollectorRegistry())
    assert shapes(ProcessNumbers().collect()) == shapes(library.collect())


def test_the_values_are_those_of_the_library() -> None:
    """All but those that another moment changes."""
    fixed = {"process_start_time_seconds", "process_max_fds"}
    library = ProcessCollector(registry=CollectorRegistry())
    own, other = (
        {each.name: each.samples[0].value for each in found.collect() if each.name in fixed}
        for found in (ProcessNumbers(), library)
    )
    assert own == pytest.approx(other)
    assert set(own) == fixed


def test_open_files_are_counted_without_a_list_where_the_system_says_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A list is a step of the loop that grows with the connections."""
    if not Path("/proc/self/fd").stat().st_size:
        pytest.skip("Linux before 6.2 does not say it")
    monkeypatch.setattr(os, "listdir", lambda _: pytest.fail("listed"))
    before = open_files()
    reading, writing = os.pipe()
    try:
        assert open_files() == before + 2
        assert any(each.name == "process_open_fds" for each in ProcessNumbers().collect())
    finally:
        os.close(reading)
        os.close(writing)
