"""Tells the person at the terminal how far a round is."""

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


class Watch(Protocol):
    """Is told of phases, one after another."""

    def phase(self, name: str, total: float) -> None:
        """A new phase begins; `total` is what `reached` will come to, 0 unknown."""
        ...

    def reached(self, done: float) -> None:
        """The phase is as far as this."""
        ...


class ProgressBar:
    """One line on stderr, for the phase that is under way."""

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
