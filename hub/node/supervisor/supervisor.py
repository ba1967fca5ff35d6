"""The supervisor of `hub serve --workers N`: it starts the other processes, and serves no peer.

    supervisor ── broker process      where the broker is this machine's
               ├─ worker 1            a whole node, accepting at socket 1 of the port
               └─ worker 2

- A child that ends is started again, later each time it ends soon.
- Every listening socket has a worker that accepts there: while a worker is away, has not reached
  the broker, stands still, or drains on an operator's word, another one accepts there too. No queue
  is reset.
- SIGTERM and SIGINT drain all; a second one ends them at once.
- SIGHUP has each worker replaced, one after another: the new one is ready before the old one stops
  accepting, drains and ends. The broker process stays, with all that it holds. A new worker that
  does not come up ends the replacing, and the old ones stay.
"""

import asyncio
import secrets
import signal
import socket
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from importlib import metadata

from structlog.typing import FilteringBoundLogger

from hub.errors import SettingsError
from hub.node.binding import url_of
from hub.node.supervisor import control, until_restart
from hub.node.supervisor.control import Child, until_each
from hub.node.supervisor.roles import BROKER, Role
from hub.settings import Settings

# A child that ended after less than this waits longer before it is started again.
_STEADY_SECONDS = 10.0
_BACK_OFF_SECONDS = (0.1, 10.0)
# A child that is silent for so long stands still, and is killed. Patient: it costs all sessions
# of a worker. As long as the liveness probe of a single process waits (k8s/base/deployment.yaml).
_SILENT_SECONDS = 60.0
# The third word of a child (`control.ALIVE_SECONDS`) is missing then: another worker accepts at its
# socket too, which costs nothing where the child lives after all.
_QUIET_SECONDS = 15.0
_WATCH_SECONDS = 1.0
# Of a new worker, until it is ready: a start with a cold cache takes some seconds.
_READY_SECONDS = 60.0
# At the start, until all workers have reached the broker. While it is away they accept and say so.
_BROKER_SECONDS = 5.0
# Of the broker process, behind the last worker.
_LAST_SECONDS = 5.0
# Of workers that were told to end at once. An application beside them may have to close something.
_AT_ONCE_SECONDS = 10.0


class Supervisor:
    """Starts, replaces and ends the processes of a hub; `on_started` gets its address."""

    def __init__(
        self,
        settings: Settings,
        command: Sequence[str],
        listening: Sequence[socket.socket],
        broker: tuple[str, socket.socket] | None,
        log: FilteringBoundLogger,
        *,
        outlives_terminal: bool,
        on_started: Callable[[str], None] = lambda _url: None,
    ) -> None:
        self._settings = settings
        self._command = command
        self._listening = listening
        self._broker = broker
        self._log = log
        self._current: dict[int, Child] = {}
        """The child of each number: the broker process and the workers."""
        self._leaving: set[Child] = set()
        """Workers that were replaced and have not ended yet, and one that is not ready yet."""
        self._failures: dict[int, int] = {}
        self._changing: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Held while the child of a number gives way to another."""
        self._received: list[signal.Signals] = []
        self._stopping = asyncio.Event()
        self._starting = True
        self._failed: Child | None = None
        """The first child that did not come up at the start."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._replacing: asyncio.Task[None] | None = None
        self._replace_again = False
        self._has_terminal = _has_terminal()
        self._outlives_terminal = outlives_terminal
        self._on_started = on_started
        self._silent_seconds = _SILENT_SECONDS
        self._name = secrets.token_hex(8)
        self._digests = until_restart.digests(settings)

    @property
    def _numbers(self) -> Sequence[int]:
        return range(1, len(self._listening) + 1)

    @property
    def _workers(self) -> list[Child]:
        return [self._current[n] for n in self._numbers if n in self._current]

    async def run(self) -> int:
        """Run all processes until they end; return the exit code, or raise `SettingsError`."""
        try:
            await self._start_all()
            if not self._stopping.is_set():
                self._started()
            self._starting = False
            for child in tuple(self._current.values()):
                self._on_change(child)
            if self._replace_again:
                self._replacing = asyncio.create_task(self._replace_all())
            self._spawn(self._watch())
            await self._stopping.wait()
        finally:
            await self._end_all()
        if self._failed is not None:
            if self._failed.wrong:
                raise SettingsError("\n".join(self._failed.wrong))
            # Of a process that a signal ended the code is negative.
            return max(self._failed.exit_code or 1, 1)
        return 0 if len(self._received) <= 1 else 128 + self._received[-1]

    def stop(self, number: signal.Signals) -> None:
        """Take a signal that ends the hub."""
        self._received.append(signal.Signals(number))
        self._stopping.set()
        if len(self._received) > 1:
            for child in (*self._workers, *self._leaving):
                child.say(control.NOW)
            asyncio.get_running_loop().call_later(_AT_ONCE_SECONDS, self._kill_all)

    def hang_up(self) -> None:
        """Take SIGHUP: the loss of the terminal ends the hub, any other replaces the workers."""
        if self._has_terminal and not _has_terminal():
            self._has_terminal = False
            if not self._outlives_terminal:
                self.stop(signal.SIGHUP)
        elif not self._starting and (self._replacing is None or self._replacing.done()):
            self._replacing = asyncio.create_task(self._replace_all())
        else:
            self._replace_again = True

    # -- starting ----------------------------------------------------------------------------

    async def _start_all(self) -> None:
        numbers = [*([BROKER] if self._broker is not None else []), *self._numbers]
        for number in numbers:
            if self._stopping.is_set():
                return
            try:
                await self._start(number)
            except OSError as error:
                raise SettingsError(f"cannot start a process of the hub: {error}") from error
        children, stop = tuple(self._current.values()), self._stopping
        await until_each(children, lambda child: child.is_up, stop, _READY_SECONDS)
        failed = [child for child in children if not child.is_up]
        if failed and not stop.is_set():
            self._failed = failed[0]
            stop.set()
            if not failed[0].wrong:
                told = {"worker": failed[0].role.number, "pid": failed[0].pid, **failed[0].ending}
                self._log.error("process_did_not_start", **told)
        if not stop.is_set():
            await until_each(self._workers, lambda child: child.is_ready, stop, _BROKER_SECONDS)

    def _started(self) -> None:
        settings, port = self._settings, self._listening[0].getsockname()[1]
        url = url_of(settings.host, port, settings.base_path, tls=bool(settings.tls_cert))
        self._log.info(
            "started",
            url=url,
            version=metadata.version("broadcast-hub"),
            workers=len(self._listening),
        )
        self._on_started(url)

    async def _start(self, number: int) -> Child:
        """Start the child of this number, in the place of one that has ended."""
        child = self._current[number] = await self._make(number)
        return child

    async def _make(self, number: int) -> Child:
        name, accepting = self._broker or ("", None)
        if number == BROKER:
            inherited = [] if accepting is None else [accepting.fileno()]
        else:
            inherited = [each.fileno() for each in self._listening]
        role = Role(
            number=number,
            workers=len(self._listening),
            node=self._settings.node,
            control=0,
            listening=tuple(inherited),
            broker=name,
            broker_url=self._settings.broker if name else "",
            supervisor=self._name,
            digests=self._digests,
        )
        child = Child(role, self._on_change)
        await child.start(self._command, inherited)
        return child

    # -- while it runs -----------------------------------------------------------------------

    def _on_change(self, child: Child) -> None:
        if not self._starting:
            self._assign()
        if child.exit_code is None:
            return
        self._leaving.discard(child)
        number = child.role.number
        if self._stopping.is_set() or self._starting or self._current.get(number) is not child:
            return
        wait_seconds = self._back_off(child)
        self._log.warning(
            "broker_process_ended" if number == BROKER else "worker_ended",
            worker=number,
            pid=child.pid,
            **child.ending,
            restart_in_seconds=round(wait_seconds, 2),
        )
        self._spawn(self._start_again(number, wait_seconds))

    async def _watch(self) -> None:
        """Kill children that stand still: a probe that meets another worker each time would miss
        them.

        Seconds are counted one by one, so that a machine which was suspended kills no child.
        """
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for child in (*self._current.values(), *self._leaving):
                if child.exit_code is not None:
                    continue
                child.silent_seconds += _WATCH_SECONDS
                is_quiet = child.silent_seconds > _QUIET_SECONDS
                if is_quiet is not child.is_quiet:
                    child.is_quiet = is_quiet
                    said = self._log.warning if is_quiet else self._log.info
                    event = "says_nothing" if is_quiet else "speaks_again"
                    said(event, worker=child.role.number, pid=child.pid)
                    self._assign()
                if child.silent_seconds > self._silent_seconds:
                    self._log.error("stands_still", worker=child.role.number, pid=child.pid)
                    self._kill(child)

    def _back_off(self, child: Child) -> float:
        number, shortest = child.role.number, _BACK_OFF_SECONDS[0]
        lived = asyncio.get_running_loop().time() - child.started_at
        failures = 0 if lived >= _STEADY_SECONDS else self._failures.get(number, -1) + 1
        self._failures[number] = failures
        return min(shortest * 2.0**failures, _BACK_OFF_SECONDS[1])

    async def _start_again(self, number: int, wait_seconds: float) -> None:
        await asyncio.sleep(wait_seconds)
        while not self._stopping.is_set():
            async with self._changing[number]:
                if self._current[number].exit_code is None:
                    return  # It was replaced meanwhile.
                try:
                    await self._start(number)
                except OSError as error:
                    self._log.error("cannot_start", worker=number, reason=str(error))
                else:
                    return
            await asyncio.sleep(_BACK_OFF_SECONDS[1])

    def _assign(self) -> None:
        """Have each socket accepted at by a worker that takes connections."""
        able = {n: c for n in self._numbers if (c := self._current.get(n)) and c.can_accept}
        for number, slots in _shared_out(self._numbers, able).items():
            if able[number].slots != slots:
                able[number].accept_at(slots)

    async def _replace_all(self) -> None:
        """Put a new worker in the place of each, one after another."""
        again = True
        while again and not self._stopping.is_set():
            self._replace_again = False
            self._log.info("replacing_workers", workers=len(self._listening))
            if await self._replace_each():
                self._log.info("workers_replaced", workers=len(self._listening))
            again = self._replace_again

    async def _replace_each(self) -> bool:
        """Return whether all were replaced; the first one that does not come up ends it."""
        for number in self._numbers:
            if self._stopping.is_set():
                return False
            async with self._changing[number]:
                old = await self._replace(number)
            if old is None:
                return False
            if old.exit_code is None:
                # A successor that ends meanwhile is started again: a drain may take minutes.
                await self._end(old, control.RETIRE, self._stop_seconds(old))
            self._log.info("worker_replaced", worker=number, pid=self._current[number].pid)
        return True

    async def _replace(self, number: int) -> Child | None:
        """Put a new worker in the place of one; return that one, or None where none came up."""
        try:
            new = await self._make(number)
        except OSError as error:
            self._did_not_come_up(number, {"reason": str(error)})
            return None
        self._leaving.add(new)
        await new.until(lambda: new.is_ready or self._stopping.is_set(), _READY_SECONDS)
        if not new.is_ready or new.exit_code is not None:
            self._did_not_come_up(number, {"pid": new.pid, **new.ending})
            self._kill(new)
            return None
        self._leaving.discard(new)
        old, self._current[number] = self._current[number], new
        new.accept_at(old.slots)
        self._failures.pop(number, None)
        if old.exit_code is None:
            old.retires = True
            self._leaving.add(old)
        return old

    def _did_not_come_up(self, number: int, told: Mapping[str, object]) -> None:
        message = "the workers that are not replaced yet stay as they are"
        self._log.error("worker_did_not_come_up", worker=number, **told, message=message)

    # -- ending ------------------------------------------------------------------------------

    def _stop_seconds(self, child: Child) -> float:
        """Return how long the end of a worker may take; its settings may be newer than these."""
        told = child.stop_seconds
        return control.stop_seconds(self._settings) if told is None else told

    def _kill_all(self) -> None:
        for child in (*self._workers, *self._leaving):
            self._kill(child)

    def _kill(self, child: Child) -> None:
        """End a child that has not ended by a word."""
        if child.exit_code is None:
            self._log.error("killed", worker=child.role.number, pid=child.pid)
            child.kill()

    async def _end_all(self) -> None:
        if self._received:
            self._log.info(
                "draining",
                signal=self._received[0].name,
                workers=len(self._workers),
                window_seconds=self._settings.drain_seconds,
                message="a second signal stops at once",
            )
        for task in (*self._tasks, *([self._replacing] if self._replacing else [])):
            task.cancel()
        workers = [*self._workers, *self._leaving]
        await asyncio.gather(
            *(self._end(each, control.DRAIN, self._stop_seconds(each)) for each in workers)
        )
        if BROKER in self._current:
            await self._end(self._current[BROKER], control.DRAIN, _LAST_SECONDS)
        self._log.info("stopped")

    async def _end(self, child: Child, word: str, seconds: float) -> None:
        """Tell a child to end, and kill it where it has not ended after `seconds`."""
        child.say(word)
        await child.until(lambda: False, seconds)
        self._kill(child)
        await child.until(lambda: False, _LAST_SECONDS)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _shared_out(numbers: Iterable[int], able: Mapping[int, Child]) -> Mapping[int, frozenset[int]]:
    """Return the places of the sockets at which each worker accepts that is able to.

    Each socket has its own worker, or the next one that is ready and does not leave. Where no
    worker is ready, those that stay accept, and where none stays those that leave.
    """
    staying = [number for number, child in able.items() if not child.is_leaving] or list(able)
    taking = [number for number in staying if able[number].is_ready] or staying
    slots: dict[int, set[int]] = {number: set() for number in able}
    for number in numbers if taking else ():
        following = next((each for each in taking if each >= number), taking[0])
        slots[following].add(number - 1)
    return {number: frozenset(each) for number, each in slots.items()}


def _has_terminal() -> bool:
    """Return whether a terminal controls this process."""
    try:
        with open("/dev/tty", "rb"):  # noqa: PTH123 - only whether it is there
            return True
    except OSError:
        return False
