"""The hub as a program: signals, limits of the process, exit codes.

`serve` runs one node until it is told to stop, optionally together with an ASGI application that
answers the requests for which the hub has no route.
"""

import asyncio
import contextlib
import fcntl
import gc
import os
import resource
import signal
import sys
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop
from structlog.typing import FilteringBoundLogger

from hub.app import Hub
from hub.errors import SettingsError
from hub.node.demo import run_demo, run_processes
from hub.node.greeting import say_where
from hub.node.supervisor import until_restart
from hub.node.supervisor.control import (
    DRAIN,
    LEAVING,
    NOW,
    READY,
    RETIRE,
    SLOTS,
    TAKING,
    UP,
    ControlSocket,
    stop_seconds,
)
from hub.node.supervisor.roles import Role, adopted, run_beside_nodes, take_role, this_program
from hub.observe import standard_streams
from hub.observe.logs import adopt_stdlib, is_console, make_logger
from hub.settings import Settings
from hub.transports.asgi_types import ASGIApp

# Open files beside the connections: the listener, the loop, logs, the broker. Generous guess.
_OTHER_FILES = 256
_WATCH_SECONDS = 1.0
_READY_STEP_SECONDS = 0.05
_MANY_FILES = 0.8
# New objects before all that lives is visited: garbage that was old before it was garbage is so
# many objects at most, some 70 MB. The hub makes none: what refers to each other at a connection's
# end is parted there.
_FULL_COLLECTION_OBJECTS = 700_000


async def _serve_worker(settings: Settings, app: ASGIApp | None, role: Role, *, demo: bool) -> int:
    """Run one of several nodes until its supervisor ends it, or has died; return the exit code."""
    control = await ControlSocket.open(adopted(role.control))
    try:
        return await _work(settings, app, role, control, demo=demo)
    except SettingsError as error:
        await control.refuse(error)
        return 1


async def _work(
    settings: Settings, app: ASGIApp | None, role: Role, control: ControlSocket, *, demo: bool
) -> int:
    has_no_effect = until_restart.check(settings, role)
    worker = replace(role.worker(), on_outdated=lambda: _start_anew(hub, stop))
    settings = worker.settings(settings, node=role.node)
    log = make_logger(settings)
    if has_no_effect:
        log.warning("setting", message=has_no_effect)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # A service manager may send them to all processes, and more than once.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # It is for the supervisor, also where it is sent to all.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    hub = Hub(settings, app=app, log=log, worker=worker)
    async with (
        # Until the end of the drain: a supervisor that hears nothing kills, and may be in a hurry.
        _beside(control.stay_alive()),
        _beside(_obey(control, hub, stop)),
        hub,
        _beside(_watch_files(hub, log, _allowed_files())),
        _beside(_demo(hub, log) if demo and worker.number == 1 else None),
        _beside(_tell_readiness(control, hub)),
    ):
        _leave_alone_what_stays()
        control.say(UP, str(stop_seconds(settings)))
        log.info("worker_started", worker=worker.number, version=hub.node.api.node().version)
        await stop.wait()
        control.say(LEAVING)
        log.info("worker_draining", connections=len(hub.node.registry.sessions))
    log.info("worker_stopped", worker=worker.number)
    return 0


def _start_anew(hub: Hub, stop: asyncio.Event) -> None:
    """End soon: the supervisor starts another one, which speaks to the new broker process."""
    hub.begin_drain(at_once=True)
    stop.set()


async def _retire(hub: Hub, stop: asyncio.Event) -> None:
    """End without a refused connection.

    The successor accepts already, also the connections that wait in the queue of this one's socket.
    """
    await hub.stop_accepting()
    await hub.leave_to_another()
    stop.set()


async def _obey(control: ControlSocket, hub: Hub, stop: asyncio.Event) -> None:
    """Carry out the supervisor's orders; its death is an order to end."""
    retiring: asyncio.Task[None] | None = None
    async for word, *places in control.messages():
        if word == SLOTS:
            await hub.accept_at([int(each) for each in places])
        elif word == RETIRE:
            retiring = asyncio.create_task(_retire(hub, stop))
        elif word == DRAIN:
            stop.set()
        elif word == NOW:
            hub.stop_now()
            stop.set()
    if retiring is None:
        # The supervisor is dead: the one that is started in its place needs the port.
        await hub.stop_accepting()
    stop.set()


async def _tell_readiness(control: ControlSocket, hub: Hub) -> None:
    """Tell the supervisor when peers may come, and when an operator sends them elsewhere."""
    told_ready = was_draining = False
    while True:
        if not told_ready and not hub.node.ready():
            control.say(READY)
            told_ready = True
        if (is_draining := hub.node.registry.draining) is not was_draining:
            control.say(LEAVING if is_draining else TAKING)
            was_draining = is_draining
        await asyncio.sleep(_READY_STEP_SECONDS)


async def _serve(settings: Settings, app: ASGIApp | None, *, demo: bool) -> int:
    """Run until a signal; a second one ends the draining. Return the exit code."""
    log = make_logger(settings)
    stop = asyncio.Event()
    hub = Hub(settings, app=app, log=log)
    received: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        received.append(number)
        stop.set()
        if len(received) > 1:
            hub.stop_now()

    loop = asyncio.get_running_loop()
    for number in _ending_signals():
        loop.add_signal_handler(number, on_signal, number)
    async with (
        hub,
        _beside(_watch_files(hub, log, _allowed_files())),
        _beside(_demo(hub, log) if demo else None),
    ):
        _leave_alone_what_stays()
        if is_console(settings, sys.stderr):
            say_where(hub.url, settings, demo=demo, beside=app is not None)
        log.info("started", url=hub.url, version=hub.node.api.node().version)
        await stop.wait()
        log.info(
            "draining",
            signal=received[0].name,
            connections=len(hub.node.registry.sessions),
            window_seconds=settings.drain_seconds,
            message="a second signal stops at once",
        )
    log.info("stopped")
    return 0 if len(received) == 1 else 128 + received[-1]


async def _demo(hub: Hub, log: FilteringBoundLogger) -> None:
    """Publish the data of the demo page."""
    async with asyncio.TaskGroup() as group:
        group.create_task(run_demo(hub.publish, log=log))
        group.create_task(run_processes(hub, node=hub.settings.node, log=log))


def _ending_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that end the hub in order: SIGTERM, Ctrl-C, and the loss of the terminal.

    Under `nohup` the last is ignored already, and stays so.
    """
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return (signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if hangs_up else []))


def _leave_alone_what_stays() -> None:
    """Have the garbage collector visit only new objects, and long-lived ones seldom.

    Code and settings are 80,000 objects that never go. Every full collection visited them and held
    the loop for 60 to 200 ms (measured), and fast connects cause many. The rest is 15 objects for
    each connection: 48 ms at 10,000, four times while these came back.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, collections_before_a_full_one(young, middle))


def collections_before_a_full_one(young: int, middle: int) -> int:
    """Return how many collections of the middle generation come before a full one.

    `young` new objects cause a collection, and `middle` of these one of the middle generation. The
    first is 700 in CPython 3.11 and 3.12, and 2,000 in later ones; 0 is no collection at all.
    """
    return max(1, _FULL_COLLECTION_OBJECTS // max(1, young * middle))


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None] | None) -> AsyncGenerator[None]:
    """Run `work`, if there is any, until the block ends."""
    task = asyncio.create_task(work) if work is not None else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _allowed_files() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return files


async def _watch_files(hub: Hub, log: FilteringBoundLogger, allowed: int) -> None:
    """Warn when connections come near to the limit of open files, once until they went back."""
    told = False
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        held = hub.node.sockets.count()
        if held >= _MANY_FILES * allowed and not told:
            log.warning(
                "few_open_files",
                message="connections need nearly all files that the system lets this process open:"
                " raise the limit (ulimit -Hn, LimitNOFILE), or lower HUB_MAX_CONNECTIONS",
                connections=held,
                limit=allowed,
                max_connections=hub.settings.max_connections,
            )
        told = held >= _MANY_FILES * allowed


def _allow_connections(settings: Settings) -> None:
    """Raise the soft limit on open files, often 1,024, as far as the system lets any process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + _OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    _grow_file_table(wanted if soft == resource.RLIM_INFINITY else min(wanted, soft))


def _grow_file_table(files: int) -> None:
    """Have the kernel make room for so many open files now, before there is a second thread.

    The kernel doubles the table of a process when it is full. In a process with threads it then
    waits until no core can use the old one (`expand_files`: an RCU grace period), which stops the
    loop. Measured at 256, 512 and so on up to 16,384 files: 5 to 25 ms each. A file takes 8 bytes.
    """
    with Path(os.devnull).open("rb") as file, contextlib.suppress(OSError):
        os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, files - 1))


def run(
    settings: Settings,
    demo: bool = False,
    app: ASGIApp | None = None,
    role: Role | None = None,
) -> int:
    """Run one node in this process until SIGTERM, SIGINT or SIGHUP; return the exit code.

    A worker has a `role`, and runs until its supervisor ends it. Raises `SettingsError` when the
    node cannot listen.
    """
    standard_streams.open_missing()
    adopt_stdlib(settings)
    _allow_connections(settings)
    # What is loaded by now takes 50 ms to visit (measured), and there is no loop yet that stands
    # still meanwhile. What the node's start adds takes less than 1 ms.
    _leave_alone_what_stays()
    if role is not None:
        return uvloop.run(_serve_worker(settings, app, role, demo=demo))
    return uvloop.run(_serve(settings, app, demo=demo))


def serve(app: ASGIApp | None = None, settings: Settings | None = None) -> int:
    """Run the hub, and `app` beside it on the same port, until SIGTERM, SIGINT or SIGHUP.

    With several workers the program is started again for each of them, and calls this function
    there.
    """
    settings, role = settings or Settings(), take_role()
    beside = app is not None
    code = run_beside_nodes(settings, role, command=this_program(), beside=beside)
    return run(settings, app=app, role=role) if code is None else code
