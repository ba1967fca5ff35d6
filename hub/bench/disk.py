"""The disk's floor: a bare loop that inserts rows into SQLite and commits, with fsync each time.

The sqlite rows of `hub bench --intake` are compared with it. It runs in a process of its own, on
the node's core:

    python -m hub.bench.disk DIRECTORY ROWS SECONDS

prints rows/s and the CPU of each in microseconds.
"""

import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from hub.bench.greetings import payload


def commit_for(directory: str, rows: int, seconds: float) -> tuple[float, float, float]:
    """Commit so many rows of 200 bytes at a time.

    Returns rows/s, CPU microseconds of each, and the share of a core.
    """
    data = [(payload(0, 200),)] * rows
    with (
        tempfile.TemporaryDirectory(dir=directory) as inside,
        closing(sqlite3.connect(Path(inside) / "floor.db", isolation_level=None)) as db,
    ):
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE publication (id INTEGER PRIMARY KEY, data BLOB)")
        made, cpu, began = 0, time.process_time(), time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            db.execute("BEGIN")
            db.executemany("INSERT INTO publication (data) VALUES (?)", data)
            db.execute("COMMIT")
            made += rows
        spent = time.process_time() - cpu
    return made / elapsed, spent / made * 1e6, spent / elapsed


def measured(rows: int, seconds: float) -> tuple[float, float, float]:
    """`commit_for` in another process, in the directory for temporary files (TMPDIR)."""
    command = (
        sys.executable, "-m", "hub.bench.disk", tempfile.gettempdir(), str(rows), str(seconds),
    )  # fmt: skip
    told = subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - the interpreter
    per_second, microseconds, share = json.loads(told.stdout)
    return float(per_second), float(microseconds), float(share)


if __name__ == "__main__":
    print(json.dumps(commit_for(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))  # noqa: T201
