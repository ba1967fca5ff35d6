"""Levels of the log for each part of the hub; they can be changed while it runs.

A logger names its part by `subsystem` in its context. A line below the level of
that part costs a call and two lookups, and is never rendered.
"""

import logging
from collections.abc import Mapping

import structlog
from structlog.typing import FilteringBoundLogger

from hub.errors import BadRequestError

BROKER, HTTP, LOOP, SESSION = "broker", "http", "loop", "session"
SUBSYSTEMS = (BROKER, HTTP, LOOP, SESSION)
# The level of loggers without a subsystem, and of subsystems without a level of their own.
DEFAULT = "default"
LEVELS: Mapping[str, int] = {
    name: logging.getLevelNamesMapping()[name.upper()]
    for name in ("debug", "info", "warning", "error", "critical")
}


class LogLevels:
    """The levels of a logger of `adjustable_logger`, and of all that are bound from it.

    Args:
        default: a name of `LEVELS`.
    """

    def __init__(self, default: str) -> None:
        self._default = default
        self._chosen: dict[str, str] = {}
        self._by_subsystem: dict[object, int] = {}
        self._apply()

    def of(self, subsystem: object) -> int:
        """Return the number of the level, as `logging` knows it."""
        return self._by_subsystem.get(subsystem, self._general)

    def change(self, changes: Mapping[str, object]) -> None:
        """Give subsystems, or `DEFAULT`, another level; None takes a subsystem's own away.

        Raises:
            BadRequestError: there is no such subsystem or level; nothing has changed then.
        """
        for name, level in changes.items():
            _check(name, level)
        for name, level in changes.items():
            if name == DEFAULT:
                self._default = str(level)
            elif level is None:
                self._chosen.pop(name, None)
            else:
                self._chosen[name] = str(level)
        self._apply()

    def shown(self) -> dict[str, str]:
        """Return the levels of now, by subsystem."""
        return {DEFAULT: self._default} | {
            name: self._chosen.get(name, self._default) for name in SUBSYSTEMS
        }

    def _apply(self) -> None:
        self._general = LEVELS[self._default]
        self._by_subsystem = {name: LEVELS[level] for name, level in self._chosen.items()}


def _check(name: str, level: object) -> None:
    if name not in (DEFAULT, *SUBSYSTEMS):
        allowed = ", ".join((DEFAULT, *SUBSYSTEMS))
        raise BadRequestError(f"there is no subsystem {name[:40]!r}, only {allowed}")
    if level not in LEVELS and (level is not None or name == DEFAULT):
        raise BadRequestError(f"{name} is {level!r:.40}, allowed are {', '.join(LEVELS)}")


def adjustable_logger(levels: LogLevels) -> type[FilteringBoundLogger]:
    """structlog's own class of bound loggers, which fixes its level, with `levels` in its place."""
    base: type = structlog.make_filtering_bound_logger(logging.DEBUG)

    def level_of(self: structlog.BoundLoggerBase) -> int:
        return levels.of(self._context.get("subsystem"))

    def is_enabled_for(self: structlog.BoundLoggerBase, level: int) -> bool:
        return level >= level_of(self)

    # By position only: `method` is also a field of events, such as a request's that failed.
    def proxy(
        self: structlog.BoundLoggerBase, method: str, event: str | None = None, /, **fields: object
    ) -> object:
        if LEVELS[method] < level_of(self):
            return None
        return structlog.BoundLoggerBase._proxy_to_logger(self, method, event, **fields)

    members = {
        "levels": levels,
        "is_enabled_for": is_enabled_for,
        "get_effective_level": level_of,
        "_proxy_to_logger": proxy,
    }
    made: type[FilteringBoundLogger] = type("AdjustableLogger", (base,), members)
    return made


def levels_of(log: FilteringBoundLogger) -> LogLevels | None:
    """Return the levels of `log`; None for a logger of another program."""
    levels = getattr(log, "levels", None)
    return levels if isinstance(levels, LogLevels) else None
