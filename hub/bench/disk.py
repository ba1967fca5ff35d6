"""The disk's floor: a bare loop that inserts rows into SQLite and commits, with fsync each time.

The sqlite rows of `hub bench --intake` are compared with it. It runs in a process of its own, on
the node's core:

    python -m hub.bench.disk DIRECTORY ROWS SECONDS

prints rows/s, the CPU of each in microseconds, and the shares of a core and of waiting for it.
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
from pathlib import Path

from hub.bench.greetings import payload
from hub.bench.meter import ProcessMeter
from hub.bench.plan import BenchError


def commit_for(directory: str, rows: int, seconds: float) -> tuple[float, float, float, float]:
    """Commit so many rows of 200 bytes at a time.

    Returns rows/s, CPU microseconds of each, the share of a core, and that of waiting for it.
    """
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
    spent, waited = usage.cpu_seconds, usage.waited_seconds or 0.0
    return made / elapsed, spent / made * 1e6, spent / elapsed, waited / elapsed


def measured(rows: int, seconds: float) -> tuple[float, float, float, float]:
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
    per_second, microseconds, share, waited = json.loads(told.stdout)
    return float(per_second), float(microseconds), float(share), float(waited)


if __name__ == "__main__":
    print(json.dumps(commit_for(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))  # noqa: T201
