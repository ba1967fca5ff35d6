"""What was remembered of one channel, in the place of a journal."""

from dataclasses import dataclass

from hub.core.forensics.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Recalled:
    """`hub.core.forensics.question.Remembers` of one channel and epoch."""

    found: Timeline | None
    keeps: bool = True

    def timeline(self, channel: str, epoch: str) -> Timeline | None:
        mine = self.found is not None and self.found.name == (channel, epoch)
        return self.found if mine else None
