"""The workers of a machine as nodes: which live, what each says of itself, and what they ask.

The broker process' side. A worker is gone when it has had no connection for some seconds: one that
only lost its connection is back before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hub.brokers.local import frames
from hub.brokers.local.frames import Frames, Message
from hub.core.ports import Monotonic


@dataclass(eq=False, slots=True)
class Worker:
    """One connection."""

    frames: Frames
    tag: str = ""
    """Empty until it has said hello."""
    channels: set[str] = field(default_factory=set)
    names: Sequence[str] = ()
    """As it asked for them last."""


@dataclass(slots=True)
class _Node:
    """A worker over all its connections."""

    worker: Worker | None
    record: bytes = b""
    left_at: float = 0.0


class WorkerNodes:
    """One per broker process.

    Args:
        on_gone: told of the tag of a worker that has had no connection for `lease_seconds`.
    """

    def __init__(
        self, *, clock: Monotonic, lease_seconds: float, on_gone: Callable[[str], None]
    ) -> None:
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._on_gone = on_gone
        self._nodes: dict[str, _Node] = {}
        self._asked: dict[tuple[str, int], str] = {}
        """By the asker's tag and its question's number: who is to answer."""

    def came(self, worker: Worker) -> None:
        """A connection has said whose it is; an older one of the same worker ends."""
        known = self._nodes.get(worker.tag)
        if known is not None and known.worker is not None:
            known.worker.frames.abort()
        self._nodes[worker.tag] = _Node(worker)

    def left(self, worker: Worker) -> bool:
        """A connection has ended; False where the worker is here by another, or never was."""
        node = self._nodes.get(worker.tag)
        if node is None or node.worker is not worker:
            return False
        node.worker, node.left_at = None, self._clock()
        for (asker, number), tag in tuple(self._asked.items()):
            if tag == worker.tag:
                self._answered(asker, number, None)
            elif asker == worker.tag:
                del self._asked[asker, number]
        return True

    def tick(self) -> None:
        """Housekeeping."""
        ended = self._clock() - self._lease_seconds
        for tag, node in tuple(self._nodes.items()):
            if node.worker is None and node.left_at <= ended:
                del self._nodes[tag]
                self._on_gone(tag)

    def note_record(self, worker: Worker, message: Message) -> None:
        if (node := self._nodes.get(worker.tag)) is not None:
            node.record = message[1]

    def tell_others(self, worker: Worker, message: Message) -> None:
        others = {
            tag: node.record
            for tag, node in self._nodes.items()
            if tag != worker.tag and node.worker is not None and node.record
        }
        worker.frames.send((frames.OTHERS_ARE, message[1], others), 500 * len(others))

    def ask(self, worker: Worker, message: Message) -> None:
        _, number, tag, question, lasts = message
        node = self._nodes.get(tag)
        if node is None or node.worker is None:
            worker.frames.send((frames.ANSWERED, number, None))
            return
        self._asked[worker.tag, number] = tag
        node.worker.frames.send((frames.ASKED, worker.tag, number, question, lasts), len(question))

    def answer(self, _worker: Worker, message: Message) -> None:
        _, asker, number, answer = message
        self._answered(asker, number, answer)

    def _answered(self, asker: str, number: int, answer: bytes | None) -> None:
        node = self._nodes.get(asker)
        if self._asked.pop((asker, number), None) is not None and node is not None and node.worker:
            size = 0 if answer is None else len(answer)
            node.worker.frames.send((frames.ANSWERED, number, answer), size)

    def give_up(self, worker: Worker, message: Message) -> None:
        _, number = message
        tag = self._asked.pop((worker.tag, number), None)
        node = None if tag is None else self._nodes.get(tag)
        if node is not None and node.worker is not None:
            node.worker.frames.send((frames.GIVEN_UP, worker.tag, number))
