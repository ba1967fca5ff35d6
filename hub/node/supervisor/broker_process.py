"""The broker process of `hub serve --workers N`: the broker of one node, served to all workers.

The process serves no peers and reads no credentials. Its content in memory ends with it. When it
is told to end, or its supervisor has died, it ends as soon as no worker is connected.

Where it dies itself, `hub.node.supervisor.supervisor` starts another one. Workers keep their peers
meanwhile: a call is refused or its outcome is unknown (`hub.brokers.local.link`). Then every
channel's head is compared, and what is missing is read or announced (`hub.brokers.local.client`).
"""

import asyncio
import gc
import signal
import socket
import time

import uvloop
from structlog.typing import FilteringBoundLogger

from hub.brokers.local.server import BrokerServer, Served
from hub.core.ports import Downstream
from hub.core.time.deadlines import AwakeClock
from hub.errors import SettingsError
from hub.node.binding import is_of_this_user
from hub.node.broker import NodeBroker, make_brokerage
from hub.node.core import Shared
from hub.node.supervisor.control import DRAIN, NOW, UP, ControlSocket, stop_seconds
from hub.node.supervisor.roles import Role, adopted
from hub.observe.background import Ticks, tasks, wait_while
from hub.observe.log_levels import BROKER
from hub.observe.logs import adopt_stdlib, make_logger
from hub.settings import Settings

# At least: workers whose supervisor has died drain as long as their settings say.
_LAST_SECONDS = 60.0
_STEP_SECONDS = 0.05


def run_broker_process(settings: Settings, role: Role) -> int:
    """Serve until told to end; returns the exit code."""
    adopt_stdlib(settings)
    # Signals are the supervisor's, also those that a terminal or a service manager sends to all.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    settings = own_settings(settings, role)
    log = make_logger(settings).bind(subsystem=BROKER)
    return uvloop.run(_run(settings, role, log))


def own_settings(settings: Settings, role: Role) -> Settings:
    """Return the settings of the broker process.

    The file may name another broker by now, which the workers do not know.
    """
    return settings.model_copy(update={"node": role.node, "broker": role.broker_url})


async def _run(settings: Settings, role: Role, log: FilteringBoundLogger) -> int:
    control = await ControlSocket.open(adopted(role.control))
    (listening,) = map(adopted, role.listening)
    try:
        with listening:
            return await _serve(settings, role, control, listening, log)
    except SettingsError as error:
        await control.refuse(error)
        return 1
    finally:
        control.close()


async def _serve(
    settings: Settings,
    role: Role,
    control: ControlSocket,
    listening: socket.socket,
    log: FilteringBoundLogger,
) -> int:
    async with tasks(log) as spawn:
        awake = AwakeClock(time.monotonic)
        shared = Shared(
            settings,
            log=log,
            clock=time.monotonic,
            wall_clock=time.time,
            awake=awake,
            spawn=spawn,
            defer=asyncio.get_running_loop().call_soon,
        )
        made: list[NodeBroker] = []

        def make(downstream: Downstream) -> Served:
            made.append(make_brokerage(settings, shared, tag="", downstream=downstream).broker)
            return made[0]

        server = BrokerServer(make, clock=awake, spawn=spawn, log=log, workers=role.workers)
        await made[0].start()

        def tick() -> None:
            awake.tick()
            server.tick()

        ticks = Ticks(tick, log, quiet=server.is_quiet)
        ticks.start()
        spawn(control.stay_alive())
        spawn(_accept(server, listening, log))
        # As in a node: a full collection need not visit objects that never go.
        gc.collect()
        gc.freeze()
        control.say(UP)
        log.info("broker_process_started")
        await _until_told(control)
        await _until_alone(server, max(_LAST_SECONDS, stop_seconds(settings)))
        await made[0].stop()
        ticks.stop()
    log.info("broker_process_stopped", publications=server.publications)
    return 0


async def _accept(
    server: BrokerServer, listening: socket.socket, log: FilteringBoundLogger
) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            peer, _ = await loop.sock_accept(listening)
        except OSError as error:
            # Without a free descriptor, for one: workers try again as long as it takes.
            log.warning("worker_not_accepted", reason=str(error))
            await asyncio.sleep(_STEP_SECONDS)
            continue
        try:
            if is_of_this_user(peer):
                await loop.connect_accepted_socket(server.protocol, sock=peer)
            else:
                log.warning("stranger_refused", message="a process of another user connected")
                peer.close()
        except OSError as error:
            log.warning("worker_not_accepted", reason=str(error))
            peer.close()


async def _until_told(control: ControlSocket) -> None:
    async for words in control.messages():
        if words[0] in {DRAIN, NOW}:
            return


async def _until_alone(server: BrokerServer, seconds: float) -> None:
    """Wait until no worker is connected: workers that still drain have publications to send."""
    await wait_while(lambda: bool(server.connections), seconds, step_seconds=_STEP_SECONDS)
