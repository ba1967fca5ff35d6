"""The table of threats names tests that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "hub" / "auth" / "README.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`")
# What is shown by nothing that runs: it is no behaviour of the hub.
UNSHOWN = {"SameSite cookies", "no tunnels to other services", "dependencies kept up to date"}


def test_every_test_that_the_table_names_is_there() -> None:
    named = NAMED.findall(README.read_text())
    assert len(named) > 50
    for file, test in named:
        assert (ROOT / file).is_file(), file
        if test:
            assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


def test_every_row_is_shown_by_something() -> None:
    rows = [line for line in README.read_text().splitlines() if line.startswith("| ")]
    threats = [row for row in rows if not row.endswith("| shown by |")]
    unshown = {row.split("|")[1].strip() for row in threats if NAMED.search(row) is None}
    assert unshown == UNSHOWN
