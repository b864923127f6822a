"""What ``metrics`` adds on request, and the methods, statistics and controls to choose from: the command lines."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from base64 import b64decode
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import pearsonr
from small import SmallNet

from xaicmp.cli.options import NOISY, Comparing
from xaicmp.cli.session import method_settings
from xaicmp.core.agreement.registry import STATISTICS
from xaicmp.core.attribution import METHODS, get_methods
from xaicmp.core.attribution.selection import groups
from xaicmp.core.images.cifar10 import CLASSES
from xaicmp.core.models.architectures import ARCHITECTURES
from xaicmp.core.models.checkpoint import save_checkpoint
from xaicmp.views.table import FORMATS
from xaicmp.views.text import decimals

Xaicmp = Callable[..., Any]
PAIR = ("--methods", "grad-cam", "saliency")
STUDIES = {
    "--compare-pairs": "compare_pairs",
    "--by class": "by_class",
    "--by correct": "by_correct",
    "--by confidence": "by_confidence",
    "--by method": "by_method",
    "--rerun": "rerun",
    "--against other.pt": "retrain",
    "--checkpoints other.pt": "checkpoints",
    "--randomise cascading": "randomisation",
    "--faithfulness": "faithfulness",
    "--properties": "properties",
    "--cost": "cost",
}


def save(name: str, model: torch.nn.Module, **metadata: Any) -> None:
    save_checkpoint(Path(name), model, {"architecture": "resnet18-cifar"} | metadata, dtype=torch.float32)


@pytest.fixture(autouse=True)
def small(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two checkpoints of a tiny network, here.pt and other.pt, under the name of the real one."""

    def architecture(classes: int = 10) -> SmallNet:
        model = SmallNet()
        model.fc = torch.nn.Linear(16, classes)
        return model

    monkeypatch.setitem(ARCHITECTURES, "resnet18-cifar", architecture)
    save("here.pt", SmallNet(0))
    save("other.pt", SmallNet(1))


@pytest.fixture
def metrics(xaicmp: Xaicmp) -> Xaicmp:
    """Compare two methods on a few images, unless the words say otherwise."""

    def call(*words: object, ids: str = "0-7", methods: tuple[str, ...] = PAIR) -> Any:
        return xaicmp(
            "metrics", "--checkpoint", "here.pt", "--ids", ids, "--ig-steps", 2, "-q", *methods, *words
        )

    return call


def printed(outcome: Any) -> str:
    assert outcome.status == 0, outcome.err
    return str(outcome.out)


def document(outcome: Any) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(printed(outcome), parse_constant=refuse)


def refused(outcome: Any, *parts: str) -> None:
    assert outcome.status in (1, 2)
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1, outcome.err
    for part in parts:
        assert part in outcome.err


def numbers(data: Any) -> list[float | None]:
    """All floats in a document, and its nulls."""
    if isinstance(data, dict):
        return [each for value in data.values() for each in numbers(value)]
    if isinstance(data, list):
        return [each for value in data for each in numbers(value)]
    return [data] if data is None or isinstance(data, float) else []


def in_table(text: str) -> set[str]:
    return set(re.findall(r"-?\d+\.\d{3}\b", text))


# ---------------------------------------------------------------- every study in every format


@pytest.mark.parametrize(("words", "key"), STUDIES.items())
def test_each_number_that_a_study_prints_is_in_its_document(metrics: Xaicmp, words: str, key: str) -> None:
    ids = "0-1" if key == "faithfulness" else "0-7"
    metrics = partial(metrics, "--controls", "none", ids=ids)
    quick = words.split()
    without = printed(metrics())
    text = printed(metrics(*quick))
    assert text.startswith(without), "the published table comes first"
    assert "…" not in text
    assert "nan" not in text.lower()
    assert max(map(len, text.splitlines())) <= 80
    found = document(metrics(*quick, "--format", "json"))
    assert [name for name in found if name in STUDIES.values()] == [key]
    markdown = printed(metrics(*quick, "--format", "markdown"))
    assert markdown.count("\n### ") == 1
    if key == "cost":
        return  # other seconds each time
    known = {decimals(value) for value in numbers(found)}
    # The means behind letters are those of the pairs.
    assert in_table(text.removeprefix(without)) <= known
    assert in_table(markdown) <= known
    assert in_table(text.removeprefix(without)), "there are numbers to look at"


@pytest.mark.parametrize(("words", "key"), STUDIES.items())
def test_one_image_is_enough_for_every_study_and_gives_no_nan(metrics: Xaicmp, words: str, key: str) -> None:
    found = document(metrics(*words.split(), "--format", "json", ids="0"))
    assert key in found
    text = printed(metrics(*words.split(), ids="0"))
    assert "nan" not in text.lower()


def test_several_studies_at_once_come_in_order(metrics: Xaicmp) -> None:
    words = ("--compare-pairs", "--by", "class", "correct", "--rerun", "--cost")
    found = document(metrics(*words, "--format", "json"))
    assert [name for name in found if name in STUDIES.values()] == [
        "compare_pairs",
        "by_class",
        "by_correct",
        "rerun",
        "cost",
    ]


@pytest.mark.parametrize("suffix", ["json", "md", "csv"])
def test_studies_are_written_to_the_output_too(metrics: Xaicmp, suffix: str) -> None:
    printed(metrics("--compare-pairs", "--output", f"found.{suffix}"))
    text = Path(f"found.{suffix}").read_text()
    assert {"json": "compare_pairs", "md": "### Do the pairs differ?", "csv": "pearson_mean"}[suffix] in text


# ---------------------------------------------------------------- what each says


@pytest.mark.parametrize("by", ["class", "correct", "confidence"])
def test_groups_share_out_the_images_and_have_their_means(metrics: Xaicmp, by: str) -> None:
    found = document(metrics("--by", by, "--format", "json", ids="0-19"))
    images = found["images"]
    assert sum(group["n"] for group in found[f"by_{by}"]) == len(images) == 20
    for group in found[f"by_{by}"]:
        if by == "confidence":
            low, high = group["group"].split(" to ")
            members = [each for each in images if low <= decimals(each["confidence"]) <= high]
        elif by == "class":
            members = [each for each in images if each["label"] == group["group"]]
        else:
            members = [
                each for each in images if (each["label"] == each["predicted"]) == (group["group"] == "right")
            ]
        assert len(members) == group["n"]
        values = [each["pearson"]["grad-cam|saliency"] for each in members]
        assert group["pearson"]["mean"] == pytest.approx(np.mean(values), abs=1e-12)
        assert group["pearson"]["std"] == pytest.approx(np.std(values), abs=1e-12)


def test_by_method_is_the_mean_over_the_pairs_without_floors(metrics: Xaicmp) -> None:
    methods = ("--methods", "edge", "grad-cam", "saliency", "input-x-gradient")
    found = document(metrics("--by", "method", "--format", "json", methods=methods))
    means = {(pair["a"], pair["b"]): pair["pearson"]["mean"] for pair in found["pairs"]}
    for entry in found["by_method"]:
        name = entry["method"]
        mine = [
            mean for pair, mean in means.items() if name in pair and (name == "edge" or "edge" not in pair)
        ]
        assert len(mine) == (3 if name == "edge" else 2)
        assert entry["pearson"]["mean"] == pytest.approx(np.mean(mine), abs=1e-12)


def test_another_seed_changes_only_what_draws(metrics: Xaicmp) -> None:
    methods = ("--methods", "saliency", "smoothgrad", "random", "edge", "--samples", "2")
    found = document(metrics("--rerun", "--format", "json", methods=methods))["rerun"]
    same = {entry["method"]: entry["same"] for entry in found}
    assert same == {"saliency": True, "smoothgrad": False, "random": False, "edge": True}
    by_name = {entry["method"]: entry["pearson"]["mean"] for entry in found}
    assert by_name["saliency"] == pytest.approx(1)
    assert abs(by_name["random"]) < 0.1 < by_name["smoothgrad"] < 1


def test_the_same_checkpoint_gives_the_same_maps_and_another_does_not(metrics: Xaicmp) -> None:
    same = document(metrics("--against", "here.pt", "--format", "json"))["retrain"]
    assert all(entry["same"] for entry in same)
    other = document(metrics("--against", "other.pt", "--format", "json"))["retrain"]
    assert not any(entry["same"] for entry in other)
    assert all(entry["pearson"]["mean"] < 0.9 for entry in other)
    text = printed(metrics("--against", "other.pt"))
    assert "other.pt" in text.split("Each method on another checkpoint")[1]


def test_many_methods_have_a_tree_and_a_consensus(metrics: Xaicmp, xaicmp: Xaicmp) -> None:
    methods = ("--methods", "grad-cam", "saliency", "input-x-gradient", "edge")
    words = ("--consensus", "--plot", "tree.png", "--output", "kept.json")
    text = printed(metrics(*words, methods=methods))
    assert max(map(len, text.splitlines())) <= 80
    found = document(metrics("--consensus", "--format", "json", methods=methods))
    shown = in_table(text.split("Which methods belong together")[1])
    assert shown <= {decimals(each) for each in numbers([found["clusters"], found["consensus"]])}
    assert [each["method"] for each in found["consensus"]["methods"]] == list(methods[1:4])
    assert len(found["consensus"]["kendall_w"]["images"]) == 8
    assert sorted(found["clusters"]["iou"]["branches"][-1]["members"]) == sorted(methods[1:])
    again = document(xaicmp("metrics", "--from", "kept.json", "--format", "json"))
    assert (again["clusters"], again["consensus"]) == (found["clusters"], found["consensus"])
    printed(xaicmp("explain", "--checkpoint", "here.pt", "--ids", "0-7", *methods, "--output", "maps.npz"))
    of_maps = document(xaicmp("metrics", "--from", "maps.npz", "--consensus", "--format", "json"))
    for key in ("clusters", "consensus"):
        assert numbers(of_maps[key]) == pytest.approx(numbers(found[key]), abs=1e-6)
    alone = xaicmp("metrics", "--from", "kept.json", "--consensus")
    assert "Which methods belong together" in printed(alone)
    assert "kept.json holds no maps, which the consensus needs" in " ".join(alone.err.split())
    assert Path("tree.png").stat().st_size > 5000
    refused(metrics("--consensus"), "--methods", "2 make no tree or consensus", "three or more")
    refused(metrics("--consensus", "--controls", "none", methods=methods), "--controls", "needs other-image")


def test_several_checkpoints_are_compared_on_the_images_that_all_admit(
    metrics: Xaicmp, xaicmp: Xaicmp
) -> None:
    save("third.pt", SmallNet(2))
    words = ("--checkpoints", "other.pt", "third.pt")
    text = printed(metrics(*words))
    assert "n = 8 images that every checkpoint admits (0 left out)" in " ".join(text.split())
    whole = document(metrics(*words, "--output", "kept.json", "--format", "json"))
    found = whole["checkpoints"]
    assert found["names"] == ["here.pt", "other.pt", "third.pt"]
    assert found["images"] == list(range(8))
    (entry,), (pair,) = found["pearson"], whole["pairs"]
    assert entry["checkpoints"][0] == pytest.approx(pair["pearson"]["mean"])
    assert entry["ci"][0] < entry["mean"] < entry["ci"][1]
    assert sum(entry["variance"].values()) == pytest.approx(1)
    assert document(xaicmp("metrics", "--from", "kept.json", "--format", "json"))["checkpoints"] == found
    few = document(metrics("--checkpoints", "other.pt", "--format", "json"))["checkpoints"]
    assert few["pearson"][0]["ci"] == [None, None]
    alone = ("metrics", "--ids", "0-7", "-q", *PAIR, "--ig-steps", "2", "--format", "json", "--checkpoints")
    assert document(xaicmp(*alone, "here.pt", "other.pt"))["checkpoints"] == few
    refused(xaicmp(*alone, "here.pt"), "--checkpoints: one is no comparison; give two or more")
    Path("copy.pt").write_bytes(Path("here.pt").read_bytes())
    refused(
        xaicmp(*alone, "here.pt", "copy.pt"), "--checkpoints: copy.pt has the weights of here.pt; give each"
    )
    refused(metrics("--checkpoints", "none.pt"), "--checkpoints none.pt: no such file")


def never(*args: object, **values: object) -> None:
    raise AssertionError("the work has begun")


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be explained."""
    monkeypatch.setattr("xaicmp.api.explain_selection", never)


@pytest.mark.usefixtures("idle")
def test_a_checkpoint_to_compare_with_is_looked_at_before_the_work(metrics: Xaicmp) -> None:
    refused(metrics("--against", "none.pt"), "--against none.pt: no such file", "xaicmp train")
    Path("text.pt").write_text("no checkpoint")
    refused(metrics("--against", "text.pt"), "text.pt")
    three = SmallNet()
    three.fc = torch.nn.Linear(16, 3)
    save("three.pt", three, classes=["a", "b", "c"])
    refused(
        metrics("--against", "three.pt"), "--against three.pt", "other classes", "use one trained on the same"
    )


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("ids", ["--ids 0-7", "--n 3"])
def test_masks_are_looked_at_before_the_work(xaicmp: Xaicmp, ids: str) -> None:
    line = ("metrics", "--checkpoint", "here.pt", "-q", *PAIR, *ids.split(), "--masks")
    refused(xaicmp(*line, "none"), "cannot read --masks none", "No such file")
    Path("masks").mkdir()
    Image.new("L", (32, 32)).save("masks/dog.png")
    refused(xaicmp(*line, "masks"), "masks: no mask for any of the", "call each like its image")
    Image.new("L", (9, 9)).save("masks/2.png")
    refused(xaicmp(*line, "masks"), "masks: the mask of image 2", "9 x 9 pixels, not 32 x 32")
    Path("boxes.csv").write_text("2,1,1,x,9\n")
    refused(xaicmp(*line, "boxes.csv"), "boxes.csv", "write path,x0,y0,x1,y1 per line")


def test_floors_do_not_notice_that_the_weights_are_drawn_anew(metrics: Xaicmp) -> None:
    methods = ("--methods", "saliency", "edge", "centre")
    for kind in ("cascading", "independent"):
        found = document(metrics("--randomise", kind, "--format", "json", methods=methods))["randomisation"]
        assert found["kind"] == kind
        assert len(found["accuracy"]) == len(found["image_share"]) == 1 + len(found["stages"])
        assert found["draws"] == 5
        assert found["stages"][0] == "fc"
        for statistic in ("spearman", "ssim", "pearson"):
            saliency, edge, centre = found[statistic]
            assert edge["stages"] == pytest.approx([1] * len(found["stages"]))
            assert centre["stages"] == pytest.approx([1] * len(found["stages"]))
            assert saliency["stages"][-1] < 0.9
            assert edge["defined"] == [8 * 5] * len(found["stages"])
            assert edge["last_above_other_image"]["p"] < 0.05
            assert edge["area"]["mean"] == pytest.approx(1)


def test_a_floor_fails_the_randomisation_test_visibly_and_too_few_images_do_not_decide(
    metrics: Xaicmp,
) -> None:
    methods = ("--methods", "saliency", "edge")
    row = re.compile(r"^  last stage +(\S+(?: \S+)*) {2,}(\S+(?: \S+)*)$", re.MULTILINE)
    enough = row.findall(printed(metrics("--randomise", "cascading", methods=methods)))
    assert [edge for _, edge in enough] == ["unchanged"] * 3
    few = row.findall(printed(metrics("--randomise", "cascading", methods=methods, ids="0-3")))
    assert few == [("too few", "unchanged")] * 3


def test_faithfulness_has_three_baselines_a_random_order_and_areas_that_add_up(metrics: Xaicmp) -> None:
    found = document(metrics("--faithfulness", "--format", "json", ids="0-2"))["faithfulness"]
    names = ["grad-cam", "saliency", "random", "centre"]
    assert [(each["baseline"], each["method"]) for each in found] == [
        (baseline, name) for baseline in ("zero", "blur", "road") for name in names
    ]
    for baseline in range(3):
        own, saliency, *controls = found[4 * baseline : 4 * baseline + 4]
        assert not any("above_random" in each for each in controls)
        for key, other in (("above_random", controls[0]), ("above_centre", controls[1])):
            expected = own["probability_gain"]["mean"] - other["probability_gain"]["mean"]
            assert own[key]["difference"] == pytest.approx(expected, abs=1e-9)
        expected = own["probability_gain"]["mean"] - saliency["probability_gain"]["mean"]
        assert own["above_methods"]["saliency"]["difference"] == pytest.approx(expected, abs=1e-9)
        assert set(own["above_methods"]["saliency"]) == {"difference", "ci", "p", "adjusted"}
        assert saliency["above_methods"] == {}
    for each in found:
        for output in ("probability", "logit"):
            gain = each[f"{output}_insertion"]["mean"] - each[f"{output}_deletion"]["mean"]
            assert each[f"{output}_gain"]["mean"] == pytest.approx(gain, abs=1e-9)
        assert 0 <= each["probability_deletion"]["mean"] <= 1
    assert ["infidelity" in each for each in found] == [True, True] + [False] * 10


def test_the_centre_is_no_control_of_its_own_where_it_is_compared(metrics: Xaicmp) -> None:
    methods = ("--methods", "saliency", "centre")
    found = document(metrics("--faithfulness", "--format", "json", methods=methods, ids="0-1"))[
        "faithfulness"
    ]
    assert [each["method"] for each in found] == ["saliency", "centre", "random"] * 3
    assert {each["above_centre"]["difference"] for each in found if each["method"] == "centre"} == {0}


def test_the_level_of_intervals_is_that_of_every_study(metrics: Xaicmp) -> None:
    words = ("--faithfulness", "--randomise", "cascading", "--by", "method", "--against", "other.pt")
    wide, narrow = (
        document(metrics(*words, "--ci", level, "--format", "json", ids="0-2")) for level in (0.95, 0.5)
    )

    def width(data: Any) -> float:
        return data["ci"][1] - data["ci"][0]

    for place in (
        lambda found: found["pairs"][0]["pearson"],
        lambda found: found["faithfulness"][0]["probability_gain"],
        lambda found: found["randomisation"]["pearson"][0]["area"],
        lambda found: found["randomisation"]["pearson"][0]["last_above_other_image"],
        lambda found: found["by_method"][0]["pearson"],
        lambda found: found["retrain"][0]["pearson"],
    ):
        assert width(place(narrow)) < width(place(wide))
    assert (wide["ci"], narrow["ci"]) == (0.95, 0.5)


def test_cost_counts_the_passes_and_shares_them(metrics: Xaicmp) -> None:
    found = document(metrics("--cost", "--format", "json"))["cost"]
    assert [(each["title"], each["passes"]) for each in found] == [
        ("Grad-CAM", 2),
        ("Saliency", 2),
        ("all together", 2),
    ]
    assert all(each["seconds"] > 0 for each in found)


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    "study", ["", "--cost", "--faithfulness", "--randomise cascading", "--randomise independent"]
)
def test_a_study_is_drawn(metrics: Xaicmp, study: str) -> None:
    printed(metrics(*study.split(), "--plot", "drawn.png", "--controls", "none", ids="0-2"))
    with Image.open("drawn.png") as picture:
        assert picture.width > 600
        assert len(picture.convert("RGB").getcolors(2**24) or []) > 20


def test_maps_from_a_file_are_drawn_by_share_too(xaicmp: Xaicmp, kept: Any) -> None:
    for words in ((), ("--statistics", "pearson"), ("--controls", "none"), ("--top", 0.1, 0.7)):
        printed(xaicmp("metrics", "--from", "maps.npz", "--plot", "drawn.png", *words))
        with Image.open("drawn.png") as picture:
            assert len(picture.convert("RGB").getcolors(2**24) or []) > 20
        Path("drawn.png").unlink()


def test_a_picture_in_svg_names_every_method_and_stage(
    metrics: Xaicmp,
) -> None:
    printed(metrics("--randomise", "cascading", "--plot", "drawn.svg", ids="0-2"))
    text = Path("drawn.svg").read_text()
    for word in ("Grad-CAM", "Saliency", "fc", "layer4.0", "(dashed: of another image)", "cascading"):
        assert f">{word}" in text or f"({word})" in text


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--draws 3", ["--draws goes with --randomise"]),
        (
            "--plot a.png --faithfulness --randomise cascading",
            ["--plot draws --randomise, --faithfulness or --consensus", "say which with --kind"],
        ),
        ("--plot a.jpg", ["--plot a.jpg", ".png"]),
        ("--top 0.2 0.1 0.2", ["--top names a share twice", "name each once"]),
        ("--plot a.jpg --faithfulness", ["--plot a.jpg", ".png"]),
        ("--plot none/a.png --faithfulness", ["none"]),
        ("--randomise both", ["both", "cascading"]),
        ("--by weight", ["weight", "confidence"]),
        ("--ci 1", ["--ci 1", "between 0 and 1"]),
        ("--ci 0", ["--ci 0", "between 0 and 1"]),
        ("--ci nan", ["--ci nan"]),
        ("--controls chance", ["unknown control 'chance'", "other-image"]),
        ("--controls none shift", ["--controls none goes alone"]),
        ("--statistics median", ["median", "pearson"]),
        ("--fast", ["--fast and --ig-steps exclude each other"]),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(metrics: Xaicmp, words: str, parts: list[str]) -> None:
    refused(metrics(*words.split()), *parts)


# ---------------------------------------------------------------- maps that were kept


@pytest.fixture
def kept(xaicmp: Xaicmp) -> Any:
    """maps.npz, and the document of the run that wrote it."""
    words = ("--checkpoint", "here.pt", "--ids", "0-19", "--methods", "edge", "grad-cam", "saliency", "-q")
    return document(xaicmp("explain", *words, "--output", "maps.npz", "--format", "json"))


def test_maps_from_a_file_give_the_numbers_of_the_run_that_wrote_them(xaicmp: Xaicmp, kept: Any) -> None:
    found = document(xaicmp("metrics", "--from", "maps.npz", "--format", "json"))
    assert found["pairs"] == kept["pairs"]
    assert [each["pearson"] for each in found["images"]] == [each["pearson"] for each in kept["images"]]
    assert [each["label"] for each in found["images"]] == [each["label"] for each in kept["images"]]
    assert found["methods"] == kept["methods"]
    with np.load("maps.npz") as arrays:
        maps = arrays["maps"].astype(float)
    for row, image in enumerate(found["images"]):
        a, b = maps[1, row].ravel(), maps[2, row].ravel()
        if np.ptp(a) > 0:
            assert image["pearson"]["grad-cam|saliency"] == pytest.approx(pearsonr(a, b)[0], abs=1e-9)


def test_maps_from_a_file_need_no_checkpoint_and_print_in_every_format(
    xaicmp: Xaicmp, kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xaicmp.core.models.checkpoint.load_checkpoint", never)
    for words in ((), ("--by", "class", "correct", "confidence", "method", "--compare-pairs")):
        text = printed(xaicmp("metrics", "--from", "maps.npz", *words))
        assert "Maps from maps.npz." in " ".join(text.split())
        markdown = printed(xaicmp("metrics", "--from", "maps.npz", "--format", "markdown", *words))
        assert markdown.count("\n### ") == (5 if words else 0)
    rows = list(
        csv.DictReader(io.StringIO(printed(xaicmp("metrics", "--from", "maps.npz", "--format", "csv"))))
    )
    assert [float(row["pearson_mean"]) for row in rows] == [pair["pearson"]["mean"] for pair in kept["pairs"]]


@pytest.mark.parametrize(
    "words",
    [
        "--n 3",
        "--ids 3",
        "--only wrong",
        "--checkpoint here.pt",
        "--data folder",
        "--methods saliency grad-cam",
        "--layer layer4",
        "--target cat",
        "--reduce sum",
        "--samples 3",
        "--fast",
        "--device cpu",
        "--randomise cascading",
        "--faithfulness",
        "--properties",
        "--cost",
        "--rerun",
        "--against other.pt",
        "--checkpoints here.pt other.pt",
        "--verbose",
    ],
)
def test_maps_from_a_file_are_refused_together_with_what_needs_a_model(xaicmp: Xaicmp, words: str) -> None:
    """Also where there is no such file: the command line is wrong whatever it holds."""
    refused(
        xaicmp("metrics", "--from", "maps.npz", *words.split()),
        f"{words.split()[0]} needs the model",
        "leave it or --from out",
    )


def test_the_picture_of_many_methods_in_a_file_measures_no_curve(xaicmp: Xaicmp) -> None:
    maps = np.random.default_rng(0).random((7, 3, 8, 8))
    for methods, curve in ((6, True), (7, False)):
        np.savez("maps.npz", methods=[f"m{each}" for each in range(methods)], maps=maps[:methods])
        for written in ("--plot drawn.png", "--report page.html"):
            words = ("--output", "kept.json", *written.split(), "-q")
            printed(xaicmp("metrics", "--from", "maps.npz", *words))
            assert json.loads(Path("kept.json").read_text())["comparison"]["curve"] == curve


def test_the_page_of_a_file_shows_its_images_or_a_line_says_that_it_has_none(
    xaicmp: Xaicmp, kept: Any
) -> None:
    line = ("metrics", "--from", "maps.npz", "--report", "page.html")
    outcome = xaicmp(*line)
    assert (outcome.status, outcome.err) == (0, "")
    assert len(re.findall("<li data-row=", Path("page.html").read_text())) == 20
    with np.load("maps.npz") as arrays:
        bare = {name: array for name, array in arrays.items() if name != "images"}
    np.savez("maps.npz", **bare)
    outcome = xaicmp(*line)
    said = "xaicmp: page.html shows no images: maps.npz holds none\n"
    assert (outcome.status, outcome.err) == (0, said)
    assert "<li data-row=" not in Path("page.html").read_text()
    np.savez("maps.npz", **bare, images=np.zeros((20, 32, 32, 3), np.uint16))
    refused(xaicmp(*line), "maps.npz holds images of shape (20, 32, 32, 3) and type uint16")


def test_files_that_hold_no_maps_are_refused(xaicmp: Xaicmp) -> None:
    refused(xaicmp("metrics", "--from", "none.npz"), "cannot read none.npz", "xaicmp explain")
    Path("text.npz").write_text("no maps")
    refused(xaicmp("metrics", "--from", "text.npz"), "text.npz is no .npz file")
    np.savez("empty.npz", other=np.zeros(3))
    refused(xaicmp("metrics", "--from", "empty.npz"), "empty.npz holds no")


# ---------------------------------------------------------------- a comparison that was kept


def test_a_kept_comparison_is_shown_again_in_every_format(
    metrics: Xaicmp, xaicmp: Xaicmp, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--compare-pairs", "--by", "correct", "--plot", "curve.svg")
    methods = ("--methods", "grad-cam", "saliency", "edge")
    controls = ("--controls", "other-image,shift,other-class")  # those of --details
    first = printed(metrics("--output", "kept.json", *words, *controls, methods=methods))
    forms = [
        ("--format", form, *more) for form in FORMATS if form != "table" for more in ((), ("--details",))
    ]
    expected = [printed(metrics(*form, *words, *controls, methods=methods)) for form in forms]
    monkeypatch.setattr("xaicmp.core.models.checkpoint.load_checkpoint", never)
    again = ("metrics", "--from", "kept.json")
    assert printed(xaicmp(*again, *words)) == printed(xaicmp(*again)) == first
    assert [printed(xaicmp(*again, *form)) for form in forms] == expected
    assert printed(xaicmp(*again, "--format", "json")) == Path("kept.json").read_text()
    printed(xaicmp(*again, "--output", "again.tex"))
    assert Path("again.tex").read_text().startswith(r"\begin{table}")


def test_a_page_shows_what_is_printed_and_written(metrics: Xaicmp, xaicmp: Xaicmp) -> None:
    words = ("--compare-pairs", "--by", "correct", "--faithfulness", "--report", "page.html")
    printed(metrics("--output", "kept.json", *words, ids="0-2"))
    page, kept = Path("page.html").read_text(), Path("kept.json").read_text()
    (twin,) = re.findall('id="document">([^<]+)<', page)
    assert gzip.decompress(b64decode(twin)).decode() == kept
    headings = re.findall("<h3>(.*?)</h3>", page)
    assert headings[:3] == [
        "Do the pairs differ?",
        "Agreement by correct",
        "Does the map point at what the model uses?",
    ]
    assert [f'id="{kind}-caption"' in page for kind in ("shares", "faithfulness", "maps")] == [
        True,
        True,
        False,
    ]
    assert len(re.findall("<li data-row=", page)) == 3
    assert "metrics --checkpoint here.pt" in page
    before = printed(xaicmp("metrics", "--from", "kept.json", "--report", "again.html"))
    assert before == printed(xaicmp("metrics", "--from", "kept.json"))
    assert twin in Path("again.html").read_text()


def test_the_page_of_many_methods_has_no_curves(metrics: Xaicmp) -> None:
    """Their numbers would be most of the document, and their panels most of the page."""
    many = (
        "--methods",
        "edge",
        "centre",
        "random",
        *(f"saliency:{each}" for each in ("sum", "l2", "positive")),
    )
    for methods, shown in ((many, True), ((*many, "saliency"), False)):
        printed(metrics("--report", "page.html", "--output", "kept.json", ids="0-1", methods=methods))
        assert json.loads(Path("kept.json").read_text())["comparison"]["curve"] == shown
        assert ('id="shares-caption"' in Path("page.html").read_text()) == shown


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("--statistics cosine", "maps"),
        ("--top 0.1", "maps"),
        ("--controls none", "maps"),
        ("--ci 0.9", "maps"),
        ("--seed 3", "maps"),
        ("--rerun", "model"),
        ("--n 3", "model"),
        ("--verbose", "model"),
    ],
)
def test_a_kept_comparison_is_refused_what_its_numbers_cannot_answer(
    xaicmp: Xaicmp, words: str, what: str
) -> None:
    outcome = xaicmp("metrics", "--from", "kept.json", *words.split())
    refused(outcome, f"{words.split()[0]} needs the {what}", "leave it or --from out")


def test_what_is_no_kept_comparison_is_refused(metrics: Xaicmp, xaicmp: Xaicmp) -> None:
    refused(xaicmp("metrics", "--from", "none.json"), "cannot read none.json")
    Path("text.json").write_text("{")
    refused(xaicmp("metrics", "--from", "text.json"), "text.json is no JSON document")
    printed(metrics("--output", "kept.json", ids="0-1"))
    refused(
        xaicmp("metrics", "--from", "kept.json", "--plot", "curve.png", "--kind", "shares"),
        "'shares' needs IoU at every share",
        "--output result.json",
    )


# ---------------------------------------------------------------- several shares


def test_each_share_has_the_figures_that_it_has_alone(xaicmp: Xaicmp, kept: Any) -> None:
    line = ("metrics", "--from", "maps.npz", "--format", "json", "--statistics", "iou", "rbo")
    found = document(xaicmp(*line, "--top", 0.3, 0.1, 0.05))
    assert found["top"] == 0.3
    for top, key in ((0.3, ""), (0.1, "@10%"), (0.05, "@5%")):
        alone = document(xaicmp(*line, "--top", top))
        for whole, part in ((found["pairs"], alone["pairs"]), (found["images"], alone["images"])):
            for one, other in zip(whole, part, strict=True):
                assert (one[f"iou{key}"], one[f"rbo{key}"]) == (other["iou"], other["rbo"])
    assert set(found["pairs"][0]["iou@10%"]) >= {"ci", "tied", "corrected", "shifted", "above_other_image"}


def test_each_share_is_in_every_format(metrics: Xaicmp) -> None:
    words = ("--top", 0.2, 0.1, 0.05)
    (pair,) = document(metrics(*words, "--format", "json"))["pairs"]
    (row,) = csv.DictReader(io.StringIO(printed(metrics(*words, "--format", "csv"))))
    markdown, text = (
        printed(metrics(*words, "--format", "markdown", "--details")),
        printed(metrics(*words, "--details")),
    )
    for share in ("10%", "5%"):
        values = pair[f"iou@{share}"]
        assert float(row[f"iou@{share}_mean"]) == values["mean"]
        assert float(row[f"iou@{share}_ci_low"]) == values["ci"][0]
        for each in (markdown, text):
            assert f"IoU@{share}" in each
            assert f"{decimals(values['mean'])} ± {decimals(values['std'])}" in each
            assert " to ".join(map(decimals, values["ci"])) in each
            for control in ("other_image", "other_image_same_class", "shifted"):
                assert decimals(values[control]) in each
            assert f"IoU@{share} {decimals(values['chance'])}" in " ".join(each.split())
        assert decimals(values["corrected"]) in markdown


# ---------------------------------------------------------------- methods, statistics and controls


def test_all_statistics_are_printed_whole_at_any_width(
    metrics: Xaicmp, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--statistics", *STATISTICS, "--by", "method", "--controls", "other-image")
    found = document(metrics(*words, "--format", "json"))
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        text = printed(metrics(*words))
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text
        for pair in found["pairs"]:
            for name in STATISTICS:
                summary = pair[name]
                assert f"{decimals(summary['mean'])} ± {decimals(summary['std'])}" in text
                assert (
                    " to ".join(decimals(end) for end in (summary["ci"] if summary["n"] else [None] * 2))
                    in text
                )
                assert decimals(summary["other_image"]) in text
        for statistic in STATISTICS.values():
            assert statistic.title(0.2) in text


def test_controls_are_what_was_asked_for(metrics: Xaicmp) -> None:
    def keys(*words: str) -> set[str]:
        entry = document(metrics("--format", "json", *words))["pairs"][0]["pearson"]
        return set(entry) - {"mean", "std", "ci", "n", "undefined", "chance", "corrected", "verdict"}

    other = {"other_image", "other_image_same_class", "above_other_image", "explained_by_other_image"}
    other |= {
        "explained_by_other_image_ci",
        "images_above_other",
        "images_above_other_ci",
        "pairing_permutation_p",
    }
    shift = {"shifted", "above_shifted", "above_shifted_ci"}
    assert keys() == other | shift
    assert keys("--controls", "none") == set()
    pooled = {"pooled", "pooled_chance", "pooled_other_image"}
    assert keys("--controls", "resolution") == pooled
    assert keys("--controls", "shift,resolution") == shift | pooled
    assert keys("--controls", "other-image") == other
    classes = {"other_class", "other_class_runner_up"}
    assert keys("--controls", "other-class") == classes | {f"above_{each}" for each in classes}
    assert keys("--details") == keys("--controls", "other-image,shift,other-class")
    text = " ".join(printed(metrics("--controls", "resolution", "--details")).split())
    assert "Coarser" in text
    assert "Other" not in text


def test_a_reduction_is_of_one_method_or_of_all(metrics: Xaicmp) -> None:
    methods = ("--methods", "saliency", "saliency:sum-abs", "grad-cam")
    found = document(metrics("--format", "json", methods=methods))
    assert found["methods"] == ["saliency", "saliency:sum-abs", "grad-cam"]
    pair = found["pairs"][0]
    assert 0.8 < pair["pearson"]["mean"] < 1
    assert re.search(
        r"(?m)^Saliency vs +(Saliency )?.*\n(Saliency )?\(sum-abs\) ", printed(metrics(methods=methods))
    )
    markdown = printed(metrics("--format", "markdown", methods=methods))
    assert "| Saliency vs Saliency (sum-abs) |" in markdown
    whole = document(metrics("--format", "json", "--reduce", "sum-abs"))["pairs"][0]["pearson"]["mean"]
    own = next(each for each in found["pairs"] if each["a"] == "saliency:sum-abs")
    assert whole == pytest.approx(own["pearson"]["mean"], abs=1e-9)


def test_an_identity_is_marked_in_every_format(metrics: Xaicmp) -> None:
    methods = ("--methods", "grad-cam", "hirescam", "saliency")
    found = document(metrics("--format", "json", methods=methods))
    assert [pair["identity"] for pair in found["pairs"]] == [True, False, False]
    said = "the same map on this model: an identity, not a finding"
    assert found["pairs"][0]["verdict"] == said
    assert " ".join(printed(metrics(methods=methods)).split()).count(" identity") == 2
    assert printed(metrics("--format", "markdown", methods=methods)).count("| identity |") == 2
    assert printed(metrics("--format", "markdown", "--details", methods=methods)).count(said) == 1
    rows = csv.DictReader(io.StringIO(printed(metrics("--format", "csv", methods=methods))))
    assert [row["identity"] for row in rows] == ["true", "false", "false"]


def test_model_free_methods_come_last_and_apart_wherever_they_were_named(metrics: Xaicmp) -> None:
    methods = ("--methods", "edge", "grad-cam", "saliency")
    text = printed(metrics(methods=methods))
    places = [
        text.index(part)
        for part in ("Grad-CAM vs ", "Model-free methods:", "Edges vs Grad-CAM", "Edges vs Saliency")
    ]
    assert places == sorted(places)
    assert "Model-free methods:" not in printed(metrics())
    assert "Model-free methods:" not in printed(metrics(methods=("--methods", "edge", "centre")))


def test_the_class_that_is_explained_is_chosen(metrics: Xaicmp) -> None:
    for target in ("label", "cat"):
        images = document(metrics("--target", target, "--format", "json"))["images"]
        assert [each["target"] for each in images] == [
            each["label"] if target == "label" else "cat" for each in images
        ]
    predicted, cat = (
        document(metrics("--target", target, "--format", "json"))["pairs"][0]["pearson"]["mean"]
        for target in ("predicted", "cat")
    )
    assert predicted != cat
    refused(metrics("--target", "lorry"), "lorry", *CLASSES[:1])


def test_fast_says_that_it_is_approximate(xaicmp: Xaicmp) -> None:
    line = ("metrics", "--checkpoint", "here.pt", "--ids", "0-3", "-q", *PAIR)
    assert "Approximate: fast" in " ".join(printed(xaicmp(*line, "--fast")).split())
    assert "pproximate" not in printed(xaicmp(*line))
    assert "pproximate" in printed(xaicmp(*line, "--fast", "--format", "markdown"))


def test_a_function_of_ones_own_is_a_method(metrics: Xaicmp) -> None:
    Path("my_plugin_here.py").write_text(
        "def bright(model, images, targets):\n    return images.mean(dim=1)\n\n\n"
        "def broken(model, images, targets):\n    return images.mean(dim=1) * float('nan')\n"
    )
    methods = ("--methods", "saliency", "my_plugin_here:bright")
    found = document(metrics("--format", "json", methods=methods))
    assert found["methods"] == ["saliency", "my_plugin_here:bright"]
    assert "bright" in printed(metrics(methods=methods))
    refused(metrics(methods=("--methods", "saliency", "my_plugin_here:broken")), "my_plugin_here:broken")
    refused(metrics(methods=("--methods", "saliency", "my_plugin_here:none")), "my_plugin_here", "none")


def test_many_methods_make_a_matrix_of_the_documents_values(
    metrics: Xaicmp, xaicmp: Xaicmp, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = ("grad-cam", "hirescam", "saliency", "input-x-gradient", "guided-backprop")
    methods = ("--methods", "model-free", ",".join(known[:2]), *known[2:])
    found = document(metrics("--format", "json", methods=methods, ids="0-5"))
    names = [*groups()["model-free"], *known]
    assert found["methods"] == names
    assert len(found["pairs"]) == len(list(combinations(names, 2)))
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        text = printed(metrics(methods=methods, ids="0-5"))
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= width
        # A matrix: Pearson above the diagonal, IoU below.
        rows = {
            number: [line for line in text.splitlines() if re.match(rf"{number + 1} \S", line)]
            for number in range(len(names))
        }
        cells = {}
        for number, lines in rows.items():
            title = METHODS[names[number]].title
            assert all(line.startswith(f"{number + 1} {title} ") for line in lines)
            cells[number] = [c for line in lines for c in line.removeprefix(f"{number + 1} {title}").split()]
            assert len(cells[number]) == len(names)
        for pair in found["pairs"]:
            i, j = sorted((names.index(pair["a"]), names.index(pair["b"])))
            assert cells[i][j] == decimals(pair["pearson"]["mean"], 2)
            assert cells[j][i] == decimals(pair["iou"]["mean"], 2)
    line = ("--checkpoint", "here.pt", "--ids", "0-5", "--ig-steps", 2, "-q", *methods)
    images = printed(xaicmp("explain", *line))
    for image in found["images"]:
        values = [
            value
            for pair, value in image["pearson"].items()
            if set(pair.split("|")) <= {*known} - {"hirescam"} and value is not None  # Grad-CAM's map
        ]
        row = next(
            each for each in images.splitlines() if each.split()[:2] == [str(image["id"]), image["label"]]
        )
        assert row.split()[-2] == decimals(np.mean(values))


# ---------------------------------------------------------------- the registry


def test_the_registry_is_listed_in_every_format(xaicmp: Xaicmp, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = document(xaicmp("explain", "--list-methods", "--format", "json"))
    assert [row["name"] for row in rows] == list(METHODS)
    for row in rows:
        method = METHODS[row["name"]]
        assert row == {key: getattr(method, key) for key in row}
    assert (
        list(csv.DictReader(io.StringIO(printed(xaicmp("explain", "--list-methods", "--format", "csv")))))
        == rows
    )
    markdown = printed(xaicmp("explain", "--list-methods", "--format", "markdown")).splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in markdown[2:]] == list(METHODS)
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        text = printed(xaicmp("explain", "--list-methods"))
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= width
        firsts = [line.split()[0] for line in text.splitlines() if line[:1].strip()]
        assert [first for first in firsts if first in METHODS] == list(METHODS)


def test_settings_of_a_method_can_be_compared(metrics: Xaicmp) -> None:
    name = "integrated-gradients"
    names = [name, f"{name}:steps=3,rule=middle", f"{name}:positive,steps=4"]
    written = ("--methods", name, f"{name}:rule=middle,steps=3,{name}:steps=4,positive")
    found = document(metrics("--format", "json", methods=written))
    assert [(each["a"], each["b"]) for each in found["pairs"]] == [
        (names[0], names[1]),
        (names[0], names[2]),
        (names[1], names[2]),
    ]
    assert {each: options["steps"] for each, options in found["options"].items()} == dict(
        zip(names, (2, 3, 4), strict=True)
    )
    assert "IG vs IG (steps=3, rule=middle)" in printed(metrics("--format", "markdown", methods=written))


def test_each_shortcut_reaches_what_its_help_says() -> None:
    line = {"ig_steps": 7, "ig_rule": "left", "ig_baseline": "blur", "ig_tolerance": 0.5}
    settings = method_settings(Comparing(**line, samples=9, noise=0.25))
    methods = {each.name: each.options for each in get_methods(["all"], settings=settings)}
    for name, options in methods.items():
        default = METHODS[name].options
        if name == "integrated-gradients":
            changed = {"steps": 7, "rule": "left", "baseline": "blur", "tolerance": 0.5}
        else:
            changed = {"samples": 9} if "samples" in default else {}
            changed |= {"stdev": 0.25} if name in NOISY else {}
        assert options == default | changed, name
    assert {name for name, options in methods.items() if "stdev" in options} == set(NOISY)
