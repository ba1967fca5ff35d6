"""The disk's floor: a bare loop that inserts rows into SQLite and commits, with fsync each time.

The sqlite rows of `hub bench --intake` are compared with it. It runs in a process of its own, on
the node's core:

    python -m hub.bench.disk DIRECTORY ROWS SECONDS

prints the rows, and the seconds that they took: of time, of CPU, and of waiting for a core.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from hub.bench.greetings import payload
from hub.bench.meter import ProcessMeter, Usage
from hub.bench.plan import BenchError


def commit_for(directory: str, rows: int, seconds: float) -> tuple[int, float, Usage]:
    """Commit so many rows of 200 bytes at a time; return all rows, their seconds and the usage."""
    data = [(payload(0, 200),)] * rows
    with (
        tempfile.TemporaryDirectory(dir=directory) as inside,
        closing(sqlite3.connect(Path(inside) / "floor.db", isolation_level=None)) as db,
    ):
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE publication (id INTEGER PRIMARY KEY, data BLOB)")
        meter = ProcessMeter(os.getpid())
        made, before, began = 0, meter.usage(), time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            db.execute("BEGIN")
            db.executemany("INSERT INTO publication (data) VALUES (?)", data)
            db.execute("COMMIT")
            made += rows
        usage = meter.usage().since(before)
    return made, elapsed, usage


def measured(rows: int, seconds: float) -> tuple[int, float, Usage]:
    """`commit_for` in another process, in the directory for temporary files (TMPDIR).

    Raises:
        BenchError: The disk is full, or cannot be written.
        KeyboardInterrupt: Ctrl-C ended it. The signal went to all processes of the terminal.
    """
    command = (
        sys.executable, "-m", "hub.bench.disk", tempfile.gettempdir(), str(rows), str(seconds),
    )  # fmt: skip
    told = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - the interpreter
    # An interpreter that has not begun yet ends with 1.
    if told.returncode == -signal.SIGINT or "KeyboardInterrupt" in told.stderr:
        raise KeyboardInterrupt
    if told.returncode:
        why = (told.stderr.strip() or f"it ended with {told.returncode}").splitlines()[-1]
        raise BenchError(f"the bare SQLite loop in {tempfile.gettempdir()} failed: {why}")
    made, elapsed, usage = json.loads(told.stdout)
    return made, elapsed, Usage(**usage)


if __name__ == "__main__":
    made, elapsed, usage = commit_for(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    print(json.dumps([made, elapsed, asdict(usage)]))  # noqa: T201
