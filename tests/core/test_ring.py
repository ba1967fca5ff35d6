"""A ring drops, replaces and announces, and loses nothing in between."""

from collections.abc import Sequence
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from hub.core.options import Overflow
from hub.core.pushes import GapReason
from hub.core.session.ring import COMPACT_HOLES, Entry, EntryKind, Hole, Ring


def publication(offset: int, key: str | None = None, at: float = 0.0) -> Entry:
    return Entry(EntryKind.PUBLICATION, offset, b"p%d" % offset, at, key, offset)


def reply(text: bytes = b"reply") -> Entry:
    return Entry(EntryKind.KEEP, 0, text, 0.0)


def silent(offset: int) -> Entry:
    """Makes the entry of a publication that its own publisher asked not to get back."""
    return Entry(EntryKind.KEEP, offset, b"", 0.0, first=offset)


PRESENCE = Entry(EntryKind.PRESENCE, 0, b"join", 0.0)
RAW = Entry(EntryKind.RAW, 0, b"raw", 0.0)


def announce(hole: Hole) -> bytes:
    if hole.unsequenced:
        return b"gap unsequenced %d" % hole.unsequenced
    return b"gap %d-%d %b" % (hole.first, hole.last, hole.reason.value.encode())


def take(ring: Ring, count: int | None = None) -> list[bytes]:
    return [frame for frame, _ in islice(ring.take(announce, lambda: b"reset"), count)]


def ring_of(entries: Sequence[Entry], overflow: Overflow = Overflow.DROP_OLDEST) -> Ring:
    ring = Ring(0, overflow, "e")
    for entry in entries:
        ring.append(entry)
    return ring


def test_entries_come_out_in_order_until_none_is_owed() -> None:
    """Without loss nothing is announced."""
    ring = ring_of([publication(1), reply(), publication(2), PRESENCE])
    assert take(ring) == [b"p1", b"reply", b"p2", b"join"]
    assert ring.empty
    assert (ring.bytes, ring.kept_bytes, ring.cursor) == (0, 0, 2)


def test_dropped_publications_leave_one_gap_in_front() -> None:
    """The gap has the exact range, and the newest publications come behind it."""
    ring = ring_of([publication(n) for n in range(1, 6)])
    assert [dropped.offset for _ in range(3) if (dropped := ring.drop_oldest())] == [1, 2, 3]
    assert take(ring) == [b"gap 1-3 slow", b"p4", b"p5"]
    assert ring.cursor == 5


def test_a_ring_of_which_everything_was_dropped_still_owes_the_notice() -> None:
    """The loss itself must not get lost."""
    ring = ring_of([publication(1)])
    ring.drop_oldest()
    assert len(ring) == 0
    assert not ring.empty
    assert ring.drop_oldest() is None
    assert take(ring) == [b"gap 1-1 slow"]
    assert ring.empty


def test_a_newer_publication_of_the_same_key_replaces_the_older() -> None:
    """The older one is taken out, so that offsets rise, and its hole is announced in its place."""
    ring = ring_of(
        [publication(1), publication(2, "a"), publication(3), publication(4, "a")],
        Overflow.LATEST_PER_KEY,
    )
    assert len(ring) == 3
    assert take(ring) == [b"p1", b"gap 2-2 conflated", b"p3", b"p4"]


def test_keys_mean_nothing_to_other_policies() -> None:
    ring = ring_of([publication(1, "a"), publication(2, "a")])
    assert take(ring) == [b"p1", b"p2"]


def test_a_hole_at_the_ring_head_is_slow_and_one_behind_it_conflated() -> None:
    """Each hole is announced with its own reason."""
    ring = ring_of(
        [publication(1), publication(2, "a"), publication(3), publication(4, "a")],
        Overflow.LATEST_PER_KEY,
    )
    ring.drop_oldest()
    assert take(ring) == [b"gap 1-1 slow", b"gap 2-2 conflated", b"p3", b"p4"]


def test_a_replaced_publication_before_a_silent_one_is_announced() -> None:
    """Moving the position over a publication that is not echoed must not hide another's loss."""
    entries = [publication(1, "a"), silent(2), publication(3, "a")]
    ring = ring_of(entries, Overflow.LATEST_PER_KEY)
    assert take(ring) == [b"gap 1-1 conflated", b"", b"p3"]


def test_a_silent_publication_is_no_hole() -> None:
    """The publisher does not miss what it asked not to get."""
    assert take(ring_of([publication(1), silent(2), publication(3)])) == [b"p1", b"", b"p3"]


def test_a_gap_owed_stands_for_its_whole_range() -> None:
    """Publications that the broker lost are not announced a second time as conflated."""
    lost = Entry(EntryKind.KEEP, 4, b"lost 2-4", 0.0, first=2)
    assert take(ring_of([publication(1), lost, publication(5)])) == [b"p1", b"lost 2-4", b"p5"]


def test_replies_are_never_dropped_and_keep_their_place() -> None:
    """A reply stands between the two gaps of what was dropped around it."""
    ring = ring_of([publication(1), reply(), publication(2), publication(3)])
    ring.drop_oldest()
    ring.drop_oldest()
    assert take(ring) == [b"gap 1-1 slow", b"reply", b"gap 2-2 slow", b"p3"]


def test_dropped_presence_and_unsequenced_publications_are_announced_in_their_own_way() -> None:
    """They have no offsets to name."""
    ring = ring_of([PRESENCE, RAW, RAW, publication(1)])
    for _ in range(3):
        ring.drop_oldest()
    assert take(ring) == [b"gap unsequenced 2", b"reset", b"p1"]
    assert ring.empty


def test_a_reader_that_stops_taking_loses_nothing() -> None:
    """Frame by frame gives the same as all at once."""
    entries = [publication(n, "a" if n % 2 else None) for n in range(1, 9)]
    whole = take(ring_of(entries, Overflow.LATEST_PER_KEY))
    ring = ring_of(entries, Overflow.LATEST_PER_KEY)
    single = [frame for _ in range(20) for frame in take(ring, 1)]
    assert single == whole


def test_the_oldest_time_is_that_of_what_may_be_dropped() -> None:
    """Replies do not age."""
    ring = ring_of([reply(), publication(1, at=5.0), publication(2, at=7.0)])
    assert ring.oldest_at == 5.0
    ring.drop_oldest()
    assert ring.oldest_at == 7.0
    ring.drop_oldest()
    assert ring.oldest_at is None


def test_replies_are_what_is_left_when_the_rest_is_forgotten() -> None:
    """Replies are kept that dropping has already taken out of the ring."""
    ring = ring_of([reply(b"1"), publication(1), reply(b"2"), publication(2)])
    ring.drop_oldest()
    assert [entry.frame for entry in ring.replies()] == [b"1", b"2"]


def test_replaced_entries_do_not_pile_up() -> None:
    """A key that changes for ever costs a bounded ring."""
    ring = ring_of([publication(1)], Overflow.LATEST_PER_KEY)
    for offset in range(2, 5000):
        ring.append(publication(offset, "a"))
    assert len(ring) == 2
    assert len(ring._entries) <= 2 * COMPACT_HOLES + 2
    assert ring.bytes == len(b"p1" + b"p4999")
    assert take(ring) == [b"p1", b"gap 2-4998 conflated", b"p4999"]


STEPS = st.lists(
    st.sampled_from(["publish", "a", "b", "silent", "reply", "join", "drop", "take"]), max_size=60
)


@given(STEPS, st.sampled_from(list(Overflow)))
def test_every_offset_arrives_or_is_announced_once_in_order(
    steps: list[str], overflow: Overflow
) -> None:
    """Publications are put in, dropped and taken out in any order."""
    ring, offset, replies = Ring(0, overflow, "e"), 0, 0
    dropped: list[int] = []
    replaced: list[int] = []
    newest: dict[str, int] = {}
    silents: set[int] = set()
    holes: list[Hole] = []
    out: list[bytes] = []

    def note(hole: Hole) -> bytes:
        holes.append(hole)
        return b"gap"

    for step in steps:
        if step == "drop":
            entry = ring.drop_oldest()
            if entry is not None and entry.kind is EntryKind.PUBLICATION:
                dropped.append(entry.offset)
        elif step == "take":
            out += [frame for frame, _ in islice(ring.take(note, lambda: b"reset"), 2)]
        elif step == "reply":
            replies += 1
            ring.append(reply())
        elif step == "join":
            ring.append(PRESENCE)
        else:
            offset += 1
            key = step if step in "ab" else None
            entry = silent(offset) if step == "silent" else publication(offset, key)
            silents |= {offset} if step == "silent" else set()
            if ring.append(entry):
                assert key is not None
                replaced.append(newest[key])
            if key is not None:
                newest[key] = offset
    out += [frame for frame, _ in ring.take(note, lambda: b"reset")]

    arrived = [int(frame[1:]) for frame in out if frame.startswith(b"p")]
    missing = [o for hole in holes for o in range(hole.first, hole.last + 1)]
    unheard = {o for o in range(1, offset + 1) if o not in arrived and o not in missing}
    assert arrived == sorted(set(arrived))
    assert missing == sorted(set(missing))
    assert not set(arrived) & set(missing)
    assert unheard == silents
    # One entry stands for those that follow each other.
    assert out.count(b"") <= len(silents)
    assert set(dropped) | set(replaced) == set(missing)
    assert out.count(b"reply") == replies
    assert ring.empty
    assert (ring.bytes, ring.kept_bytes, len(ring), ring.cursor) == (0, 0, 0, offset)
    assert overflow is Overflow.LATEST_PER_KEY or not replaced
    assert all(h.reason in {GapReason.SLOW, GapReason.CONFLATED} for h in holes)
