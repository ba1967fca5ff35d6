"""Standard input, output and error of a process that was started without one of them.

The next file or socket that the process opens gets a closed descriptor 0, 1 or 2: for example a
socket of the event loop. libuv ends the process when it is to close one of these, a stray print
would go to a peer, and Python has `None` in place of the stream. So the process opens the missing
descriptors before anything else. Reading from or writing to an opened one fails as on a closed one.
Standard error is the exception: writing to it does nothing, because a failure there could not be
reported.
"""

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

# What opens a closed one: reading from nothing and writing to nothing must not look like success.
_MODES = {0: os.O_WRONLY, 1: os.O_RDONLY, 2: os.O_WRONLY}


def open_missing() -> None:
    """Open those of the descriptors 0 to 2 that are closed, and give Python its streams."""
    for fd, mode in _MODES.items():
        try:
            os.fstat(fd)
        except OSError:
            _occupy(fd, mode)
    with contextlib.suppress(OSError):
        sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - for good
        sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _occupy(fd: int, mode: int) -> None:
    try:
        opened = os.open(os.devnull, mode)
    except OSError:  # no /dev here: a pipe whose other end is closed at once does as well
        reading, writing = os.pipe()
        opened, other = (writing, reading) if mode == os.O_WRONLY else (reading, writing)
        os.close(other)
    if opened != fd:
        os.dup2(opened, fd, inheritable=True)
        os.close(opened)
    os.set_inheritable(fd, True)


def forgive_errors() -> None:
    """Make output errors harmless, for a process of the hub's own.

    Characters that a terminal's encoding lacks are printed as escapes. Output that stderr does not
    take is lost: no other place could report it, and the work of a command must not depend on it.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Stderr()),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=True,
    )


class _Stderr(io.RawIOBase):
    """Descriptor 2, where a write never fails."""

    name = "<stderr>"
    mode = "wb"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def isatty(self) -> bool:
        return os.isatty(2)

    def write(self, data: "Buffer", /) -> int:
        view = memoryview(data).cast("B")
        size = len(view)
        with contextlib.suppress(OSError):
            while view:
                view = view[os.write(2, view) :]
        return size


def flush_output() -> None:
    """Write what stdout still holds; raise `OSError` where nobody takes it.

    The interpreter would do so at its very end, with a traceback that nothing can stop.
    """
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def forget_output() -> None:
    """Drop the buffer of stdout, so that the interpreter's end does not fail on it."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
