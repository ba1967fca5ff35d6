"""History from a moment on, and backwards: against a plain list of what is held."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from hub.core.ports import PAGE_BYTES, HistoryPage
from hub.core.publication import Position, Publication
from hub.core.reading import LookBack, look_back

TIMES = st.lists(st.integers(0, 3), min_size=1, max_size=40)


class Held:
    """Answers `history` of some offsets, of which the first held is `oldest`, in small pages."""

    def __init__(self, publications: list[Publication], *, head: int, oldest: int) -> None:
        self.publications = publications
        self.head = head
        self.oldest = oldest
        self.asked = 0

    async def history(
        self, _channel: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> HistoryPage:
        self.asked += 1
        found = [each for each in self.publications if each.offset > after][: min(limit, 7)]
        return HistoryPage(Position("e", self.head), self.oldest, tuple(found))


@given(
    steps=TIMES,
    gone=st.sets(st.integers(1, 40)),
    trimmed=st.integers(0, 40),
    from_ms=st.none() | st.integers(0, 100),
    limit=st.integers(1, 12),
    reverse=st.booleans(),
)
def test_pages_bring_all_that_was_asked_for_in_its_order(
    steps: list[int], gone: set[int], trimmed: int, from_ms: int | None, limit: int, reverse: bool
) -> None:
    """Each publication comes once whatever is missing in between, and `next` leads to the end."""
    time_ms, everything = 0, []
    for offset, step in enumerate(steps, 1):
        time_ms += step
        everything.append(Publication("a", offset, b"1", time_ms))
    oldest = min(trimmed, len(everything)) + 1
    held = [each for each in everything if each.offset >= oldest and each.offset not in gone]
    broker = Held(held, head=len(everything), oldest=oldest)
    since, found = None, []
    while True:
        asked = LookBack(limit, from_ms, since, reverse)
        answer = asyncio.run(look_back(broker, "a", asked))  # type: ignore[arg-type]  # it only reads
        assert len(answer.page.publications) <= limit
        found += [each.offset for each in answer.page.publications]
        if answer.next is None:
            break
        since = answer.next
    wanted = [each.offset for each in held if from_ms is None or each.time_ms >= from_ms]
    assert found == (wanted[::-1] if reverse else wanted)


def test_a_moment_in_a_long_history_takes_few_questions() -> None:
    """The moment is found by halving."""
    held = Held(
        [Publication("a", n, b"1", n * 10) for n in range(1, 10_001)], head=10_000, oldest=1
    )
    found = asyncio.run(look_back(held, "a", LookBack(1, 70_005)))  # type: ignore[arg-type]  # as above
    assert [each.offset for each in found.page.publications] == [7001]
    assert found.complete
    assert held.asked < 25


def turns(asked: LookBack, *, head: int) -> int:
    """How often others get a turn while a channel is read that holds only its newest."""
    held = Held([Publication("a", head, b"1", 5)], head=head, oldest=1)
    found = 0

    async def read() -> None:
        page = (await look_back(held, "a", asked)).page  # type: ignore[arg-type]
        assert [each.offset for each in page.publications] == [head]

    async def count() -> None:
        nonlocal found
        reading = asyncio.ensure_future(read())
        while not reading.done():
            found += 1
            await asyncio.sleep(0)
        await reading

    asyncio.run(count())
    return found


def test_others_get_a_turn_after_each_read_of_a_long_channel() -> None:
    """A read passes over all that is not held any more, and one question reads many times."""
    for asked in (LookBack(10, reverse=True), LookBack(10, from_ms=1)):
        assert turns(asked, head=100_000) >= 10
        assert turns(asked, head=1000) <= 2
