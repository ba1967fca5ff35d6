"""Notes that outlive memory: what is said from the file is what was said before."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins
from structlog.testing import CapturingLogger

from hub.admin.explain import Explain, Explaining
from hub.admin.explain_subject import ExplainSubject
from hub.admin.subject_here import SubjectExplaining
from hub.archive import disk_journal
from hub.archive.disk_journal import MAX_PENDING, DiskJournal
from hub.archive.writer import Writer
from hub.core.forensics.journal import REACH_SECONDS
from hub.core.identity import Identity
from hub.core.options import MIN_JOURNAL_BYTES, ChannelOptions, Namespaces
from tests.core.small_node import Shape, SmallNode, limits
from tests.core.subscribers import Subscriber

ADA = Identity(subject="ada", subscribe=("*",), publish=("*",))
KEEPS = Namespaces(ChannelOptions(history_size=5), {})


class Kept:
    """A node with a journal on disk, and the handlers that explain from it."""

    def __init__(self, path: Path, node: SmallNode) -> None:
        self.node = node
        self.lost = 0
        writer = Writer(path, MIN_JOURNAL_BYTES, log=CapturingLogger(), on_lost=self._lose)
        offset = node.clock.wall() - node.clock()
        self.archive = DiskJournal(writer, clock=node.clock, wall_offset_seconds=offset)
        node.journal.archive = self.archive
        evidence = node.evidence(self.archive)
        self.explaining = Explaining(evidence)
        self.subjects = SubjectExplaining(evidence)

    def _lose(self, notes: int) -> None:
        self.lost += notes

    async def why(self, connection: str, offset: int, epoch: str | None = None) -> Any:
        return to_builtins(await self.explaining.explain(Explain(connection, "a", offset, epoch)))

    async def line(self, **asked: Any) -> Any:
        told = await self.subjects.explain(ExplainSubject(subject="ada", **asked))
        return to_builtins(told)

    def forget(self) -> None:
        """Let memory forget, as time makes it."""
        self.node.clock.advance(6)
        self.archive.tick()
        self.node.clock.advance(REACH_SECONDS + 1)
        for _ in range(100):
            self.node.journal.sweep()
            self.archive.tick()


@asynccontextmanager
async def kept(path: Path) -> AsyncIterator[Kept]:
    """The node's clocks go on where those of the node before stood."""
    node = SmallNode(Shape(KEEPS, limits=limits(outbox_max_messages=3)))
    made = Kept(path, node)
    made.archive.start()
    yield made
    await made.archive.stop()


def story(node: SmallNode) -> Subscriber:
    """1 to 3 written, some dropped, the rest late; then cut while one more waits."""
    reader = Subscriber(node, "a", identity=ADA)
    node.clock.advance(2)
    reader.publish("a", 3)
    node.clock.advance(2)
    reader.block()
    reader.publish("a", 8)
    node.clock.advance(2)
    reader.drain()
    node.clock.advance(2)
    return reader


async def test_an_answer_is_the_same_when_memory_has_forgotten(tmp_path: Path) -> None:
    """The answer is the same for an open connection and for one that has ended; the time
    is right within a second."""
    async with kept(tmp_path) as rig:
        stays, goes = story(rig.node), story(rig.node)
        goes.block()
        stays.publish("a", 3)
        rig.node.clock.advance(2)
        goes.session.lost(1006, "cut")
        before = {
            (each.session.id, offset): await rig.why(each.session.id, offset)
            for each in (stays, goes)
            for offset in range(1, 26)
        }
        answers = {told["answer"] for told in before.values()}
        assert {"written", "dropped", "closed", "not_subscribed"} <= answers
        began = rig.node.clock()
        rig.forget()
        # The wall clock of an answer did not go on with the node's.
        shift_ms = (rig.node.clock() - began) * 1000
        assert goes.session.id not in rig.node.journal.closed
        for (connection, offset), told in before.items():
            now = await rig.why(connection, offset)
            assert (now["answer"], now["detail"]) == (told["answer"], told["detail"]), offset
            if told.get("from_ms"):
                assert abs(now["to_ms"] + shift_ms - told["to_ms"]) <= 1000


async def test_a_ticket_of_yesterday_has_an_answer_after_a_restart(tmp_path: Path) -> None:
    """Another process with the same path: her connection, what she got, and how it ended."""
    async with kept(tmp_path) as rig:
        reader = story(rig.node)
        reader.session.lost(1006, "cut")
        before = await rig.line()
        epoch = before["held"][0]["epoch"]
    async with kept(tmp_path) as rig:
        rig.node.clock.advance(86_400)
        after = await rig.line()
        assert [visit["code"] for visit in after["visits"]] == [1006]
        told = [(m["what"], m.get("first"), m.get("last")) for m in after["moments"]]
        assert told == [(m["what"], m.get("first"), m.get("last")) for m in before["moments"]]
        assert after["visits"][0]["complete"]
        one = await rig.why(reader.session.id, 5)
        assert (one["answer"], one["epoch"]) == ("dropped", epoch)
        assert (await rig.why(reader.session.id, 2))["answer"] == "written"
        assert (await rig.why(reader.session.id, 2, "another"))["answer"] == "unknown"
        asked = await rig.line(channel="a", offset=5)
        assert asked["visits"][0]["explained"]["answer"] == "dropped"
        early = await rig.line(to_ms=1000)
        assert (early["visits"], early["moments"]) == ((), ())


async def test_notes_lost_on_their_way_to_the_file_make_an_unknown_and_never_a_guess(
    tmp_path: Path,
) -> None:
    """A drop that is not written must not look like a message that was."""
    async with kept(tmp_path) as rig:
        reader = story(rig.node)
        while len(rig.archive._pending) <= MAX_PENDING:
            rig.archive._pending.extend(rig.archive._pending)
        rig.archive.tick()
        assert rig.lost > MAX_PENDING // 2 - 1
        rig.archive._pending.clear()
        reader.session.lost(1006, "cut")
        rig.forget()
        assert (await rig.why(reader.session.id, 2))["answer"] == "unknown"
        assert not (await rig.line())["visits"][0]["complete"]


async def test_notes_that_still_grow_are_read_with_those_on_disk(tmp_path: Path) -> None:
    """A connection that lives long is shown with what happened an hour ago and just now."""
    async with kept(tmp_path) as rig:
        reader = story(rig.node)
        rig.forget()
        reader.publish("a", 1)
        reader.block()
        reader.publish("a", 8)
        assert (await rig.why(reader.session.id, 5))["answer"] == "dropped"
        line = await rig.line(channel="a")
        told = [m for m in line["moments"] if m["what"] in {"dropped", "queued"}]
        assert [(m["what"], m["first"]) for m in told] == [
            ("dropped", 5), ("dropped", 14), ("queued", 18),
        ]  # fmt: skip


async def test_a_record_of_an_earlier_version_has_the_defaults_of_newer_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = disk_journal._plain
    monkeypatch.setattr(
        disk_journal,
        "_plain",
        lambda record: {name: value for name, value in now(record).items() if name != "patterns"},
    )
    async with kept(tmp_path) as rig:
        goes = story(rig.node)
        goes.session.lost(1006, "cut")
        rig.forget()
        found = await rig.archive.visit(goes.session.id)
        assert found is not None
        assert (found.record.subject, found.record.patterns) == ("ada", ())
