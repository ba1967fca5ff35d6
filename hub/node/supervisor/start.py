"""The start of a supervisor: its sockets, its signals, and the greeting."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Sequence

from structlog.typing import FilteringBoundLogger

from hub.brokers.sqlite.urls import make_directory
from hub.node.binding import broker_socket, listening_sockets
from hub.node.greeting import say_where
from hub.node.supervisor.supervisor import Supervisor
from hub.observe.log_levels import BROKER
from hub.observe.logs import adopt_stdlib, is_console, make_logger
from hub.settings import Settings


def run_supervisor(settings: Settings, *, command: Sequence[str], demo: bool, beside: bool) -> int:
    """Run workers until a signal; returns the exit code.

    Raises `SettingsError` where the port or the history's directory cannot be had, or a child
    cannot use its settings at the start. `command` starts this program again. `demo` and `beside`
    are for `hub.node.greeting` alone.
    """
    adopt_stdlib(settings)
    make_directory(settings.broker, make_logger(settings).bind(subsystem=BROKER))
    with contextlib.ExitStack() as stack:
        listening = [stack.enter_context(each) for each in listening_sockets(settings)]
        is_here = not settings.broker_is_elsewhere
        broker = stack.enter_context(broker_socket()) if is_here else None

        def greet(url: str) -> None:
            if is_console(settings, sys.stderr):
                say_where(url, settings, demo=demo, beside=beside)

        def make(log: FilteringBoundLogger) -> Supervisor:
            # Under `nohup` the signal is ignored at the start.
            outlives = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            return Supervisor(
                settings,
                command,
                listening,
                broker,
                log,
                outlives_terminal=outlives,
                on_started=greet,
            )

        return asyncio.run(_run(make, make_logger(settings)))


async def _run(
    make: Callable[[FilteringBoundLogger], Supervisor], log: FilteringBoundLogger
) -> int:
    supervisor = make(log)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop, number)
    loop.add_signal_handler(signal.SIGHUP, supervisor.hang_up)
    return await supervisor.run()
