"""How `hub explain --from` and `--to` read times as people write them."""

import datetime as dt

import pytest

from hub.cli.explain import moment


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text).astimezone().timestamp()


NOW = at("2026-03-05 17:30")


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("17:20", "2026-03-05 17:20"),
        ("17:20:30", "2026-03-05 17:20:30"),
        ("9:05", "2026-03-05 09:05"),
        ("17:40", "2026-03-04 17:40"),
        ("2026-03-01", "2026-03-01 00:00"),
        ("2026-03-01 09:05", "2026-03-01 09:05"),
        ("2026-03-01T09:05:01Z", "2026-03-01T09:05:01+00:00"),
    ],
)
def test_a_time_of_day_is_the_newest_that_is_over(text: str, means: str) -> None:
    """A ticket tells of what was, not of what will be."""
    assert moment(text, NOW) == at(means)


def test_the_end_of_a_stretch_lies_behind_its_beginning() -> None:
    """The stretch may go over midnight."""
    begin = at("2026-03-01 23:50")
    assert moment("23:55", NOW, after=begin) == at("2026-03-01 23:55")
    assert moment("00:10", NOW, after=begin) == at("2026-03-02 00:10")


@pytest.mark.parametrize("text", ["tea", "", "25:00", "17:20 today"])
def test_a_text_that_is_no_time_is_refused_with_what_is_one(text: str) -> None:
    with pytest.raises(ValueError, match="allowed: 17:20"):
        moment(text, NOW)
