"""``--ids 3 7 12``: several values after one option."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xaicmp.cli.multivalue import MOST, parse_ids, spread
from xaicmp.errors import UsageError

SEVERAL = {"--ids", "--methods"}

SPREADS = {
    "--ids 3 7 12": "--ids 3 --ids 7 --ids 12",
    "--ids 3": "--ids 3",
    "--ids=3 7": "--ids=3 --ids 7",
    "--ids 3 --ids 7": "--ids 3 --ids 7",
    "--ids 3 7 --quiet": "--ids 3 --ids 7 --quiet",
    "--quiet --ids 3 7 -q": "--quiet --ids 3 --ids 7 -q",
    "--n 3 --output x.json": "--n 3 --output x.json",
    "--ids 3 7 --methods a b --top 0.1": "--ids 3 --ids 7 --methods a --methods b --top 0.1",
    "--ids -3": "--ids -3",
    "--ids - --n 3": "--ids - --n 3",
    "--n -3": "--n -3",
    "--ids 3 -- 7": "--ids 3 -- 7",
    "-- --ids": "-- --ids",
    "": "",
}


@pytest.mark.parametrize(("given_", "expected"), SPREADS.items())
def test_an_option_is_repeated_before_each_of_its_values(given_: str, expected: str) -> None:
    assert spread(given_.split(), SEVERAL) == expected.split()


@pytest.mark.parametrize(
    "line", ["--ids", "--ids --quiet", "--quiet --methods", "--ids --", "--ids --methods a"]
)
def test_an_option_without_a_value_is_refused_by_name(line: str) -> None:
    with pytest.raises(UsageError, match=r"--(ids|methods) needs a value"):
        spread(line.split(), SEVERAL)


@given(st.lists(st.sampled_from(["3", "a", "-5", "--ids", "--ids=4", "--n", "-q", "x=y"])))
def test_no_word_is_lost_or_made_up(words: list[str]) -> None:
    try:
        result = spread(words, SEVERAL)
    except UsageError:
        return
    assert [word for word in result if word != "--ids"] == [word for word in words if word != "--ids"]
    assert spread(result, SEVERAL) == result


IDS = {
    ("3", "7", "12"): (3, 7, 12),
    ("3,7,12",): (3, 7, 12),
    ("3, 7",): (3, 7),
    ("0-3",): (0, 1, 2, 3),
    ("5", "0-1,9"): (5, 0, 1, 9),
    ("7", "3", "7"): (7, 3, 7),
    ("4-4",): (4,),
    ("007",): (7,),
}


@pytest.mark.parametrize(("words", "ids"), IDS.items())
def test_ids_keep_their_order_and_none_is_dropped(words: tuple[str, ...], ids: tuple[int, ...]) -> None:
    assert parse_ids(list(words)) == ids


@pytest.mark.parametrize("word", ["-3", "a", "", "3,", "1.5", "3-", "-", "1-2-3", "0x1", "1e3", "9" * 5000])
def test_a_word_that_is_no_id_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="--ids"):
        parse_ids([word])


def test_a_range_that_runs_backwards_is_turned_round_in_the_message() -> None:
    with pytest.raises(UsageError, match="write 3-9"):
        parse_ids(["9-3"])


def test_a_range_too_long_for_memory_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="more than 1,000,000 images"):
        parse_ids([f"0-{10**15}"])
    assert len(parse_ids([f"1-{MOST}"])) == MOST


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 50)), min_size=1))
def test_ranges_are_what_range_says(ranges: list[tuple[int, int]]) -> None:
    words = [f"{first}-{first + more}" for first, more in ranges]
    expected = tuple(i for first, more in ranges for i in range(first, first + more + 1))
    assert parse_ids(words) == parse_ids([",".join(words)]) == expected
