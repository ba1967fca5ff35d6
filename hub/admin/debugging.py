"""Looking into a live process: log levels, stalls, tasks and memory, by an operator's request.

The looking itself is done in `hub.observe`.
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
    """Asks where the event loop's tasks wait."""


class GetStalls(AdminRequest[Looked], frozen=True, tag="stalls"):
    """Asks for the last stalls of the event loop, with their stacks."""


class GetMemory(AdminRequest[Looked], frozen=True, tag="memory"):
    """Asks for the result of the last look at memory."""


class TraceMemory(AdminRequest[Looked], frozen=True, tag="trace_memory"):
    """Begins a look at memory; `GetMemory` has the result afterwards."""

    seconds: float | None = None


class GetLogLevels(AdminRequest[Looked], frozen=True, tag="log_levels"):
    """Asks for the log level of each subsystem."""


class SetLogLevels(AdminRequest[Looked], frozen=True, tag="set_log_levels"):
    """Changes levels by subsystem; see `LogLevels.change`."""

    levels: dict[str, str | None]


class DebuggingHandlers:
    """Carries these requests out; one per node."""

    def __init__(self, *, lag: LoopLag, log: FilteringBoundLogger, spawn: Spawn) -> None:
        self._lag = lag
        self._log = log
        self._memory = MemoryTracing(spawn)

    def handlers(self) -> Handlers:
        return {
            GetTasks: self._tasks,
            GetStalls: self._stalls,
            GetMemory: self._get_memory,
            TraceMemory: self._trace_memory,
            GetLogLevels: self._log_levels,
            SetLogLevels: self._set_log_levels,
        }

    async def _log_levels(self, _asked: GetLogLevels) -> Looked:
        return {"levels": dict(self._levels().shown())}

    async def _set_log_levels(self, asked: SetLogLevels) -> Looked:
        levels = self._levels()
        levels.change(asked.levels)
        # A reader of the log should know why it changed.
        self._log.warning("log_levels_changed", **levels.shown())
        return {"levels": dict(levels.shown())}

    def _levels(self) -> LogLevels:
        if (levels := levels_of(self._log)) is None:
            raise BadRequestError("the application around this node logs by itself")
        return levels

    async def _stalls(self, _asked: GetStalls) -> Looked:
        """Return the stalls, newest first."""
        return {
            "stalls": [asdict(stall) for stall in reversed(self._lag.recent)],
            "total": self._lag.stalls,
            "max_lag_seconds": self._lag.max_lag_seconds,
        }

    async def _tasks(self, _asked: GetTasks) -> Looked:
        return dict(await look_at_tasks())

    async def _get_memory(self, _asked: GetMemory) -> Looked:
        return dict(self._memory.as_json())

    async def _trace_memory(self, asked: TraceMemory) -> Looked:
        seconds = _DEFAULT_SECONDS if asked.seconds is None else asked.seconds
        if not 0 < seconds <= MAX_SECONDS:
            raise BadRequestError(f"seconds is not above 0 and at most {MAX_SECONDS:g}")
        return dict(self._memory.begin(seconds))
