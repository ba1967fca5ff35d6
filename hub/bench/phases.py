"""Show the progress of a round to the person at the terminal."""

from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)


class PhaseListener(Protocol):
    """A listener for phases, one after another."""

    def phase(self, name: str, total: float) -> None:
        """Begin a new phase; `total` is the last value of `reached`, 0 for unknown."""
        ...

    def reached(self, done: float) -> None:
        """Note how far the phase is."""
        ...


class ProgressBar:
    """Shows the phase that is under way in one line on stderr."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            # Drawing happens on the load's core: seldom enough not to be measured.
            refresh_per_second=4,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def phase(self, name: str, total: float) -> None:
        """Begin a new line in the place of the old one."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(name, total=int(total) or None)

    def reached(self, done: float) -> None:
        """Move the bar."""
        if self._task is not None:
            self._bar.update(self._task, completed=int(done))
