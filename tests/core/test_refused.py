"""A node counts every refusal and every peer that a limit held back, in
a bounded number of rows."""

from hypothesis import given
from hypothesis import strategies as st

from hub.admin.refused import LIMITED
from hub.core.refused import MAX_ROWS, PAUSE_MS, RefusedTable


class Rig:
    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.table = RefusedTable("n1", lambda: self.now_ms)

    def refuse(self, reason: str = "key", address: str = "203.0.113.9", **more: str) -> None:
        named = {"origin": None, "host": None, "detail": "no such key"} | more
        self.table.refused(reason, address=address, **named)  # type: ignore[arg-type]

    def hold(self, name: str = "c1", limit: str = "commands") -> None:
        self.table.limited(limit, by="connection", name=name, address="203.0.113.9")


def test_a_row_says_how_often_since_when_and_what_was_last() -> None:
    rig = Rig()
    rig.refuse(origin="http://a.example", host="hub.example")
    rig.now_ms += 5000
    rig.refuse(detail="not allowed")
    (row,) = rig.table.refusals()
    assert (row.reason, row.address, row.count) == ("key", "203.0.113.9", 2)
    assert (row.first_ms, row.last_ms) == (1_000_000, 1_005_000)
    assert (row.detail, row.origin, row.host) == ("not allowed", "http://a.example", "hub.example")
    assert row.node == "n1"


def test_addresses_of_one_ipv6_network_share_a_row() -> None:
    rig = Rig()
    for last in range(5):
        rig.refuse(address=f"2001:db8::{last}")
    (row,) = rig.table.refusals()
    assert (row.address, row.count) == ("2001:db8::/64", 5)


@given(st.lists(st.tuples(st.sampled_from(["key", "origin"]), st.integers(0, 300)), max_size=600))
def test_counts_add_up_however_many_addresses_there_are(refused: list[tuple[str, int]]) -> None:
    rig = Rig()
    for reason, address in refused:
        rig.refuse(reason, f"203.0.{address // 256}.{address % 256}")
    rows = rig.table.refusals()
    for reason in ("key", "origin"):
        of_one = [row for row in rows if row.reason == reason]
        assert sum(row.count for row in of_one) == sum(each == reason for each, _ in refused)
        assert len(of_one) <= MAX_ROWS + 1
        assert sum(not row.address for row in of_one) <= 1


def test_a_flood_of_one_reason_hides_no_other() -> None:
    rig = Rig()
    rig.refuse("origin", "198.51.100.1")
    for number in range(10_000):
        rig.refuse("key", f"10.{number // 250}.{number % 250}.1")
    assert [row.address for row in rig.table.refusals() if row.reason == "origin"] == [
        "198.51.100.1"
    ]
    assert len(rig.table.refusals()) == MAX_ROWS + 2


def test_texts_that_strangers_wrote_are_cut() -> None:
    rig, long = Rig(), "x" * 10_000
    rig.refuse(address=long, detail=long, origin=long, host=long)
    rig.hold(long)
    (row,), (held,) = rig.table.refusals(), rig.table.held_back()
    whole = f"{row.address}{row.detail}{row.origin}{row.host}{held.name}"
    assert len(whole) < 1000


def test_a_subject_and_an_address_of_one_name_have_a_row_each() -> None:
    rig = Rig()
    for by in ("subject", "address", "subject"):
        rig.table.limited("publishes", by=by, name="192.0.2.1", address="192.0.2.1")
    rows = {(row.by, row.name): row.count for row in rig.table.held_back()}
    assert rows == {("subject", "192.0.2.1"): 2, ("address", "192.0.2.1"): 1}
    assert len({LIMITED.name_of(row) for row in rig.table.held_back()}) == 2


def test_whom_a_limit_holds_back_is_told_since_when() -> None:
    """After a pause the time begins anew."""
    rig = Rig()
    rig.hold()
    rig.now_ms += 10_000
    rig.hold()
    (row,) = rig.table.held_back()
    assert (row.limit, row.by, row.name, row.count) == ("commands", "connection", "c1", 2)
    assert (row.since_ms, row.last_ms) == (1_000_000, 1_010_000)
    rig.now_ms += PAUSE_MS + 1
    rig.hold()
    (row,) = rig.table.held_back()
    assert (row.count, row.since_ms) == (1, rig.now_ms)
