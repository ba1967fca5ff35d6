"""Children of a forked program that starts itself again: they are forked, too.

`hub serve --workers 2` starts three processes, each of which would import the hub: 0.8 s of a core
(measured), where a fork takes 0.1 s. A helper process is forked before the program begins, so that
it is as clean as the process that forks programs; it makes what the program asks for by
`asyncio.create_subprocess_exec` a child of the program.

    program
      helper                 forks, ends with the program
      child, child, ...      made by the helper, adopted by the program (PR_SET_CHILD_SUBREAPER)

New interpreters as workers are tested in `tests/multi_node/test_workers_settings.py`, and in
`test_workers.py` where an application runs beside the hub.
"""

import asyncio
import ctypes
import json
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any

_ORDER_BYTES = 1 << 20
_MAX_DESCRIPTORS = 200
# prctl(2).
_PR_SET_CHILD_SUBREAPER = 36
# Above all numbers that a program's own descriptors have.
_ASIDE = 512


def starts_itself(order: Mapping[str, Any]) -> bool:
    """Whether what a fork is to be is a hub of several processes."""
    return "HUB_WORKERS" in order["environment"] or "--workers" in order["program"]


def fork_helper() -> dict[str, Any] | None:
    """Return None in the program, and in each child the order that it is to become.

    To be called before the program has a thread or an event loop.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        return _help(theirs)
    theirs.close()
    assert ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    asyncio.create_subprocess_exec = _Starting(ours)  # type: ignore[assignment]
    return None


class _Starting:
    """Stands for `asyncio.create_subprocess_exec`, for a program that starts Python."""

    def __init__(self, helper: socket.socket) -> None:
        self._helper = helper

    async def __call__(
        self,
        _python: str,
        *program: str,
        stdin: int,
        env: Mapping[str, str],
        pass_fds: Sequence[int],
        start_new_session: bool,
    ) -> "_Child":
        assert stdin == asyncio.subprocess.DEVNULL
        assert start_new_session
        order = {
            "program": program,
            "environment": dict(env),
            "directory": os.getcwd(),  # noqa: PTH109 - a string
            "descriptors": list(pass_fds),
        }
        socket.send_fds(self._helper, [json.dumps(order).encode()], list(pass_fds))
        return _Child(int(self._helper.recv(16)))


class _Child:
    """The part of `asyncio.subprocess.Process` that the hub uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._handle, self._end)

    def _end(self) -> None:
        self._loop.remove_reader(self._handle)
        os.close(self._handle)
        _, status = os.waitpid(self.pid, 0)
        self._ended.set_result(os.waitstatus_to_exitcode(status))

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    def kill(self) -> None:
        if not self._ended.done():
            os.kill(self.pid, signal.SIGKILL)


# -- the helper ------------------------------------------------------------------------------


def _help(orders: socket.socket) -> dict[str, Any]:
    """Return in each child; the helper ends here."""
    while True:
        raw, descriptors, _, _ = socket.recv_fds(orders, _ORDER_BYTES, _MAX_DESCRIPTORS)
        if not raw:
            os._exit(0)
        reading, writing = os.pipe()
        if (between := os.fork()) == 0:
            # An orphan at once: the program adopts it.
            if child := os.fork():
                os.write(writing, b"%d" % child)
                os._exit(0)
            orders.close()
            os.close(reading)
            os.close(writing)
            order: dict[str, Any] = json.loads(raw)
            _place(descriptors, order["descriptors"])
            os.setsid()
            _show_environment(order["environment"])
            return order
        os.waitpid(between, 0)
        orders.send(os.read(reading, 16))
        for descriptor in (reading, writing, *descriptors):
            os.close(descriptor)


def _place(descriptors: Sequence[int], numbers: Sequence[int]) -> None:
    """Give each descriptor the number that it has in the program."""
    aside = [_ASIDE + number for number in numbers]
    for descriptor, number in zip(descriptors, aside, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    for descriptor, number in zip(aside, numbers, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _show_environment(environment: Mapping[str, str]) -> None:
    """Show in /proc what the program adds for this child, as a started program's is seen there.

    There is room for what the process that forks was started with.
    """
    after_name = open("/proc/self/stat").read().rpartition(")")[2].split()  # noqa: SIM115, PTH123
    start, end = int(after_name[47]), int(after_name[48])  # proc(5): env_start, env_end
    own = [f"{name}={text}" for name, text in environment.items() if name.startswith("_HUB")]
    words = "\0".join([*own, ""]).encode()
    assert len(words) <= end - start, "no room"
    # `getenv` reads no more of what was there: the environment is set anew, elsewhere.
    os.environ.clear()
    ctypes.memmove(start, words.ljust(end - start, b"\0"), end - start)
