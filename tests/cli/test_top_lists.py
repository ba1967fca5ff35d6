"""Keys change the lists of `hub top`: sorting, columns and filters, without a terminal."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from hub.admin.channels import CHANNELS as CHANNEL_LIST
from hub.admin.connections import CONNECTIONS as CONNECTION_LIST
from hub.cli.columns import (
    CONNECTIONS,
    TerminalColumn,
    away_sentence,
    fitted,
    node_state,
    rate,
    shown,
    size,
    span,
    with_age,
)
from hub.cli.drain import Emptying
from hub.cli.operator import Json, OperatorError
from hub.cli.tail import changes
from hub.cli.top_picture import details
from hub.cli.top_taking import Snapshot
from hub.cli.top_view import LISTINGS, Shown, TopList, ordered, pressed, shown_at_first


def after(shown: Shown, *keys: str) -> Shown:
    for key in keys:
        found = pressed(shown, key)
        assert found is not None, key
        shown = found
    return shown


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda listing: listing.name)
def test_every_column_that_sorts_has_a_key_of_its_own(listing: TopList) -> None:
    """None of them is a key that does something else."""
    keys = [column.key for column in listing.columns if column.sort]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 1 and key not in "qr? <>123" for key in keys)
    first = shown_at_first(listing.name, None)
    for column in listing.columns:
        if column.sort and column.sort != first.sort:
            chosen = after(first, column.key)
            assert (chosen.sort, chosen.descending) == (column.sort, column.number)


def test_the_hub_sorts_by_every_column_that_can_be_chosen() -> None:
    """Else a refresh would be refused."""
    connections, channels, _ = LISTINGS
    assert {column.sort for column in connections.columns} - {""} <= CONNECTION_LIST.sorts.keys()
    assert {column.sort for column in channels.columns} - {""} <= CHANNEL_LIST.sorts.keys()


def test_every_column_of_the_hubs_lists_is_shown_where_operators_look() -> None:
    """A field that is added to a record is added here and in the dashboard, or left out on purpose:
    messages owed stand beside their bytes, and positions are sorted by their offset."""
    connections, channels, _ = LISTINGS
    views = Path("hub/dashboard/views")
    for listing, shown_there, view in (
        (CONNECTION_LIST, connections, "connections.js"),
        (CHANNEL_LIST, channels, "channels.js"),
    ):
        expected = listing.sorts.keys() - {"outbox_messages"}
        assert {column.sort for column in shown_there.columns} - {"", "sent_per_second"} == expected
        drawn = set(re.findall(r'name: "([a-z_]+)"', (views / view).read_text()))
        assert expected <= drawn, view


def test_the_same_column_again_turns_the_order_round() -> None:
    first = shown_at_first("connections", "-sent")
    assert (after(first, "s").order, after(first, "s", "s").order) == ("sent", "-sent")
    assert after(first, "r").order == "sent"


def test_arrows_go_round_all_columns() -> None:
    """To the right as often as there are columns is where one was."""
    first = shown_at_first("nodes", None)
    sortable = [column for column in first.listing.columns if column.sort]
    sorts = {after(first, *["right"] * steps).sort for steps in range(len(sortable))}
    assert sorts == {column.sort for column in sortable}
    assert after(first, *["right"] * len(sortable)).sort == first.sort
    assert after(first, "left", "right").sort == first.sort


def test_a_pause_outlasts_a_change_of_list_and_help_does_not() -> None:
    paused = after(shown_at_first("connections", None), " ", "?", "2")
    assert (paused.listing.name, paused.paused, paused.help) == ("channels", True, False)


def test_only_q_ends_it_and_other_keys_do_nothing() -> None:
    first = shown_at_first("connections", None)
    assert pressed(first, "q") is None
    assert after(first, "Z", "\x1b[A", "\x00") == first


NAMES = ("a", "b", "c")


def with_rows(shown: Shown, *keys: str) -> Shown:
    """After keys that were pressed where these rows are on the screen."""
    for key in keys:
        found = pressed(shown, key, NAMES)
        assert found is not None, key
        shown = found
    return shown


def test_a_row_is_marked_opened_and_closed() -> None:
    """The mark begins at the end that is come from, and stops at both."""
    first = shown_at_first("connections", None)
    marks = [with_rows(first, *["down"] * times).selected for times in range(5)]
    assert marks == ["", "a", "b", "c", "c"]
    assert with_rows(first, "up").selected == "c"
    assert not with_rows(first, "enter").is_open
    opened = with_rows(first, "down", "enter")
    assert (opened.selected, opened.is_open) == ("a", True)
    assert with_rows(opened, "down") == opened
    closed = with_rows(opened, "escape")
    assert (closed.selected, closed.is_open) == ("a", False)
    assert with_rows(closed, "escape") == first


def test_a_row_stays_open_when_it_has_left_the_screen() -> None:
    """Otherwise another row would be looked at in its place."""
    opened = with_rows(shown_at_first("connections", None), "down", "enter")
    assert pressed(opened, "enter", ()) == opened


def test_while_a_filter_is_typed_keys_are_its_characters() -> None:
    """`q` and columns' keys too; Enter keeps it and Escape takes it away."""
    first = shown_at_first("connections", None)
    typing = after(first, "/", "s", "q", "é", "x", "backspace")
    assert (typing.filter, typing.is_typing, typing.sort) == ("sqé", True, first.sort)
    kept = after(typing, "enter")
    assert (kept.filter, kept.is_typing) == ("sqé", False)
    assert after(kept, "s").sort == "sent"
    assert after(typing, "escape") == after(kept, "escape") == first


def test_a_filter_looks_into_every_column() -> None:
    """Large and small letters are alike."""
    rows: list[Json] = [
        {"connection": "c1", "subject": "Ada", "sent": 1},
        {"connection": "c2", "address": "10.0.0.7", "sent": 2},
        {"connection": "ada-3", "sent": 3},
    ]

    def names(text: str) -> list[str]:
        chosen = after(shown_at_first("connections", "-sent"), "/", *text)
        return [row["connection"] for row in ordered(chosen, rows)]

    assert (names("ADA"), names("0.0.7"), names("zz")) == (["ada-3", "c1"], ["c2"], [])


def test_fields_of_an_open_row_stand_below_each_other() -> None:
    """With its subscriptions; and it is said when it is there no more."""
    chosen = replace(shown_at_first("connections", None), selected="c1", is_open=True)
    row: Json = {
        "connection": "c1",
        "outbox_bytes": 2048,
        "subject": "a\x1b[2J",
        "subscriptions": [
            {
                "channel": "prices",
                "position": "e:4",
                "state": "live",
                "outbox_messages": 3,
                "dropped": 9,
            }
        ],
    }
    snapshot = Snapshot("connections", 0.0, [], [], 0, opened=row)
    text = "\n".join(details(chosen, snapshot))
    for part in ("outbox bytes", "2.0K", "1 subscriptions", "prices", "owed 3, dropped 9"):
        assert part in text
    assert "\x1b" not in text
    gone = details(chosen, replace(snapshot, opened=None))
    assert gone == ["c1 is not there any more"]


def test_nodes_whose_figures_are_old_say_so() -> None:
    """The node that answers is of now."""
    answer: Json = {
        "complete": False,
        "node": "n1",
        "nodes": [
            {
                "node": "n1",
                "at_ms": 100_000,
                "broker_away": ["redis://r (refused)"],
                "broker_away_since_ms": 70_000,
            },
            {"node": "n2", "at_ms": 66_000},
        ],
    }
    assert [node_state(row) for row in with_age(answer)] == ["ok", "figures 34s old"]
    assert away_sentence(answer["nodes"]).startswith("redis://r (refused) away since ")
    assert [node_state(row) for row in with_age(answer | {"complete": True})] == ["ok", "ok"]


def test_rows_are_sorted_by_their_values_and_lists_by_their_length() -> None:
    """Rows without a value come first, and last in descending order."""
    rows: list[Json] = [
        {"connection": "a", "subscriptions": [1], "round_trip_ms": None},
        {"connection": "b", "subscriptions": [1, 2], "round_trip_ms": 0.5},
        {"connection": "c", "subscriptions": [], "round_trip_ms": 10.0},
    ]

    def names(sort: str) -> str:
        chosen = shown_at_first("connections", sort)
        return "".join(row["connection"] for row in ordered(chosen, rows))

    assert (names("-subscriptions"), names("round_trip_ms"), names("-connection")) == (
        "bac",
        "abc",
        "cba",
    )


def test_channels_are_sorted_by_the_offset_in_their_position() -> None:
    rows: list[Json] = [{"position": "b:9"}, {"position": "a:10"}]
    chosen = shown_at_first("channels", "-offset")
    assert [row["position"] for row in ordered(chosen, rows)] == ["a:10", "b:9"]


def test_columns_of_the_highest_rank_make_room_first_but_never_the_sorted_one() -> None:
    row: Json = {"connection": "c" * 24, "user_agent": "u" * 200}
    titles = [column.title for column in fitted(CONNECTIONS, [row], 80)]
    assert titles[0] == "CONNECTION"
    assert {"SENT", "DROPPED"} < set(titles)
    assert "USER AGENT" not in titles
    kept = fitted(CONNECTIONS, [row], 80, sort="user_agent")
    assert kept[-1].title == "USER AGENT"
    assert len(fitted(CONNECTIONS, [row], 300)) == len(CONNECTIONS)


@pytest.mark.parametrize("width", [36, 40, 43])
def test_where_nothing_is_left_to_make_room_a_figure_is_left_out_and_not_cut(width: int) -> None:
    """Half of a number, or none under its title, would be read as another one."""
    row: Json = {"connection": "c" * 24, "sent": 5347, "dropped": 12345678}
    kept = fitted(CONNECTIONS, [row], width, sort="sent")
    assert [column.title for column in kept] == ["CONNECTION", "SENT"]


def test_a_column_without_an_order_is_not_kept_for_a_list_without_one() -> None:
    columns = (TerminalColumn("A", str, width=10), TerminalColumn("B", str, width=10, rank=1))
    assert [column.title for column in fitted(columns, [], 12)] == ["A"]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (shown(None), "-"),
        (shown(""), "-"),
        (shown(1234567), "1,234,567"),
        (shown("a\x1b[2Jb\x07\u202ec"), "a\ufffd[2Jb\ufffd\ufffdc"),
        (rate(None), "-"),
        (rate(0), "0"),
        (rate(0.04), "0.04"),
        (rate(12.34), "12.3"),
        (rate(12345.6), "12,346"),
        (size(1023), "1023B"),
        (size(1536), "1.5K"),
        (size(64 * 1024 * 1024), "64M"),
        (size(5 * 1024**3), "5.0G"),
        (span(59.9), "59s"),
        (span(187), "3m07s"),
        (span(7260), "2h01m"),
        (span(90000), "1d01h"),
        (span(-3), "0s"),
    ],
)
def test_values_are_written_short_and_harmless(written: str, text: str) -> None:
    """Escape sequences, bells and writing from right to left are shown and not obeyed."""
    assert written == text


def subscription(channel: str, dropped: int = 0, state: str = "live") -> Json:
    return {
        "channel": channel,
        "dropped": dropped,
        "state": state,
        "position": f"e:{dropped}",
        "outbox_messages": 0,
    }


def test_changes_between_two_looks_are_told_once() -> None:
    """A subscription that ended, began, dropped messages or fell behind is told, and no other."""
    before = {
        "connection": "c",
        "subscriptions": [subscription("same"), subscription("left"), subscription("slow", 3)],
    }
    now = {
        "connection": "c",
        "subscriptions": [
            subscription("same"),
            subscription("slow", 10, "congested"),
            subscription("new", 5),
        ],
    }
    told = [(each["what"], each["channel"]) for each in changes(before, now)]
    assert told == [
        ("unsubscribed", "left"),
        ("dropped", "slow"),
        ("subscription", "slow"),
        ("subscription", "new"),
    ]
    (dropped,) = (each for each in changes(before, now) if each["what"] == "dropped")
    assert (dropped["count"], dropped["after"]) == (7, "e:3")
    assert list(changes(now, now)) == []


def node(connections: int, *, draining: bool) -> Json:
    return {"node": "n", "connections": connections, "draining": draining}


def test_a_node_is_empty_only_once_it_is_known_to_drain() -> None:
    """The list may be a moment older than the drain."""
    emptying = Emptying("n")
    assert not emptying.look([node(0, draining=False)])
    assert not emptying.look([node(1, draining=True)])
    assert emptying.look([node(0, draining=True)])
    with pytest.raises(OperatorError, match="somebody ended the drain"):
        emptying.look([node(0, draining=False)])


def test_a_node_that_has_ended_is_empty() -> None:
    assert Emptying("n").look([{"node": "other", "connections": 5, "draining": False}])
