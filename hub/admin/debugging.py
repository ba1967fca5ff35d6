"""Looking into a live process: log levels, stalls, tasks and memory, by an operator's request.

What is looked at, and how, stands in `hub.observe`.
"""

from dataclasses import asdict
from typing import Any

from structlog.typing import FilteringBoundLogger

from hub.admin.requests import AdminRequest, Handlers
from hub.core.ports import Spawn
from hub.errors import BadRequestError
from hub.observe.inspection import MAX_SECONDS, MemoryTracing, look_at_tasks
from hub.observe.log_levels import LogLevels, levels_of
from hub.observe.loop_lag import LoopLag

_DEFAULT_SECONDS = 10.0

Looked = dict[str, Any]
"""Plain values, as JSON and MessagePack know them."""


class GetTasks(AdminRequest[Looked], frozen=True, tag="tasks"):
    """What the event loop's tasks wait for."""


class GetStalls(AdminRequest[Looked], frozen=True, tag="stalls"):
    """When the event loop was held up lately, and by what."""


class GetMemory(AdminRequest[Looked], frozen=True, tag="memory"):
    """What the last look at memory found."""


class TraceMemory(AdminRequest[Looked], frozen=True, tag="trace_memory"):
    """Begin to look at memory; the result is what `GetMemory` tells afterwards."""

    seconds: float | None = None


class GetLogLevels(AdminRequest[Looked], frozen=True, tag="log_levels"):
    """Which messages each subsystem logs."""


class SetLogLevels(AdminRequest[Looked], frozen=True, tag="set_log_levels"):
    """Change it: subsystem to level; see `LogLevels.change`."""

    levels: dict[str, str | None]


class Debugging:
    """Carries these out at this node; one per node."""

    def __init__(self, *, lag: LoopLag, log: FilteringBoundLogger, spawn: Spawn) -> None:
        self._lag = lag
        self._log = log
        self._memory = MemoryTracing(spawn)

    def handlers(self) -> Handlers:
        return {
            GetTasks: self._tasks,
            GetStalls: self._stalls,
            GetMemory: self._told_memory,
            TraceMemory: self._trace_memory,
            GetLogLevels: self._log_levels,
            SetLogLevels: self._set_log_levels,
        }

    async def _log_levels(self, _asked: GetLogLevels) -> Looked:
        return {"levels": dict(self._levels().shown())}

    async def _set_log_levels(self, asked: SetLogLevels) -> Looked:
        levels = self._levels()
        levels.change(asked.levels)
        # Who reads the log should know why it changed.
        self._log.warning("log_levels_changed", **levels.shown())
        return {"levels": dict(levels.shown())}

    def _levels(self) -> LogLevels:
        if (levels := levels_of(self._log)) is None:
            raise BadRequestError("the application around this node logs by itself")
        return levels

    async def _stalls(self, _asked: GetStalls) -> Looked:
        """Newest first."""
        return {
            "stalls": [asdict(stall) for stall in reversed(self._lag.recent)],
            "total": self._lag.stalls,
            "max_lag_seconds": self._lag.max_lag_seconds,
        }

    async def _tasks(self, _asked: GetTasks) -> Looked:
        return dict(await look_at_tasks())

    async def _told_memory(self, _asked: GetMemory) -> Looked:
        return dict(self._memory.told())

    async def _trace_memory(self, asked: TraceMemory) -> Looked:
        seconds = _DEFAULT_SECONDS if asked.seconds is None else asked.seconds
        if not 0 < seconds <= MAX_SECONDS:
            raise BadRequestError(f"seconds is not above 0 and at most {MAX_SECONDS:g}")
        return dict(self._memory.begin(seconds))
