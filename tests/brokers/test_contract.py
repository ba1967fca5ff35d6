"""The contract that every broker must keep (`hub.core.ports.Broker`)."""

from typing import Any

import pytest

from hub.core.ports import PublishRequest, PublishResult
from hub.core.publication import ENDS, REMOVES, Position
from hub.errors import ConflictError
from tests.brokers.rig import Rig
from tests.support.waiting import eventually


async def test_publications_are_numbered_from_one_in_one_epoch(rig: Rig) -> None:
    """Each channel has a sequence of its own."""
    first, second = await rig.publish(), await rig.publish()
    assert (first.position.offset, second.position.offset) == (1, 2)
    assert first.position.epoch == second.position.epoch
    assert (await rig.publish("b")).position.offset == 1


async def test_a_channel_without_history_is_numbered_as_well(rig: Rig) -> None:
    """A channel without history has offsets too, so that subscribers notice a hole."""
    assert [(await rig.publish("none:a")).position.offset for _ in range(3)] == [1, 2, 3]
    page = await rig.history("none:a")
    assert (page.publications, page.oldest, page.head.offset) == ((), 4, 3)


async def test_subscribing_to_an_unknown_channel_creates_its_epoch(rig: Rig) -> None:
    """A position always exists, and the first publication continues it."""
    head = await rig.subscribe("a")
    assert head.offset == 0
    assert (await rig.publish()).position == Position(head.epoch, 1)


async def test_history_of_an_unknown_channel_has_a_position(rig: Rig) -> None:
    """Asking twice gives the same one."""
    page = await rig.history()
    assert (page.head.offset, page.oldest, page.publications) == (0, 1, ())
    assert (await rig.history()).head == page.head


async def test_a_position_read_before_a_channel_is_used_leads_to_no_false_place(rig: Rig) -> None:
    """Its position either stays true or is in an epoch that the channel never gets."""
    promised = (await rig.history()).head
    first, second = await rig.publish(), await rig.publish()
    assert promised.offset == 0
    assert first.position.offset == 1
    assert second.position.epoch == first.position.epoch
    assert promised.epoch in {first.position.epoch, "none"}


async def test_two_channels_do_not_share_an_epoch(rig: Rig) -> None:
    """A position of one must not pass for one of the other's."""
    assert (await rig.subscribe("a")).epoch != (await rig.subscribe("b")).epoch


async def test_the_head_comes_before_what_follows_it(rig: Rig) -> None:
    """Publications before the head are in history, and later ones are delivered in order."""
    await rig.publish(data=b'"before"')
    head = await rig.subscribe("a")
    assert (head.offset, rig.delivered) == (1, [])
    for number in range(3):
        await rig.publish(data=b"%d" % number)
    assert [(p.offset, p.data) for p in rig.delivered] == [(2, b"0"), (3, b"1"), (4, b"2")]


async def test_only_subscribed_channels_are_delivered(rig: Rig) -> None:
    """A channel is no longer delivered after unsubscribing, and its offsets go on."""
    await rig.subscribe("a")
    await rig.publish("b")
    await rig.publish("a")
    rig.broker.unsubscribe("a")
    await rig.publish("a")
    assert [(p.channel, p.offset) for p in rig.delivered] == [("a", 1)]
    assert (await rig.subscribe("a")).offset == 2


async def test_unsubscribing_from_an_unknown_channel_is_harmless(rig: Rig) -> None:
    rig.broker.unsubscribe("never heard of")
    assert (await rig.publish()).position.offset == 1


async def test_tags_and_marks_are_delivered_and_kept(rig: Rig) -> None:
    await rig.subscribe("a")
    tags = b'{"home":true,"league":"nba"}'
    await rig.broker.publish(PublishRequest("a", b"1", "p", key="k", tags=tags, marks=REMOVES))
    await rig.broker.publish(PublishRequest("a", b"2", "p", marks=ENDS))
    await rig.broker.publish(PublishRequest("a", b"3", "p", tags=b"{}"))
    expected = [(tags, REMOVES), (None, ENDS), (b"{}", 0)]
    assert [(each.tags, each.marks) for each in rig.delivered] == expected
    page = await rig.history()
    assert [(each.tags, each.marks) for each in page.publications] == expected


async def test_a_publication_is_delivered_with_everything_it_was_given(rig: Rig) -> None:
    """Data byte for byte; the time is the broker's."""
    await rig.subscribe("a")
    request = PublishRequest(
        "a", b"12345678901234567890123", "p", key="k", sender="ann", skip_connection="c1"
    )
    await rig.broker.publish(request)
    (publication,) = rig.delivered
    assert publication.data == b"12345678901234567890123"
    assert (publication.key, publication.sender) == ("k", "ann")
    assert publication.skip_connection == "c1"
    assert publication.time_ms == int(rig.clock.wall() * 1000)
    assert (await rig.history()).publications == (publication,)


async def test_history_keeps_the_newest(rig: Rig) -> None:
    """`history_size` of them; `oldest` says from where."""
    for _ in range(8):
        await rig.publish()
    page = await rig.history()
    assert [p.offset for p in page.publications] == [4, 5, 6, 7, 8]
    assert (page.oldest, page.head.offset) == (4, 8)


@pytest.mark.parametrize(
    ("after", "limit", "found"),
    [(0, 2, [4, 5]), (3, 2, [4, 5]), (5, 2, [6, 7]), (7, 9, [8]), (8, 9, []), (99, 9, [])],
)
async def test_history_is_read_in_pages(rig: Rig, after: int, limit: int, found: list[int]) -> None:
    """At most `limit`, with offsets above `after`, oldest first."""
    for _ in range(8):
        await rig.publish()
    assert await rig.offsets(after=after, limit=limit) == found


@pytest.mark.parametrize(
    ("max_bytes", "found"),
    [(1, [1]), (19, [1]), (20, [1, 2]), (39, [1, 2, 3]), (10_000, [1, 2, 3, 4])],
)
async def test_a_page_is_bounded_in_bytes_too(rig: Rig, max_bytes: int, found: list[int]) -> None:
    """10 bytes each here; one comes in any case, so that whoever reads on gets on."""
    for _ in range(4):
        await rig.publish("long:a", b'"' + b"x" * 8 + b'"')
    # Redis counts a whole message, which is a little more than its data.
    page = await rig.history("long:a", max_bytes=max_bytes)
    offsets = [publication.offset for publication in page.publications]
    assert offsets
    assert offsets == found[: len(offsets)]
    if max_bytes == 10_000:
        assert offsets == found


async def test_tags_count_in_a_page_as_data_does(rig: Rig) -> None:
    """A publication of one byte may have some thousand bytes of tags."""
    tags = b"{%b}" % b",".join(b'"%d":"%b"' % (number, b"x" * 200) for number in range(9))
    for _ in range(5):
        await rig.publish("long:a", tags=tags)
        await rig.publish("rows:a", key="a", tags=tags)
        await rig.publish("rows:a", key="b", tags=tags)
    page = await rig.history("long:a", max_bytes=5000)
    assert [publication.offset for publication in page.publications] == [1, 2]
    rows = (await rig.broker.state("rows:a", "", 100, max_bytes=3000)).rows
    assert [row.key for row in rows] == ["a"]


async def test_pages_bounded_in_bytes_follow_one_another_without_hole_or_repeat(rig: Rig) -> None:
    """Whatever the sizes, and whatever a page leaves out."""
    sizes = [2, 5000, 70, 3000, 3000, 1, 9000, 400, 400, 400] * 5
    for size in sizes:
        await rig.publish("long:a", b'"' + b"x" * size + b'"')
    found: list[int] = []
    while page := (
        await rig.history("long:a", found[-1] if found else 0, max_bytes=4000)
    ).publications:
        assert len(page) == 1 or sum(len(publication.data) for publication in page) <= 4000
        found += [publication.offset for publication in page]
    assert found == list(range(1, len(sizes) + 1))


async def test_pages_follow_one_another_without_hole_or_repeat(rig: Rig) -> None:
    """Also through a history much longer than a page, and after old ones were let go."""
    for _ in range(1150):
        await rig.publish("long:a")
    found: list[int] = []
    while page := await rig.offsets("long:a", found[-1] if found else 0, 64):
        found += page
    assert found == list(range(151, 1151))


async def test_history_forgets_what_is_older_than_its_time(rig: Rig) -> None:
    """60 s in this namespace; offsets go on."""
    await rig.publish()
    rig.clock.advance(40)
    await rig.publish()
    rig.clock.advance(21)
    page = await rig.history()
    assert [p.offset for p in page.publications] == [2]
    assert page.oldest == 2
    rig.clock.advance(60)
    page = await rig.history()
    assert (page.publications, page.oldest, page.head.offset) == ((), 3, 2)
    assert (await rig.publish()).position.offset == 3


async def test_a_publication_that_is_not_to_be_kept_is_numbered_and_delivered_all_the_same(
    rig: Rig,
) -> None:
    """History passes over it, also where it is all that a page would have."""
    await rig.subscribe("long:a")
    for number in range(40):
        keep_ms = None if number in {0, 39} else 0
        await rig.broker.publish(PublishRequest("long:a", b"%d" % number, "p", keep_ms=keep_ms))
    assert [each.offset for each in rig.delivered] == list(range(1, 41))
    assert await rig.offsets("long:a") == [1, 40]
    assert await rig.offsets("long:a", limit=1) == [1]
    assert await rig.offsets("long:a", after=1, limit=1) == [40]
    page = await rig.history("long:a")
    assert (page.oldest, page.head.offset, page.invalid) == (1, 40, ())


async def test_a_publication_may_expire_before_its_channel_does(rig: Rig) -> None:
    """Those around it stay; it is delivered at once as ever."""
    await rig.subscribe("a")
    for keep_ms in (None, 20_000, 50_000):
        await rig.broker.publish(PublishRequest("a", b"1", "p", keep_ms=keep_ms))
    assert [each.offset for each in rig.delivered] == [1, 2, 3]
    assert await rig.offsets() == [1, 2, 3]
    rig.clock.advance(21)
    assert await rig.offsets() == [1, 3]
    rig.clock.advance(30)
    assert await rig.offsets() == [1]


async def test_history_is_let_go_of_and_numbers_go_on(rig: Rig) -> None:
    """Also where somebody subscribes; what comes later is held again. Others keep theirs."""
    await rig.subscribe("a")
    for channel in ("a", "a", "b"):
        await rig.publish(channel)
    await rig.broker.clear("a")
    await rig.broker.clear("never heard of")
    page = await rig.history()
    assert (page.publications, page.oldest, page.head.offset) == ((), 3, 2)
    assert await rig.offsets("b") == [1]
    assert (await rig.publish()).position == Position(page.head.epoch, 3)
    page = await rig.history()
    assert ([each.offset for each in page.publications], page.oldest) == ([3], 3)
    assert [each.offset for each in rig.delivered if each.channel == "a"] == [1, 2, 3]


async def test_a_repeat_under_the_same_idempotency_key_gets_the_first_answer(rig: Rig) -> None:
    """The repeat gets no offset and is not delivered."""
    await rig.subscribe("a")
    first = await rig.publish(idempotency_key="i")
    await rig.publish()
    again = await rig.publish(idempotency_key="i")
    assert (first.duplicate, again.duplicate) == (False, True)
    assert again.position == first.position
    assert [p.offset for p in rig.delivered] == [1, 2]


@pytest.mark.parametrize(
    "changed",
    [{"data": b"2"}, {"key": "k"}, {"tags": b'{"a":1}'}, {"marks": ENDS}, {"keep_ms": 0}],
    ids=lambda changed: next(iter(changed)),
)
async def test_the_same_idempotency_key_with_other_data_is_a_conflict(
    rig: Rig, changed: dict[str, Any]
) -> None:
    """Nothing is published then, and the key still answers its first use."""
    first = await rig.publish(data=b"1", idempotency_key="i")
    with pytest.raises(ConflictError, match="'i' was used with other data"):
        await rig.publish(**({"data": b"1"} | changed), idempotency_key="i")
    assert (await rig.publish(data=b"1", idempotency_key="i")).position == first.position
    assert (await rig.history()).head.offset == 1


@pytest.mark.parametrize("data", [b"1", b"2"])
async def test_an_answer_ends_with_its_epoch(rig: Rig, data: bytes) -> None:
    """Nobody reads that epoch any more, so its answer would say of a message that it is there."""
    first = await rig.publish(idempotency_key="i")
    rig.forget("a")
    again = await rig.publish(data=data, idempotency_key="i")
    assert not again.duplicate
    assert again.position.epoch != first.position.epoch
    assert [p.data for p in (await rig.history()).publications] == [data]
    once_more = await rig.publish(data=data, idempotency_key="i")
    assert (once_more.position, once_more.duplicate) == (again.position, True)


async def test_an_epoch_that_ended_never_comes_back(rig: Rig) -> None:
    """A session that resumes with the old epoch is told that it is another one."""
    left: list[str] = []
    for _ in range(5):
        left.append((await rig.publish()).position.epoch)
        rig.forget("a")
        assert (await rig.history()).head.epoch not in left
    assert len(set(left)) == 5


async def test_publications_that_do_not_wait_for_each_other_keep_their_order(rig: Rig) -> None:
    """Each gets its own answer, once; an error of one is not that of the others."""
    if (publish_soon := rig.broker.publish_soon) is None:
        pytest.skip("it has only publish_now, or only coroutines")
    await rig.subscribe("a")
    await rig.publish(data=b'"first"', idempotency_key="once")
    outcomes: dict[int, list[object]] = {number: [] for number in range(6)}
    for number, found in outcomes.items():
        key = "once" if number == 3 else None
        request = PublishRequest("a", b"%d" % number, "backend", idempotency_key=key)
        publish_soon(request, found.append)
        assert found == [], "it may call back only after it has returned"
    await eventually(lambda: all(outcomes.values()) and len(rig.delivered) == 6)
    kinds = {number: [type(each) for each in found] for number, found in outcomes.items()}
    others: list[type] = [PublishResult]
    assert kinds == {0: others, 1: others, 2: others, 3: [ConflictError], 4: others, 5: others}
    made = [each for found in outcomes.values() for each in found]
    offsets = [each.offset for each in made if isinstance(each, PublishResult)]
    assert offsets == [2, 3, 4, 5, 6]
    assert [each.data for each in rig.delivered] == [b'"first"', b"0", b"1", b"2", b"4", b"5"]
    assert [each.offset for each in rig.delivered] == [1, *offsets]


async def test_the_scope_of_an_idempotency_key_is_publisher_channel_and_key(rig: Rig) -> None:
    """Two backends that both count from 1 do not meet."""
    await rig.publish("a", idempotency_key="1", publisher="p")
    others = [
        await rig.publish("a", idempotency_key="1", publisher="q"),
        await rig.publish("b", idempotency_key="1", publisher="p"),
        await rig.publish("a", idempotency_key="2", publisher="p"),
    ]
    assert not any(other.duplicate for other in others)


async def test_an_idempotency_key_is_remembered_for_five_minutes(rig: Rig) -> None:
    """From its first use; a repeat does not prolong it."""
    first = await rig.publish(idempotency_key="i")
    rig.clock.advance(299)
    assert (await rig.publish(idempotency_key="i")).position == first.position
    rig.clock.advance(1)
    later = await rig.publish(data=b"2", idempotency_key="i")
    assert not later.duplicate
    assert later.position.offset == 2


async def test_the_newest_publication_of_each_key_is_the_state(rig: Rig) -> None:
    """Rows come in the order of the keys, and a publication without a key is no row."""
    for key, data in (("b", b"1"), ("a", b"2"), ("b", b"3")):
        await rig.publish("rows:a", data, key=key)
    last = await rig.publish("rows:a", b"4")
    page = await rig.broker.state("rows:a", "", 100)
    assert [(row.key, row.offset, row.data) for row in page.rows] == [
        ("a", 2, b"2"),
        ("b", 3, b"3"),
    ]
    assert (page.head, page.next, page.dropped) == (last.position, None, 0)


async def test_a_row_is_taken_away_by_a_publication_that_removes_it(rig: Rig) -> None:
    """The removal gets an offset and is delivered like any other publication."""
    await rig.subscribe("rows:a")
    await rig.publish("rows:a", key="a")
    await rig.publish("rows:a", key="b")
    gone = await rig.publish("rows:a", b"null", key="a", marks=REMOVES)
    assert gone.position.offset == 3
    assert await rig.rows("rows:a") == {"b": (2, b"1")}
    assert [(each.key, each.marks) for each in rig.delivered] == [
        ("a", 0),
        ("b", 0),
        ("a", REMOVES),
    ]
    assert (await rig.publish("rows:a", b"null", key="a", marks=REMOVES)).position.offset == 4
    await rig.publish("rows:a", b"5", key="a")
    assert await rig.rows("rows:a") == {"a": (5, b"5"), "b": (2, b"1")}


async def test_state_of_an_unknown_channel_is_empty(rig: Rig) -> None:
    page = await rig.broker.state("rows:a", "", 100)
    assert (page.head.offset, page.rows, page.next) == (0, (), None)


async def test_a_channel_that_is_not_keyed_keeps_no_state(rig: Rig) -> None:
    await rig.publish("a", key="a")
    assert (await rig.broker.state("a", "", 100)).rows == ()


async def test_state_comes_in_pages_that_lose_nothing_when_rows_change(rig: Rig) -> None:
    """A row that changed after the first page has its former value or is left out, because its
    change follows that page."""
    keys = [f"k{number:02}" for number in range(20)]
    for key in keys:
        await rig.publish("rows:a", b"0", key=key)
    first = await rig.broker.state("rows:a", "", 5)
    upto = first.head.offset
    await rig.publish("rows:a", b"1", key="k01")
    await rig.publish("rows:a", b"1", key="k07")
    await rig.publish("rows:a", b"1", key="k99")
    await rig.publish("rows:a", b"null", key="k12", marks=REMOVES)
    found, after = list(first.rows), first.next
    while after is not None:
        page = await rig.broker.state("rows:a", after, 5, upto=upto)
        found += page.rows
        after = page.next
    assert all(row.data == b"0" and row.offset <= upto for row in found)
    read = [row.key for row in found]
    assert read == sorted(read, key=str)
    changed = {"k07", "k12"}
    assert {*read} | changed == {*keys}


async def test_pages_of_state_are_bounded_in_bytes(rig: Rig) -> None:
    """One row there is at least."""
    for key in "abc":
        await rig.publish("rows:a", b'"%b"' % (b"x" * 998), key=key)
    page = await rig.broker.state("rows:a", "", 100, max_bytes=2500)
    assert [row.key for row in page.rows] == ["a", "b"]
    page = await rig.broker.state("rows:a", page.next or "", 100, max_bytes=10)
    assert [row.key for row in page.rows] == ["c"]
    assert await rig.rows("rows:a", limit=1) == {key: (at, page.rows[0].data)
        for at, key in enumerate("abc", 1)}  # fmt: skip


async def test_keys_are_ordered_by_code_points(rig: Rig) -> None:
    """The same on every broker: a page of one may be followed by one of another node."""
    keys = ["\U0001f600", "\uffee", "z", "Z", "é", "a b", 'quote"', "a\x7f"[:1]]
    for key in keys:
        await rig.publish("rows:a", key=key)
    assert list(await rig.rows("rows:a", limit=2)) == sorted(keys)


async def test_the_row_that_changed_longest_ago_goes_where_there_are_too_many(rig: Rig) -> None:
    """The state says how many rows were dropped."""
    for key in "abcd":
        await rig.publish("table:a", key=key)
    await rig.publish("table:a", key="a")
    assert (await rig.broker.state("table:a", "", 9)).dropped == 0
    await rig.publish("table:a", key="e")
    assert list(await rig.rows("table:a")) == ["a", "c", "d", "e"]
    assert (await rig.broker.state("table:a", "", 9)).dropped == 1


async def test_rows_that_are_not_renewed_expire(rig: Rig) -> None:
    """Each by its own age; rows without a time to live outlive history."""
    await rig.publish("table:a", key="a")
    await rig.publish("table:a", key="b")
    await rig.publish("rows:a", key="a")
    rig.clock.advance(100)
    await rig.publish("table:a", key="a")
    rig.clock.advance(30)
    assert await rig.rows("table:a") == {"a": (3, b"1")}
    assert await rig.rows("rows:a") == {"a": (1, b"1")}


async def test_a_repeat_with_an_idempotency_key_changes_no_row(rig: Rig) -> None:
    await rig.publish("rows:a", b"1", key="a", idempotency_key="once")
    await rig.publish("rows:a", b"2", key="a")
    again = await rig.publish("rows:a", b"1", key="a", idempotency_key="once")
    assert again.duplicate
    assert await rig.rows("rows:a") == {"a": (2, b"2")}


async def test_a_pattern_finds_the_channels_that_were_published_in(rig: Rig) -> None:
    """Not those that somebody has only subscribed to, or read."""
    for channel in ("prices:a", "prices:b", "prices:b:c", "news", "none:a"):
        await rig.publish(channel)
    await rig.subscribe("prices:d")
    await rig.history("prices:e")
    rig.broker.follow(rig)

    async def found(pattern: str, most: int = 100) -> list[str]:
        return sorted(await rig.broker.matching(pattern, most))

    assert await found("prices:*") == ["prices:a", "prices:b"]
    assert await found("prices:**") == ["prices:a", "prices:b", "prices:b:c"]
    assert await found("none:*") == ["none:a"]
    assert await found("nothing:*") == []
    assert len(await found("**", 2)) == 2
    await rig.publish("prices:d")
    assert await found("prices:*", 3) == ["prices:a", "prices:b", "prices:d"]


async def test_a_channel_is_told_of_once_it_is_published_in(rig: Rig) -> None:
    """Each with its first publication, in whatever epoch; until nobody follows."""
    await rig.publish("a")
    rig.broker.follow(rig)
    assert list(await rig.broker.matching("*", 9)) == ["a"]
    await rig.subscribe("b")
    await rig.publish("a")
    await rig.publish("b")
    await rig.publish("none:c")
    await eventually(lambda: rig.appearances == ["b", "none:c"])
    rig.broker.unsubscribe("b")
    rig.forget("b")
    await rig.publish("b")
    await eventually(lambda: rig.appearances == ["b", "none:c", "b"])
    assert sorted(await rig.broker.matching("**", 9)) == ["a", "b", "none:c"]
    rig.broker.unfollow()
    await rig.publish("d")
    rig.broker.follow(rig)
    assert sorted(await rig.broker.matching("**", 9)) == ["a", "b", "d", "none:c"]
    await rig.publish("e")
    await eventually(lambda: rig.appearances[-1] == "e")
    assert rig.appearances == ["b", "none:c", "b", "e"]


async def test_a_channel_is_told_of_again_when_something_follows_its_end(rig: Rig) -> None:
    """Patterns bring it anew; one alone, or together with what follows it."""
    rig.broker.follow(rig)
    assert list(await rig.broker.matching("*", 9)) == []
    for _ in range(2):
        await rig.publish("a")
        await rig.publish("a", marks=ENDS)
    await eventually(lambda: rig.appearances == ["a", "a"])
    await rig.publish("a")
    await rig.publish("a")
    await rig.publish("b")
    await eventually(lambda: rig.appearances[-1] == "b")
    assert rig.appearances == ["a", "a", "a", "b"]


async def test_a_pattern_finds_no_channel_of_the_hub_itself_unless_it_names_them(rig: Rig) -> None:
    """Those that only operators read."""
    await rig.publish("hub:stats")
    await rig.publish("hub")
    rig.broker.follow(rig)
    assert list(await rig.broker.matching("**", 9)) == ["hub"]
    assert list(await rig.broker.matching("hub:*", 9)) == ["hub:stats"]


async def test_channels_that_are_expected_are_subscribed_to_as_ever(rig: Rig) -> None:
    await rig.publish("a")
    rig.broker.expect(["a", "b"])
    assert [(await rig.subscribe(name)).offset for name in ("a", "b")] == [1, 0]
    await rig.publish("a")
    await rig.publish("b")
    await eventually(lambda: [(p.channel, p.offset) for p in rig.delivered] == [("a", 2), ("b", 1)])
