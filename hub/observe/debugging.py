"""Looking into a live process: log levels, stalls, tasks and memory, by an operator's request.

Each is an operation by name that takes and returns plain values (`hub.admin.operating`), so that
any node can be asked about any other.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict

from structlog.typing import FilteringBoundLogger

from hub.core.peers import Arguments, Told
from hub.core.ports import Spawn
from hub.errors import BadRequestError
from hub.observe.log_levels import LogLevels, levels_of
from hub.observe.loop_lag import LoopLag
from hub.observe.memory import MAX_SECONDS, MemoryTracing
from hub.observe.tasks import look_at_tasks

_DEFAULT_SECONDS = 10.0


class Debugging:
    """One per node."""

    def __init__(self, *, lag: LoopLag, log: FilteringBoundLogger, spawn: Spawn) -> None:
        self._lag = lag
        self._log = log
        self._memory = MemoryTracing(spawn)

    def operations(self) -> Mapping[str, Callable[[Arguments], Awaitable[Told]]]:
        """By name."""
        return {
            "log_levels": self._log_levels,
            "set_log_levels": self._set_log_levels,
            "stalls": self._stalls,
            "tasks": self._tasks,
            "memory": self._told_memory,
            "trace_memory": self._trace_memory,
        }

    async def _log_levels(self, _arguments: Arguments) -> Told:
        return {"levels": self._levels().shown()}

    async def _set_log_levels(self, arguments: Arguments) -> Told:
        """Each argument is a subsystem and its level; see `LogLevels.change`."""
        levels = self._levels()
        levels.change(arguments)
        # Who reads the log should know why it changed.
        self._log.warning("log_levels_changed", **levels.shown())
        return {"levels": levels.shown()}

    def _levels(self) -> LogLevels:
        if (levels := levels_of(self._log)) is None:
            raise BadRequestError("the application around this node logs by itself")
        return levels

    async def _stalls(self, _arguments: Arguments) -> Told:
        """Newest first."""
        return {
            "stalls": [asdict(stall) for stall in reversed(self._lag.recent)],
            "total": self._lag.stalls,
            "max_lag_seconds": self._lag.max_lag_seconds,
        }

    async def _tasks(self, _arguments: Arguments) -> Told:
        return await look_at_tasks()

    async def _told_memory(self, _arguments: Arguments) -> Told:
        return self._memory.told()

    async def _trace_memory(self, arguments: Arguments) -> Told:
        seconds = arguments.get("seconds")
        seconds = _DEFAULT_SECONDS if seconds is None else seconds
        number = isinstance(seconds, int | float)
        if not number or isinstance(seconds, bool) or not 0 < float(seconds) <= MAX_SECONDS:
            raise BadRequestError(f"seconds is not above 0 and at most {MAX_SECONDS:g}")
        return self._memory.begin(float(seconds))
