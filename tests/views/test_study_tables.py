"""The tables of studies: nothing is cut or lost at any width, and words say what the numbers do."""

from __future__ import annotations

import io
import json
import re
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from markupsafe import escape
from rich.console import Console
from small import SmallNet, compared, small_classifier

import xaicmp
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.settings import Settings
from xaicmp.core.studies import pair_tests
from xaicmp.core.studies.groups import by_images, by_method
from xaicmp.core.studies.properties import PROPERTIES, Properties
from xaicmp.core.studies.randomisation import Randomisation
from xaicmp.core.studies.stability import Repetition
from xaicmp.errors import XaicmpError
from xaicmp.views.document import to_json
from xaicmp.views.table import FORMATS, Table, to_html, to_text
from xaicmp.views.tables import studies
from xaicmp.views.tables.checkpoints import checkpoints
from xaicmp.views.tables.consensus import clusters, consensus
from xaicmp.views.tables.studies import differences, groups, randomisation
from xaicmp.views.text import decimals

DOCS = Path(__file__).parents[2] / "docs"
NAMES = ("saliency", "edge")


def rendered(study: Table, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(study)
    return console.export_text()


def study(columns: int, width: int) -> Table:
    rows = [[f"row {row}", *(f"{row}.{column:0{width}d}" for column in range(columns))] for row in range(3)]
    return Table(("Name", *(f"c{column}" for column in range(columns))), rows, "A title", "A note.")


@pytest.mark.parametrize("columns", [1, 2, 5, 6, 7, 19])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_what_is_too_wide_goes_on_below_with_every_cell_once(columns: int, width: int) -> None:
    made = study(columns, 10)
    text = rendered(made, width)
    lines = text.splitlines()
    assert "…" not in text
    assert max(map(len, lines)) <= width
    assert lines[0].strip() == "A title"
    assert "A note." in text
    for row in made.rows:
        for cell in row[1:]:
            assert len(re.findall(rf"(?<!\S){re.escape(cell)}(?!\S)", text)) == 1
    heads = [line for line in lines if line.startswith("Name")]
    assert " ".join(heads).split().count("Name") == len(heads)
    # A cell takes 12 characters, two between columns at most, and a name 5.
    fit = max(1, (width - 5) // 14)
    assert len(heads) == -(-columns // fit) or len(heads) == -(-columns // max(1, (width - 5) // 13))
    for head in heads:
        titles = head.split()[1:]
        under = lines[lines.index(head) + 2].split()
        assert [cell.split(".")[1] for cell in under[2:]] == [f"{int(title[1:]):010d}" for title in titles]


def test_a_column_wider_than_the_terminal_is_still_printed_alone() -> None:
    made = Table(("Name", "a", "b"), [["x", "word " * 20, "b1"]], "T")
    text = rendered(made, 40)
    assert text.split().count("word") == 20
    assert text.split().count("b1") == 1


def drawn(
    agreement: np.ndarray, other: np.ndarray, sample: ImageSet, shares: tuple[float, ...] = (0.5, 0.4, 0.3)
) -> Table:
    """The study of one statistic, two methods, two stages and one draw, from ``(M, S, N)`` and ``(M, N)``."""
    comparison, _ = compared(sample, NAMES, (0, 1, 2))
    found = Randomisation(
        "cascading",
        ("fc", "conv1"),
        np.array([0.9, 0.3, 0.1]),
        np.array(shares),
        {"pearson": agreement[:, None]},
        {"pearson": np.broadcast_to(other[:, None, None], agreement[:, None].shape).copy()},
    )
    return randomisation(found, comparison)


def last(made: Table) -> list[str]:
    return list(next(row for row in made.rows if row[0] == "  last stage")[3:])


@pytest.mark.parametrize(
    ("shift", "images", "said"),
    [
        (0.5, 12, "above other image"),
        (-0.5, 12, "below other image"),
        (0.0, 12, "not told apart"),
        (0.5, 6, "above other image"),
        (0.5, 5, "too few"),  # 2 of 32 flips are as far off
        (0.5, 1, "too few"),
    ],
)
def test_the_last_stage_is_placed_in_words(shift: float, images: int, said: str, sample: ImageSet) -> None:
    other = np.tile(np.linspace(-0.1, 0.1, images), (2, 1))
    noise = 0.01 * np.where(np.arange(images) % 2, 1, -1)
    agreement = np.stack([[each, each + shift + noise] for each in other])
    made = drawn(agreement, other, sample)
    assert last(made) == [said, said]
    for entry in made.data["pearson"]:
        assert entry["last_above_other_image"]["difference"] == pytest.approx(shift + noise.mean())
        assert entry["defined"] == [images, images]
    assert (made.data["accuracy"], made.data["image_share"]) == ([0.9, 0.3, 0.1], [0.5, 0.4, 0.3])
    assert (made.data["draws"], made.data["kind"]) == (1, "cascading")
    assert [row[1:3] for row in made.rows[:2]] == [["30%", "0.400"], ["10%", "0.300"]]
    assert "Accuracy 90%, varies 0.500 before" in str(made.note)


def test_a_dead_model_is_said_to_be_and_gives_no_verdict(sample: ImageSet) -> None:
    made = drawn(np.full((2, 2, 12), 0.5), np.zeros((2, 12)), sample, (0.5, 0.4, 0.0001))
    assert made.rows[1][2] == "0.000 (dead)"
    assert last(made) == ["dead model", "dead model"]
    assert "(dead)" not in made.rows[0][2]


def test_undefined_maps_at_a_stage_are_counted_and_not_numbers(sample: ImageSet) -> None:
    other = np.zeros((2, 8))
    agreement = np.full((2, 2, 8), 0.5)
    agreement[0, 1] = np.nan
    agreement[0, 0, :3] = np.nan
    made = drawn(agreement, other, sample)
    saliency, edge = made.data["pearson"]
    assert saliency["stages"] == [0.5, None]
    assert saliency["defined"] == [5, 0]
    assert edge["defined"] == [8, 8]
    assert (saliency["area_stages"], edge["area_stages"]) == (1, 2)
    assert [row[3:] for row in made.rows if row[0] == "  area"] == [["0.500 (1 of 2 stages)", "0.500"]]
    assert (saliency["area"]["mean"], saliency["area"]["undefined"]) == (0.5, 3)
    assert last(made) == ["too few", "above other image"]
    assert "nan" not in rendered(made, 80).lower()


THREE = ("saliency", "input-x-gradient", "random")


@pytest.mark.parametrize("controls", [["other-image"], []])
def test_letters_means_and_what_is_above_another_image_stand_beside_each_other(
    controls: list[str], sample: ImageSet
) -> None:
    comparison, _ = compared(sample, THREE, tuple(range(12)), settings=Settings(controls=controls))
    made = differences(pair_tests.differences(comparison), comparison)
    pearson = comparison.statistics[0]
    for row, pair in zip(made.rows, comparison.pairs, strict=True):
        result = comparison.result(pearson, pair)
        assert len(row) == (5 if controls else 3)
        *shown, letters = " ".join(row[1 : 3 if controls else 2]).split()
        assert shown[0] == decimals(result.summary.mean)
        assert result.above is None or shown[1] == decimals(result.above.difference)
        assert letters.isalpha()
    first, second = (made.rows[index][2 if controls else 1].split()[-1] for index in (0, 1))
    assert not set(first) & set(second), "two methods agree more than a method and noise"
    assert len(made.data["pearson"]) == 3
    for test in made.data["pearson"]:
        assert test["p"] <= test["adjusted"] <= 1
    assert made.data["above_other_image"] == bool(controls)


def test_letters_are_left_out_where_so_few_images_cannot_show_a_difference(sample: ImageSet) -> None:
    for images, letters in ((6, False), (7, True)):
        comparison, _ = compared(sample, THREE, tuple(range(images)))
        rows = [row[2].split()[1] for row in differences(pair_tests.differences(comparison), comparison).rows]
        assert [each.isalpha() for each in rows] == [letters] * 3
        assert letters or rows == ["-"] * 3


def with_values(comparison: Comparison, values: np.ndarray, control: np.ndarray) -> Comparison:
    """Pairs of as many methods as it takes, whose Pearson correlations are the rows."""
    names = [f"m{index}" for index in range(next(n for n in range(99) if n * (n - 1) // 2 >= len(values)))]
    pairs = list(combinations(names, 2))
    scores = replace(
        comparison.scores,
        values={"pearson": dict(zip(pairs, values, strict=True))},
        controls={"other_image": {"pearson": dict(zip(pairs, control, strict=True))}},
        identical={pair: np.zeros(values.shape[1]) for pair in pairs},
    )
    titles = {name: name.upper() for name in names}
    return replace(comparison, titles=titles, scores=scores, settings=Settings(["pearson"]))


def test_pairs_go_by_what_is_above_another_image_and_not_by_the_raw_mean(sample: ImageSet) -> None:
    comparison, _ = compared(sample, THREE, tuple(range(12)))
    noise = np.random.default_rng(0).normal(0, 0.02, (3, 12))
    raw, control = np.array([0.8, 0.5, 0.2])[:, None], np.array([0.78, 0.2, 0.18])[:, None]
    made = pair_tests.differences(with_values(comparison, raw + noise, control + 0 * noise))
    assert made.above
    assert list(made.letters["pearson"].values()) == ["b", "a", "b"]
    first = made.ranking["pearson"][0]
    assert (first.pair, round(first.mean, 1)) == (("m0", "m2"), 0.5)
    assert [(each.higher, each.lower) for each in made.ranking["pearson"]] == [
        (None, 2),
        (1, None),
        (1, None),
    ]


def test_what_is_told_apart_does_not_depend_on_the_seed(sample: ImageSet) -> None:
    comparison, _ = compared(sample, THREE, tuple(range(40)))
    values = np.random.default_rng(0).normal(size=(3, 40))
    made = with_values(comparison, values, np.zeros((3, 40)))
    one, other = (
        pair_tests.differences(replace(made, settings=Settings(["pearson"], seed=seed))) for seed in (0, 1)
    )
    assert one.tests == other.tests


def test_more_than_fifteen_pairs_are_ranked_with_their_neighbours(sample: ImageSet) -> None:
    comparison, _ = compared(sample, THREE, tuple(range(40)))
    rng = np.random.default_rng(1)
    order = rng.permutation(21)
    values = 0.3 + (0.1 * (order // 3))[:, None] + rng.normal(0, 0.01, (21, 40))
    many = with_values(comparison, values, np.full((21, 40), 0.1))
    found = pair_tests.differences(many)
    assert found.letters == {"pearson": {}}
    ranking = found.ranking["pearson"]
    assert [each.compared for each in ranking] == sorted((each.compared for each in ranking), reverse=True)
    # Groups of three that agree alike, far from the others.
    for index, each in enumerate(ranking):
        group = index // 3
        assert each.higher == (None if group == 0 else 3 * group)
        assert each.lower == (None if group == 6 else 3 * group + 4)
    made = differences(found, many)
    assert made.columns[-2:] == ["Higher", "Lower"]
    for rank, (row, each) in enumerate(zip(made.rows, ranking, strict=True), 1):
        a, b = (name.upper() for name in each.pair)
        assert row[0] == f"{rank} {a} vs {b}"
        assert row[1:3] == [decimals(each.mean), decimals(each.compared)]
    assert [entry["pair"] for entry in made.data["ranking"]["pearson"]] == ["|".join(r.pair) for r in ranking]
    assert max(map(len, rendered(made, 80).splitlines())) <= 80


@pytest.mark.parametrize(("images", "said"), [(13, "too few images to tell"), (14, "there is none")])
def test_a_rank_without_neighbours_says_whether_so_few_images_could_have_had_any(
    images: int, said: str, sample: ImageSet
) -> None:
    comparison, _ = compared(sample, THREE, tuple(range(images)))
    values = np.random.default_rng(3).normal(size=(21, images))  # 210 tests, at best p = 210 * 2 / 2^n
    many = with_values(comparison, values, np.zeros((21, images)))
    made = differences(pair_tests.differences(many), many)
    assert {cell for row in made.rows for cell in row[-2:]} == {"-"}
    assert str(made.note).endswith(f"a dash: {said}.")


def test_four_hundred_and_six_pairs_are_ranked_in_seconds(sample: ImageSet) -> None:
    comparison, _ = compared(sample, THREE, tuple(range(30)))
    rng = np.random.default_rng(2)
    values = rng.normal(np.linspace(0, 1, 406)[:, None], 0.2, (406, 30))
    start = time.process_time()
    many = with_values(comparison, values, np.zeros((406, 30)))
    text = rendered(differences(pair_tests.differences(many), many), 80)
    assert time.process_time() - start < 12
    assert len([line for line in text.splitlines() if " vs " in line]) == 406


@pytest.mark.parametrize("images", [5, 6])
def test_a_missing_letter_or_star_of_few_images_is_explained(images: int) -> None:
    own = {"a": np.linspace(0.8, 0.9, images), "b": np.linspace(0.3, 0.35, images)}
    none = {name: np.zeros(images) for name in own}
    titles, settings, few = {"a": "A", "b": "B"}, Settings(["pearson"]), images < 6
    found = Properties(titles, settings, dict.fromkeys(PROPERTIES, own), {})
    made = studies.properties(found)
    assert [row[1][-1] for row in made.rows] == (["-", "-"] if few else ["a", "b"])
    assert "a dash: too few images to tell" in str(made.note)
    same = dict.fromkeys(own, False)
    repeated = Repetition(titles, settings, {"pearson": own}, {"other_image": {"pearson": none}}, same)
    made = studies.repetition(repeated, "rerun", "", "")
    assert ["*" in row[-1] for row in made.rows] == [not few, not few]
    assert "fewer than 6 images cannot be" in str(made.note)


def test_a_group_is_headed_by_its_size(sample: ImageSet) -> None:
    comparison, _ = compared(sample, ("saliency", "input-x-gradient", "random"), tuple(range(12)))
    made = groups(by_images(comparison, "correct"), "correct", comparison)
    heads = list(made.sections.values())
    wrong = int(comparison.predictions.wrong.sum())
    assert heads == [
        text for text, n in ((f"right, n = {12 - wrong}", 12 - wrong), (f"wrong, n = {wrong}", wrong)) if n
    ]
    assert len(made.rows) == 3 * len(heads)


@pytest.fixture(scope="module")
def every_study(sample: ImageSet) -> tuple[xaicmp.Result, dict[str, Table]]:
    """A comparison, and all studies of it."""
    methods, select = (
        ["grad-cam", "saliency", "input-x-gradient", "edge"],
        xaicmp.Selection(ids=tuple(range(8))),
    )
    result = xaicmp.compare(small_classifier(), sample, methods=methods, select=select)
    comparison, maps = result.comparison, result.maps().maps
    others = [small_classifier(SmallNet(seed), name=f"other {seed}") for seed in (1, 2)]
    masks = torch.zeros(8, 32, 32, dtype=torch.bool)
    masks[:7, 8:20, 8:20] = True
    tables = [
        differences(result.compare_pairs(), comparison),
        *(groups(result.by(each), each, comparison) for each in ("class", "correct", "confidence")),
        studies.by_method(by_method(comparison), comparison),
        studies.repetition(result.rerun(), "rerun", "Each method under another seed", "A note."),
        studies.repetition(result.against(others[0]), "retrain", "Each method on another checkpoint", ""),
        checkpoints(result.checkpoints(others), comparison),
        clusters(result.clusters(), comparison),
        consensus(result.consensus(maps)),
        randomisation(result.randomisation(draws=1), comparison),
        studies.faithfulness(result.faithfulness(maps), comparison),
        studies.properties(result.properties()),
        studies.localisation(result.localisation(masks, maps)),
        studies.costs(result.cost()),
    ]
    return result, {each.key: each for each in tables}


def test_every_study_is_read_back_as_it_was_written(
    every_study: tuple[xaicmp.Result, dict[str, Table]], tmp_path: Path
) -> None:
    result, tables = every_study
    path, said = tmp_path / "kept.json", (DOCS / "command-line.md").read_text(encoding="utf-8")
    path.write_text(to_json(result.comparison, list(tables.values())))
    loaded = xaicmp.load(path)
    assert len(tables) == 15
    assert loaded.studies == {key: each.data for key, each in tables.items()}
    assert [to_text(each, 80) for each in loaded.kept] == [to_text(each, 80) for each in tables.values()]
    assert loaded.table("json") == path.read_text()
    assert [key for key in tables if f"`{key}`" not in said] == []
    loaded.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for each in tables.values():
        assert str(escape(each.title)) in page
        assert to_html(replace(each, title="", note="")) in page


def test_a_table_in_a_document_that_is_damaged_is_one_error(
    every_study: tuple[xaicmp.Result, dict[str, Table]], tmp_path: Path
) -> None:
    result, tables = every_study
    whole = json.loads(to_json(result.comparison, [tables["cost"]]))
    for key, value in (
        ("columns", 5),
        ("rows", [[1]]),
        ("left", 99),
        ("left", "1"),
        ("beneath", [0]),
        ("sections", [1]),
        ("sections", [["x", "y"]]),
        ("rows", None),
    ):
        shown = whole["tables"]["cost"] | {key: value}
        (tmp_path / "a.json").write_text(json.dumps(whole | {"tables": {"cost": shown}}))
        with pytest.raises(XaicmpError, match="is damaged"):
            xaicmp.load(tmp_path / "a.json")
    shown = whole["tables"]["cost"] | {"title": 5, "note": [None], "sections": [[0, {}]]}
    shown["rows"] = [[{"a": 1}] * len(row) for row in shown["rows"]]
    (tmp_path / "a.json").write_text(json.dumps(whole | {"tables": {"cost": shown}}))
    assert "{'a': 1}" in to_text(xaicmp.load(tmp_path / "a.json").kept[0], 200)
    for damaged in ([], {"cost": 1}, {"cost": {}}):
        (tmp_path / "a.json").write_text(json.dumps(whole | {"tables": damaged}))
        with pytest.raises(XaicmpError, match="is damaged"):
            xaicmp.load(tmp_path / "a.json")


@pytest.mark.parametrize("width", [40, 80, 120])
def test_every_study_is_shown_whole_at_any_width(
    every_study: tuple[xaicmp.Result, dict[str, Table]], width: int
) -> None:
    for key, each in every_study[1].items():
        text = rendered(each, width)
        assert max(map(len, text.splitlines())) <= width, key
        assert not re.search(r"\bnan\b|None|np\.", text), key
        shown = "".join(text.split())
        for cell in (cell for row in each.rows for cell in row):
            assert str(cell).split()[:1] == [] or str(cell).split()[0] in shown, (key, cell)


@pytest.mark.parametrize("format", ["markdown", "latex", "html", "csv"])
def test_every_study_has_every_cell_in_every_format(
    every_study: tuple[xaicmp.Result, dict[str, Table]], format: str
) -> None:
    for key, each in every_study[1].items():
        text = FORMATS[format](each)
        for number in re.findall(r"\d\.\d+", " ".join(str(cell) for row in each.rows for cell in row)):
            assert number in text, (key, number)
