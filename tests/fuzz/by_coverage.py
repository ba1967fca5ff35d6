"""A program: Atheris looks for an input that a target does not take well, led by what runs.

    uv run python -m tests.fuzz.by_coverage -max_total_time=600 /tmp/corpus

Its arguments are libFuzzer's. A directory keeps what was found to lead somewhere new; an input
that fails is a file beside it, and given as the argument it is run again.
"""

import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["hub"]):
    targets: Any = __import__("tests.fuzz.targets", fromlist=["run"])


if __name__ == "__main__":
    atheris.Setup(sys.argv, targets.run)
    atheris.Fuzz()
