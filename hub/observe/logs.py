"""Logs on stderr: JSON lines in production, readable on a terminal, never a payload or token.

`make_logger` changes nothing global, so that an application that embeds the hub keeps its own
logging. `adopt_stdlib` is for the hub's own process: it sends what libraries, and the
application beside the hub, log through the same renderer.
"""

import contextlib
import io
import json
import logging
import re
import sys
from collections.abc import Mapping
from typing import Protocol, TextIO

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from hub.core.session.session import Session
from hub.observe.log_levels import SESSION, LogLevels, adjustable_logger
from hub.observe.terminal import visible, visible_json

HIDDEN = "[hidden]"
# Tracebacks have lines.
_KEPT = "\n\t"
SECRET_NAMES = frozenset(
    {"token", "secret", "authorization", "data", "payload", "key", "api_key", "x-api-key"}
    | {"password", "cookie", "idempotency_key"}
)
# A URL may carry these (`token=` where no header can be set; a Redis' `password=`).
_SECRET_IN_URL = re.compile(
    r"([?&](?:[\w.%-]*(?:password|passwd|secret|token)|key|api_key)=)[^&\s\"']+", re.IGNORECASE
)
_WORD = re.compile(r"[^\s\"'<>]+")
# Libraries that put payloads, heads or URLs with tokens, or noise, into records below these.
LEVEL_FLOORS: Mapping[str, int] = {
    "uvicorn.access": logging.WARNING,
    # The hub serves without uvicorn; an application beside it may run one of its own. Anybody
    # makes its warnings, with a request that is no HTTP.
    "uvicorn.error": logging.ERROR,
    "httpcore2": logging.INFO,
    "httpx2": logging.WARNING,
    "websockets": logging.INFO,
}


class LogSettings(Protocol):
    """The settings that this module reads."""

    @property
    def log_level(self) -> str: ...

    @property
    def log_format(self) -> str: ...

    @property
    def node(self) -> str: ...


class _Lines:
    """Writes each event as one line. When stderr is gone there is nowhere left to say so, and
    a lost line must not end the session that wrote it."""

    def __init__(self, target: TextIO) -> None:
        self._target = target

    def msg(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._target.write(text + "\n")
            self._target.flush()

    debug = info = warning = error = critical = msg


def make_logger(settings: LogSettings, stream: TextIO | None = None) -> FilteringBoundLogger:
    """A logger that writes to `stream` (stderr); bind what a session or part is to it."""
    target = stream or stderr()
    levels = LogLevels(settings.log_level.lower())
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _Lines(target),
        processors=[*_shared(settings, target), *_render(settings, target)],
        wrapper_class=adjustable_logger(levels),
        context_class=dict,
        cache_logger_on_first_use=True,
    ).bind()
    return logger


def stderr() -> TextIO:
    """Standard error, or nothing in its place in a program that was started without one."""
    stream: TextIO | None = sys.stderr
    return io.StringIO() if stream is None else stream


def adopt_stdlib(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Give every record of `logging` in this process the hub's form.

    An application that starts uvicorn gives it `log_config=None`, or it puts its own back.
    """
    target = stream or stderr()
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_shared(settings, target)],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_render(settings, target),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_level(settings))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name, floor in LEVEL_FLOORS.items():
        logging.getLogger(name).setLevel(max(floor, _level(settings)))


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A processor: values of secret names, also inside mappings, and what URLs hold of secrets."""
    return {name: _hidden(name, value) for name, value in event.items()}


def _hidden(name: str, value: object) -> object:
    if name.lower() in SECRET_NAMES:
        return HIDDEN
    if isinstance(value, str):
        return _SECRET_IN_URL.sub(rf"\1{HIDDEN}", _WORD.sub(_without_user, value))
    if isinstance(value, Mapping):
        return {str(inner): _hidden(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden("", item) for item in value]
    return value


def _without_user(word: re.Match[str]) -> str:
    """Return a word without the user of a URL in it, in time that grows with its length alone.

    A password that is not escaped may hold any character that ends the host of a URL, so all
    between `://` and the last `@` is hidden.
    """
    text = word[0]
    scheme, mark, rest = text.partition("://")
    _, at, host = rest.rpartition("@")
    return f"{scheme}{mark}{HIDDEN}@{host}" if mark and at else text


def show_safely(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A processor for terminals: no text from a stranger moves the cursor or turns a line."""
    return {
        name: visible(value, keep=_KEPT) if isinstance(value, str) else value
        for name, value in event.items()
    }


def _level(settings: LogSettings) -> int:
    return logging.getLevelNamesMapping()[settings.log_level.upper()]


def is_console(settings: LogSettings, target: TextIO) -> bool:
    """Whether a person reads the stream, and not a collector of JSON lines."""
    if settings.log_format == "auto":
        return target.isatty()
    return settings.log_format == "console"


def _shared(settings: LogSettings, target: TextIO) -> list[Processor]:
    """Return processors for every event, the hub's and the libraries'."""

    def name_node(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {"node": settings.node, **event}

    chain: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # On a terminal there is one node, and its name would only push the event to the right.
    return chain if is_console(settings, target) else [*chain, name_node]


def _render(settings: LogSettings, target: TextIO) -> list[Processor]:
    """Hiding comes after what adds text; JSON tracebacks are text before it."""
    if is_console(settings, target):
        # structlog's default with rich installed shows local variables: payloads and tokens.
        plain = structlog.dev.plain_traceback
        console = structlog.dev.ConsoleRenderer(
            colors=target.isatty(), exception_formatter=plain, sort_keys=False
        )
        # Before the renderer, which adds colours and shows values that are no text by `repr`.
        return [structlog.processors.format_exc_info, hide_secrets, show_safely, console]
    json_lines = structlog.processors.JSONRenderer(serializer=_to_json)
    return [structlog.processors.format_exc_info, hide_secrets, json_lines]


def _to_json(event: object, **_: object) -> str:
    """Return a line of JSON; characters that orjson refuses (a header's lone surrogates) are
    escaped.

    So are characters that a terminal would obey: logs end up in `less`, `tail` and `kubectl logs`.
    """
    try:
        line = orjson.dumps(event, default=repr).decode()
    except TypeError:
        line = json.dumps(event, default=repr)
    return visible_json(line)


def session_log(log: FilteringBoundLogger, session: Session) -> FilteringBoundLogger:
    """The session's own logger; to be made when there is something to say."""
    return log.bind(
        subsystem=SESSION,
        connection=session.id,
        transport=session.link.transport,
        subject=session.identity.subject,
        address=session.link.address,
    )
