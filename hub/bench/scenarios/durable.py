"""Publications acknowledged after fsync into a history file, beside a bare loop on the same disk.

The rows of `hub bench --intake --way SQLite`, with goals. The bare loop tells what the disk gives:
64 rows in a commit, one after another, each through fsync.
"""

from hub.bench import intake
from hub.bench.meter import DISTURBED_SHARE
from hub.bench.scenarios.scenario import Bar, Goal, Result, ScenarioOptions
from hub.bench.server import SERVE_COMMAND

SECONDS = 5.0
ROUNDS = 3
_DISK, _ROWS = "bare SQLite loop, 64 a commit", 64
_SINGLE = "sqlite: single POSTs, 64 at a time"
_KEYED = "sqlite: with a key and an Idempotency-Key, 64 at a time"
_ARRAYS = ("sqlite: arrays of 100, 4 at a time", "sqlite: arrays of 100, 16 at a time")


def measure(request: ScenarioOptions) -> Result:
    """POST single publications and arrays to a hub with a history file."""
    seconds, rounds = request.seconds or SECONDS, request.rounds or ROUNDS
    request.phases.phase("history file", round(seconds * rounds))
    command = request.command or SERVE_COMMAND
    rows = intake.run(seconds, rounds=rounds, named="sqlite", command=command)
    found = {row.way: row for row in rows}
    arrays = max(found[name].per_second for name in _ARRAYS)
    return Result(
        goals=(
            Goal("single POSTs per second", found[_SINGLE].per_second, at_least=15_000),
            Goal("publications per second in arrays", arrays, at_least=80_000),
            Goal("single POSTs per second, with a key", found[_KEYED].per_second),
            Goal("fsyncs per second that the disk gives", found[_DISK].per_second / _ROWS),
        ),
        bars=[Bar(row.way, row.cpu_microseconds) for row in found.values()],
        bars_about="server CPU per publication, microseconds",
        # A POST that is refused ends the measurement with an error.
        sound=True,
        # The hub's two threads wait for each other too; the bare loop has one.
        disturbed=found[_DISK].waited_share > DISTURBED_SHARE,
        details={row.way: {"per_second": row.per_second, "us": row.cpu_microseconds,
                           "core_share": row.core_share, "waited_share": row.waited_share}
                 for row in rows},
    )  # fmt: skip
