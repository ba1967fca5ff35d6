"""One line per push or observation: for humans, or as JSON. Pure."""

import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from hub.cli.columns import shown
from hub.observe.terminal import to_json, visible_json_bytes

if TYPE_CHECKING:
    from hub_client import Gap, Message, Presence

Observed = dict[str, object]
"""Something seen of a connection; `op` is `observed`, which no push of the hub is."""


@dataclass(frozen=True, slots=True)
class Lines:
    """How lines are written."""

    as_json: bool
    color: bool = False

    @classmethod
    def for_stdout(cls, *, as_json: bool) -> "Lines":
        """With colour on a terminal, unless NO_COLOR is set (no-color.org)."""
        return cls(as_json, color=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))

    def pushed(self, item: "Message | Gap | Presence") -> bytes:
        """A push: with JSON as it came, but for what a terminal would obey, which is escaped."""
        from hub_client import Gap, Message

        if self.as_json:
            return visible_json_bytes(item.frame)
        if isinstance(item, Message):
            key = "" if item.key is None else f" [{shown(item.key)}]"
            data = shown(item.raw_data.decode("utf-8", "replace"))
            offset = "-" if item.offset is None else str(item.offset)
            return f"{_clock(item.time_ms)} {shown(item.channel)} {offset}{key} {data}".encode()
        if isinstance(item, Gap):
            return self._marked(f"{_clock(None)} {item.channel} GAP {_gap(item)}")
        who = "" if item.member is None else f" {shown(item.member.id)}"
        return shown(f"{_clock(None)} {item.channel} {item.change.upper()}{who}").encode()

    def observed(self, observed: Observed) -> bytes:
        """What was seen of a connection."""
        if self.as_json:
            return to_json(observed).encode()
        return self._marked(f"{_clock(observed['at_ms'])} ! {_sentence(observed)}")

    def _marked(self, line: str) -> bytes:
        line = shown(line)
        return (typer.style(line, fg="yellow") if self.color else line).encode()


def _gap(gap: "Gap") -> str:
    if gap.reason == "reset":
        return f"reset, goes on after {gap.position}"
    if gap.unsequenced:
        return f"{gap.unsequenced} without an offset, {gap.reason}"
    return f"{gap.first} to {gap.last}, {gap.reason}"


def _sentence(observed: Observed) -> str:
    what, channel = observed["what"], observed.get("channel")
    match what:
        case "dropped":
            return (
                f"its outbox dropped {observed['count']:,} of {channel} after {observed['after']}"
            )
        case "subscription":
            state, position = observed["state"], observed["position"]
            dropped = f", {observed['dropped']:,} dropped so far" if observed["dropped"] else ""
            waiting = f", {observed['waiting']:,} wait" if observed["waiting"] else ""
            return f"{channel} is {state} at {position}{waiting}{dropped}"
        case "unsubscribed":
            return f"it has left {channel}"
        case _:
            code = "" if observed.get("code") is None else f": {observed['code']}"
            return f"it has ended{code} {shown(observed.get('reason'))}"


def _clock(at_ms: object) -> str:
    """Local time to the millisecond; now for None."""
    seconds = at_ms / 1000 if isinstance(at_ms, int | float) else time.time()
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{int(seconds * 1000) % 1000:03}"
