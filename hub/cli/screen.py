"""A terminal that is taken over for a while, and always restored.

One command at a time owns stdin and stdout. `with Screen(...)` restores the modes, the cursor and
the former content, also when the block raises. Only SIGKILL leaves the terminal changed; `reset`
mends it.
"""

import contextlib
import os
import re
import signal
import sys
import termios
import tty
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.console import RenderableType

_READ_BYTES = 256
# ECMA-48 section 5.4: ESC [ parameters, and one final byte; ESC O is what some terminals send.
# Then a character of UTF-8, or Escape by itself.
_KEY = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|[\xc2-\xf4][\x80-\xbf]+|[^\x1b]|\x1b", re.DOTALL)
_NAMES = {
    b"\t": "tab",
    b"\x1b[C": "right",
    b"\x1bOC": "right",
    b"\x1b[D": "left",
    b"\x1bOD": "left",
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\n": "enter",
    b"\r": "enter",
    b"\x1b": "escape",
    b"\x7f": "backspace",
    b"\x08": "backspace",
}


class Screen:
    """The alternate screen without a cursor; keys arrive at once and are not echoed."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False)
        self._input = sys.stdin.fileno()
        self._modes: list[Any] | None = None

    def __enter__(self) -> Self:
        self._modes = termios.tcgetattr(self._input)
        try:
            self._take()
        except BaseException:
            self._give_back()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()

    @property
    def width(self) -> int:
        return self._console.width

    @property
    def height(self) -> int:
        return self._console.height

    @property
    def input(self) -> int:
        """The file descriptor on which keys arrive."""
        return self._input

    def show(self, renderable: "RenderableType") -> None:
        """Draw `renderable` over the screen, from the top left."""
        from rich.control import Control
        from rich.screen import Screen as Filled

        self._console.control(Control.home())
        self._console.print(Filled(renderable), end="")

    def keys(self) -> list[str]:
        """Return the pressed keys: characters, and names such as `left`. Call it when `input` is
        readable.

        Raises:
            EOFError: The terminal is gone.
        """
        pressed = os.read(self._input, _READ_BYTES)
        if not pressed:
            raise EOFError
        return [_NAMES.get(key, key.decode(errors="replace")) for key in _KEY.findall(pressed)]

    def suspend(self) -> None:
        """Restore the terminal, stop the process as Ctrl-Z asks, and take the terminal again
        afterwards."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()

    def _take(self) -> None:
        # Ctrl-C and Ctrl-Z stay signals; only echo and lines are switched off.
        tty.setcbreak(self._input)
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)

    def _give_back(self) -> None:
        # Each step, whatever became of the one before: the terminal may be gone.
        with contextlib.suppress(OSError):
            self._console.show_cursor(True)
            self._console.set_alt_screen(False)
        if self._modes is not None:
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(self._input, termios.TCSADRAIN, self._modes)


def has_terminal() -> bool:
    """Return whether stdin and stdout are a terminal that is not dumb."""
    dumb = os.environ.get("TERM", "").lower() in {"dumb", "unknown"}
    return sys.stdin.isatty() and sys.stdout.isatty() and not dumb
