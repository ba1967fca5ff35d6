"""Whatever comes from outside, what reads it refuses it cleanly or takes it, in bounded memory."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import seeds, targets

# A search that is to find more than a run of all tests has time for sets the variable.
SECONDS = int(os.environ.get("HUB_FUZZ_SECONDS", "4"))
# Beside these, to import what is instrumented and to end: 10 s of one core.
DEADLINE_SECONDS = 600
# Of a process with what Atheris adds to it; the hub's modules alone take 100.
MIB = 1024


def test_every_target_has_seeds() -> None:
    assert {each.__name__ for each in targets.TARGETS} == set(seeds.SEEDS)


@pytest.mark.parametrize("target", targets.TARGETS, ids=lambda target: target.__name__)
@given(st.data())
def test_bytes_that_are_nearly_right_are_taken_or_refused(
    target: Callable[[bytes], None], data: st.DataObject
) -> None:
    """Where Atheris is not to be had: examples, cut and with other bytes in their middle."""
    seed = data.draw(st.sampled_from(seeds.SEEDS[target.__name__]))
    start = data.draw(st.integers(0, len(seed)))
    end = data.draw(st.integers(start, min(len(seed), start + 8)))
    target(seed[:start] + data.draw(st.binary(max_size=8)) + seed[end:])
    target(seed * data.draw(st.integers(1, 3)))


@pytest.mark.parametrize("target", targets.TARGETS, ids=lambda target: target.__name__)
def test_bytes_that_are_deep_or_long_are_taken_or_refused(target: Callable[[bytes], None]) -> None:
    for hole in (b"%b", b"\0%b", *seeds.HOLES.get(target.__name__, ())):
        for extreme in seeds.EXTREMES:
            target(hole.replace(b"%b", extreme))


@pytest.mark.timeout(SECONDS + DEADLINE_SECONDS + 30)
def test_fuzzing_by_coverage_finds_nothing(tmp_path: Path) -> None:
    """No input raises anything but a refusal, takes half a minute, or makes memory grow."""
    pytest.importorskip("atheris", reason="comes with `uv sync --group test` on Linux")
    corpus, said = tmp_path / "corpus", tmp_path / "said"
    corpus.mkdir()
    for number, seed in enumerate(seeds.inputs()):
        (corpus / f"{number}").write_bytes(seed)
    with said.open("w") as output:
        try:
            done = subprocess.run(
                [
                    sys.executable, "-m", "tests.fuzz.by_coverage", f"-max_total_time={SECONDS}",
                    f"-rss_limit_mb={MIB}", "-timeout=30", "-max_len=8192", "-len_control=0",
                    f"-artifact_prefix={tmp_path}/", str(corpus),
                ],
                stdout=output,
                stderr=output,
                check=False,
                cwd=Path(__file__).parents[2],
                timeout=SECONDS + DEADLINE_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            pytest.fail(f"no end: {said.read_text()[-6000:]}")
    assert done.returncode == 0, said.read_text()[-6000:]
