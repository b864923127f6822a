"""The command lines of the documentation, in this process; their output read back by others' parsers."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small import SmallNet

from xaicmp.core.agreement.registry import iou, pearson
from xaicmp.core.agreement.top_pixels import top_pixels
from xaicmp.core.attribution import METHODS as REGISTRY
from xaicmp.core.images.cifar10 import CLASSES, MEAN, STD, load_sample
from xaicmp.core.models.architectures import ARCHITECTURES
from xaicmp.core.models.checkpoint import DEFAULT, load_checkpoint, save_checkpoint, shipped_checkpoint
from xaicmp.views.text import decimals

Xaicmp = Callable[..., Any]
METHODS = ["grad-cam", "saliency", "integrated-gradients"]
PAIRS = [("grad-cam", "saliency"), ("grad-cam", "integrated-gradients"), ("saliency", "integrated-gradients")]
QUICK = ("--ig-steps", 4, "--quiet")
KEPT = "the maps were not kept; add --output maps.npz to keep them"


@pytest.fixture
def tiny(xaicmp: Xaicmp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Xaicmp:
    """Commands with a tiny network, for what does not depend on the network."""
    monkeypatch.setitem(ARCHITECTURES, "small", lambda classes: SmallNet())
    metadata = {"architecture": "small", "test_accuracy": 0.125, "classes": CLASSES, "mean": MEAN, "std": STD}
    save_checkpoint(tmp_path / "small.pt", SmallNet(), metadata)
    return lambda command, *words: xaicmp(command, "--checkpoint", tmp_path / "small.pt", *words)


def done(outcome: Any) -> Any:
    assert outcome.status == 0, outcome.err
    return outcome


def document(outcome: Any) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(done(outcome).out, parse_constant=refuse)


def without_command(outcome: Any) -> Any:
    """The document but for the command line that made it."""
    return {key: each for key, each in document(outcome).items() if key not in ("command", "config")}


# ---------------------------------------------------------------- JSON


@pytest.mark.parametrize("command", ["metrics", "explain", "figure"])
def test_the_json_document_has_every_field_and_its_sums_are_right(xaicmp: Xaicmp, command: str) -> None:
    found = document(xaicmp(command, "--n", 4, "--format", "json", "--top", 0.1, "--seed", 5, *QUICK))
    assert found["xaicmp"].count(".") == 2
    assert set(found["checkpoint"]) == {"path", "sha256", "architecture", "weights", "test_accuracy"}
    assert found["checkpoint"]["path"] == str(shipped_checkpoint())
    assert re.fullmatch("[0-9a-f]{64}", found["checkpoint"]["sha256"])
    assert found["checkpoint"]["architecture"] == "resnet18-cifar"
    assert 0.5 < found["checkpoint"]["test_accuracy"] < 1
    assert found["data"].items() >= {"name": "CIFAR-10", "split": "test", "verified": True}.items()
    assert [found[name] for name in ("n", "methods", "top", "seed", "precision")] == [
        4,
        METHODS,
        0.1,
        5,
        "float32",
    ]
    assert found["device"] in ("cpu", "cuda", "mps")
    assert [(pair["a"], pair["b"]) for pair in found["pairs"]] == PAIRS
    keys = {"|".join(pair) for pair in PAIRS}
    for image in found["images"]:
        assert set(image) >= {"id", "label", "predicted", "confidence", "pearson", "iou"}
        assert type(image["id"]) is int
        assert image["label"] == image["predicted"] == CLASSES[load_sample().labels[image["id"]]]
        assert 0.1 < image["confidence"] <= 1
        assert set(image["pearson"]) == set(image["iou"]) == keys
    for pair in found["pairs"]:
        for statistic, counts in (("pearson", {"undefined"}), ("iou", {"undefined", "tied"})):
            assert set(pair[statistic]) >= {"mean", "std"} | counts
            values = np.array([image[statistic][f"{pair['a']}|{pair['b']}"] for image in found["images"]])
            values = values.astype(float)
            assert pair[statistic]["undefined"] == np.isnan(values).sum()
            assert pair[statistic]["mean"] == pytest.approx(np.nanmean(values), abs=1e-12)
            assert pair[statistic]["std"] == pytest.approx(np.nanstd(values, ddof=0), abs=1e-12)


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Writes a checkpoint that sees nothing: its last layer has no weights, so that every map is constant.

    The network has the name of the real one.
    """
    model = SmallNet()
    with torch.no_grad():
        model.fc.weight.zero_()
        model.fc.bias.copy_(torch.eye(10)[3])
    monkeypatch.setitem(ARCHITECTURES, "resnet18-cifar", lambda classes: SmallNet())

    def write(path: Path) -> Path:
        save_checkpoint(path, model, {"architecture": "resnet18-cifar"}, dtype=torch.float16)
        return path

    return write


def test_what_is_undefined_is_null_and_counted_and_never_in_a_mean(
    xaicmp: Xaicmp, blank: Callable[[Path], Path], alone: Path
) -> None:
    path = blank(alone / "blank.pt")
    line = ("metrics", "--checkpoint", path, "--n", 2, "--only", "all", *QUICK)
    found = document(xaicmp(*line, "--format", "json"))
    assert found["checkpoint"]["test_accuracy"] is None
    for pair in found["pairs"]:
        assert (pair["pearson"]["mean"], pair["pearson"]["std"], pair["pearson"]["undefined"]) == (
            None,
            None,
            2,
        )
        assert (pair["iou"]["mean"], pair["iou"]["undefined"], pair["iou"]["tied"]) == (None, 2, 0)
    assert {image["predicted"] for image in found["images"]} == {"cat"}
    table = done(xaicmp(*line)).out
    assert "- ± -" in table
    assert "nan" not in table.lower()
    assert "unknown test accuracy" in " ".join(table.split())
    rows = list(csv.DictReader(io.StringIO(done(xaicmp(*line, "--format", "csv")).out)))
    assert {row["pearson_mean"] for row in rows} == {""}


# ---------------------------------------------------------------- CSV, Markdown and tables say the same


def test_csv_holds_the_numbers_of_the_json(tiny: Xaicmp) -> None:
    line = ("--n", 3, *QUICK, "--format")
    found = document(tiny("metrics", *line, "json"))
    pairs = list(csv.DictReader(io.StringIO(done(tiny("metrics", *line, "csv")).out)))
    assert [(row["a"], row["b"], int(row["n"])) for row in pairs] == [(*pair, 3) for pair in PAIRS]
    for row, pair in zip(pairs, found["pairs"], strict=True):
        for statistic in ("pearson", "iou"):
            for key in ("mean", "std", "chance", "corrected", "other_image", "shifted"):
                assert float(row[f"{statistic}_{key}"]) == pytest.approx(pair[statistic][key], rel=1e-5)
            assert float(row[f"{statistic}_ci_low"]) == pytest.approx(pair[statistic]["ci"][0], rel=1e-5)
        assert row["checkpoint_sha256"] == found["checkpoint"]["sha256"]
        assert row["verified"] == "true"
    images = list(csv.DictReader(io.StringIO(done(tiny("explain", *line, "csv")).out)))
    for row, image in zip(images, found["images"], strict=True):
        assert (int(row["id"]), row["label"], row["predicted"]) == (
            image["id"],
            image["label"],
            image["predicted"],
        )
        for statistic in ("pearson", "iou"):
            for pair, value in image[statistic].items():
                assert float(row[f"{statistic} {pair}"]) == pytest.approx(value, abs=1e-5)


def markdown_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert set(lines[1]) <= set("|- ")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


def test_markdown_and_table_hold_the_numbers_of_the_json(tiny: Xaicmp) -> None:
    line = ("--ids", 12, 3, *QUICK)
    found = document(tiny("metrics", *line, "--format", "json"))
    spreads = [
        [f"{pair[name]['mean']:.3f} ± {pair[name]['std']:.3f}" for name in ("pearson", "iou")]
        for pair in found["pairs"]
    ]
    header, *rows = markdown_rows(done(tiny("metrics", *line, "--format", "markdown")).out)
    places = [header.index(name) for name in ("Pair", "Pearson", "IoU@20%")]
    assert [[row[place] for place in places] for row in rows] == [
        [name, *cells]
        for name, cells in zip(
            ["Grad-CAM vs Saliency", "Grad-CAM vs IG", "Saliency vs IG"], spreads, strict=True
        )
    ]
    _, *images = markdown_rows(done(tiny("explain", *line, "--format", "markdown")).out)
    assert [row[0] for row in images] == ["12", "3"]
    for row, image in zip(images, found["images"], strict=True):
        assert row[4:] == [
            f"{image['pearson']['|'.join(pair)]:.3f}/{image['iou']['|'.join(pair)]:.3f}" for pair in PAIRS
        ]
    table = done(tiny("metrics", *line)).out
    for (a, b), pair in zip(
        spreads, ("Grad-CAM vs Saliency", "Grad-CAM vs IG", "Saliency vs IG"), strict=True
    ):
        assert re.search(rf"(?m)^{pair} +{re.escape(a)} .* {re.escape(b)} ", table)


@pytest.mark.parametrize("columns", [80, 120])
def test_many_statistics_of_an_image_are_printed_whole(
    tiny: Xaicmp, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    line = ("explain", "--ids", 9, 3, *QUICK, "--statistics", "pearson", "iou", "rbo", "ssim", "sign")
    tops = ("--top", 0.2, 0.1, 0.05)
    found = document(tiny(*line, *tops, "--format", "json"))
    out = done(tiny(*line, *tops)).out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= columns
    names = ("pearson", "iou", "iou@10%", "iou@5%", "rbo", "rbo@10%", "rbo@5%", "ssim", "sign")
    for title in ("Pearson", "IoU@20%", "IoU@10%", "IoU@5%", "RBO@20%", "RBO@10%", "RBO@5%", "SSIM"):
        assert len(re.findall(rf"(?<!\S){title}(?!\S)", out)) == 1
    parts = re.split(r"(?m)^id .*$", out)[1:]
    for row, image in enumerate(found["images"]):
        for pair, (a, b) in zip(image["pearson"], PAIRS, strict=True):
            name = f"{REGISTRY[a].title} vs {REGISTRY[b].title}"
            cells = " ".join(re.findall(rf"(?m)^  {name} +(.*)$", part)[row] for part in parts).split()
            assert cells == [decimals(image[each][pair]) for each in names]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", ["metrics", "explain"])
def test_nothing_is_cut_or_wrapped_into_the_next_row(
    tiny: Xaicmp, monkeypatch: pytest.MonkeyPatch, command: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = done(tiny(command, "--ids", 9, 3, 999, *QUICK)).out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= columns
    if command == "explain":
        rows = [line for line in out.splitlines() if re.match(r" *(9|3|999) ", line)]
        assert [len(re.findall(r"-?\d\.\d{3} ?/ ?\d\.\d{3}", row)) for row in rows] == [3, 3, 3]
    else:
        assert len(re.findall(r"-?\d\.\d{3} ± \d\.\d{3}", out)) == 6
        assert len(re.findall(r"-?\d\.\d{3} to -?\d\.\d{3}", out)) == 6
    words = " ".join(out.split())
    assert "small.pt" in "".join(out.split())  # whose path may be longer than a line
    for part in ("12.50%", "CIFAR-10 sample in the package"):
        assert part in words
    if command == "metrics":
        for part in ("n = 3 images", "Undefined: Pearson ", "tied: "):
            assert part in words


# ---------------------------------------------------------------- selection


@pytest.mark.parametrize(
    "ids", ["--ids 12 3 3", "--ids 12,3,3", "--ids=12 3 --ids 3", "--ids 12 --quiet --ids 3-3 3"]
)
def test_every_way_to_name_ids_means_the_same(tiny: Xaicmp, ids: str) -> None:
    methods = ("--methods", "saliency", "grad-cam")
    found = document(tiny("metrics", *ids.split(), *methods, "--format", "json"))
    assert [image["id"] for image in found["images"]] == [12, 3]
    assert found["methods"] == ["saliency", "grad-cam"]
    assert list(found["images"][0]["iou"]) == ["saliency|grad-cam"]


def test_an_image_has_one_vote_however_often_it_is_named(tiny: Xaicmp) -> None:
    line = ("metrics", "--methods", "saliency", "edge", "--format", "json", "--ids")
    once = tiny(*line, 3, 7, 12, 58)
    often = tiny(*line, *[3, 7, 12, 58] * 9, "3-3", 3)
    assert without_command(often) == without_command(once)
    assert document(once)["n"] == 4
    assert document(once)["pairs"][0]["pearson"]["above_other_image"]["p"] >= 2 / 2**4
    assert once.err == ""
    assert often.err == "xaicmp: --ids: 34 repeated ids left out; each image counts once\n"
    assert tiny(*line, 3, 3, "-q").err == ""


def test_methods_may_be_given_with_commas(tiny: Xaicmp) -> None:
    outcome = tiny("metrics", "--n", 1, "--methods", "saliency,grad-cam", "--format", "json", "-q")
    assert document(outcome)["methods"] == ["saliency", "grad-cam"]


def test_only_divides_the_first_images_into_right_and_wrong(
    xaicmp: Xaicmp, tiny: Xaicmp, blank: Callable[[Path], Path], alone: Path
) -> None:
    line = ("metrics", "--format", "json", "--methods", "saliency", "grad-cam", "-q")
    everything = document(tiny(*line, "--n", 12, "--only", "all"))["images"]
    assert [image["id"] for image in everything] == list(range(12))
    right = [image["id"] for image in everything if image["label"] == image["predicted"]]
    wrong = [image["id"] for image in everything if image["label"] != image["predicted"]]
    by_default, correct = (
        without_command(tiny(*line, "--n", len(right), *more)) for more in ((), ("--only", "correct"))
    )
    assert [image["id"] for image in by_default["images"]] == right
    assert by_default == correct
    path = blank(alone / "blank.pt")  # says cat, always
    found = document(xaicmp(*line, "--n", 5, "--only", "wrong", "--checkpoint", path))["images"]
    assert [image["id"] for image in found] == [1, 2, 3, 4, 5]
    assert right and wrong
    table = done(tiny("explain", "--ids", wrong[0], "--methods", "saliency", "grad-cam")).out
    assert re.search(rf"(?m)^ *{wrong[0]} .*✗", table)


@pytest.mark.parametrize(("n", "sample"), [(3, True), (6, False)])
def test_data_beyond_the_sample_comes_from_the_cache(
    tiny: Xaicmp, monkeypatch: pytest.MonkeyPatch, binary_folder: Path, n: int, sample: bool
) -> None:
    """With a sample of five images, six are too many, whatever the model says of them."""
    monkeypatch.setattr(
        "xaicmp.api.load_sample", lambda whole: replace(load_sample().first(5), load_whole=whole)
    )
    line = ("metrics", "--only", "all", "--methods", "saliency", "grad-cam", "--format", "json", "--n", n)
    if not sample:
        outcome = tiny(*line)
        assert (outcome.status, outcome.out) == (1, "")
        assert "more than the 5 images at hand" in outcome.err
    monkeypatch.setenv("XAICMP_DATA", str(binary_folder.parent))
    found = document(tiny(*line))
    assert found["n"] == n
    assert found["data"]["verified"] is sample


def test_fewer_than_asked_for_are_compared_and_their_number_is_told(
    tiny: Xaicmp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "xaicmp.core.images.cifar10.load_cifar10", lambda *given, **options: load_sample().first(4)
    )
    outcome = tiny("metrics", "--data", "x", "--n", 9, "--only", "all", "--ig-steps", 4, "--format", "json")
    assert document(outcome)["n"] == 4
    assert outcome.err == "xaicmp: there are 4 such images, not 9\n"


@pytest.mark.parametrize(
    ("command", "form"),
    [
        ("metrics", "table"),
        ("metrics", "json"),
        ("metrics", "markdown"),
        ("explain", "csv"),
        ("explain", "table"),
    ],
)
def test_unofficial_files_are_recorded_in_every_output(
    tiny: Xaicmp, binary_folder: Path, command: str, form: str
) -> None:
    line = (command, "--data", binary_folder, "--n", 1, "--methods", "saliency", "grad-cam", "--format", form)
    outcome = done(tiny(*line))
    first = outcome.err.splitlines()[0]
    assert first == "xaicmp: CIFAR-10: the files' checksums are not the official ones"
    words = " ".join(outcome.out.split())
    if form == "json":
        assert json.loads(outcome.out)["data"]["verified"] is False
    elif form == "csv":
        assert [row["verified"] for row in csv.DictReader(io.StringIO(outcome.out))] == ["false"]
    else:
        assert "test set, checksums not the official ones" in words


def test_the_users_own_checkpoint_comes_first_and_is_named(
    xaicmp: Xaicmp, blank: Callable[[Path], Path]
) -> None:
    DEFAULT.parent.mkdir()
    blank(DEFAULT)
    line = ("metrics", "--n", 1, "--methods", "saliency", "grad-cam")
    assert document(xaicmp(*line, "--format", "json"))["checkpoint"]["path"] == str(DEFAULT)
    assert "Checkpoint checkpoints/resnet18.pt" in " ".join(done(xaicmp(*line)).out.split())


# ---------------------------------------------------------------- what is written


def test_the_maps_are_kept_as_documented(tiny: Xaicmp, alone: Path) -> None:
    ids, line = [7, 0, 12], ("--ids", 7, 0, 12, "--ig-steps", 4)
    found = document(tiny("explain", *line, "--format", "json", "--output", "maps.npz", "--batch-size", 2))
    assert [path.name for path in alone.iterdir()] == ["maps.npz"]
    with np.load("maps.npz", allow_pickle=False) as file:
        arrays = dict(file)
    sample = load_sample()
    assert arrays["ids"].tolist() == ids
    assert arrays["labels"].tolist() == [CLASSES[sample.labels[i]] for i in ids]
    assert arrays["predicted"].tolist() == [image["predicted"] for image in found["images"]]
    assert arrays["confidence"] == pytest.approx([image["confidence"] for image in found["images"]])
    assert arrays["images"].dtype == np.uint8
    assert np.array_equal(arrays["images"], sample.tensor[ids].numpy().transpose(0, 2, 3, 1))
    assert arrays["methods"].tolist() == METHODS
    assert (arrays["maps"].shape, arrays["maps"].dtype) == ((3, 3, 32, 32), np.float32)
    assert bool(arrays["verified"]) is True
    maps = torch.from_numpy(arrays["maps"])
    for a, b in PAIRS:
        one, other = maps[METHODS.index(a)], maps[METHODS.index(b)]
        for name, values in (
            ("pearson", pearson(one, other)),
            ("iou", iou(top_pixels(one, 0.2), top_pixels(other, 0.2))),
        ):
            for image, value in zip(found["images"], values.tolist(), strict=True):
                told = image[name][f"{a}|{b}"]
                assert told == pytest.approx(value) if told is not None else math.isnan(value)


def test_without_a_file_the_maps_are_not_kept_and_one_line_says_so(tiny: Xaicmp, alone: Path) -> None:
    line = ("explain", "--ids", 3, "--methods", "saliency", "grad-cam", "--format", "csv")
    assert done(tiny(*line)).err == f"xaicmp: {KEPT}\n"
    assert done(tiny(*line, "--quiet")).err == ""
    assert list(alone.iterdir()) == []


@pytest.mark.parametrize("suffix", ["json", "csv", "md", "JSON"])
def test_a_file_holds_what_stdout_would(tiny: Xaicmp, alone: Path, suffix: str) -> None:
    form = {"md": "markdown"}.get(suffix, suffix.lower())
    line = ("metrics", "--n", 2, *QUICK)
    printed = done(tiny(*line, "--output", f"x.{suffix}", "--format", form)).out
    assert Path(f"x.{suffix}").read_text(encoding="utf-8") == printed
    assert [path.name for path in alone.iterdir()] == [f"x.{suffix}"]


@pytest.mark.parametrize(
    ("name", "magic", "options"),
    [
        ("figure.png", b"\x89PNG", ()),
        ("x.pdf", b"%PDF", ("--output", "x.pdf", "--style", "map")),
        ("x.svg", b"<?xml", ("--output", "x.svg", "--dpi", 50)),
    ],
)
def test_figure_draws_and_prints(
    tiny: Xaicmp, alone: Path, name: str, magic: bytes, options: tuple[object, ...]
) -> None:
    outcome = done(tiny("figure", "--ids", 3, 7, 12, "--ig-steps", 4, *options))
    assert Path(name).read_bytes().startswith(magic)
    assert [path.name for path in alone.iterdir()] == [name]
    assert outcome.err == f"xaicmp: wrote {name}\n"
    if not options:
        table = done(tiny("explain", "--ids", 3, 7, 12, *QUICK)).out
        assert outcome.out.startswith(f"{table}\nImages beside the maps of each method")
        caption = outcome.out[len(table) :].strip()
        assert "\n" not in caption
        assert all(
            part in caption for part in ("n = 3 images", "Grad-CAM, Saliency and IG", "steps 4", "seed 0.")
        )


# ---------------------------------------------------------------- manners


def test_no_colour_where_none_is_wanted(tiny: Xaicmp, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ("metrics", "--n", 1, "--methods", "saliency", "grad-cam")
    assert "\x1b" not in done(tiny(*line)).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in done(tiny(*line)).out
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", done(tiny(*line)).out)


def test_the_same_line_prints_the_same_numbers_whatever_the_batch_size(tiny: Xaicmp) -> None:
    line = ("metrics", "--n", 3, *QUICK, "--format", "json")
    first, again, single = (document(tiny(*line, *more)) for more in ((), (), ("--batch-size", 1)))
    assert first == again
    for one, other in zip(first["images"], single["images"], strict=True):
        assert one["pearson"] == pytest.approx(other["pearson"], abs=1e-5)


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", ["", "train", "explain", "metrics", "figure"])
def test_help_fits_and_names_what_there_is(
    xaicmp: Xaicmp, monkeypatch: pytest.MonkeyPatch, command: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", columns, raising=False)
    out = done(xaicmp(*command.split(), "--help")).out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= columns
    for part in ("--ids", "ID...", "--only") if command else ("train", "explain", "metrics", "figure"):
        assert part in out
    assert out == done(xaicmp(*command.split(), "-h")).out


def test_nothing_at_all_shows_the_help_and_is_a_wrong_command_line(xaicmp: Xaicmp) -> None:
    outcome = xaicmp()
    assert outcome.status == 2
    assert "metrics" in outcome.out + outcome.err
    assert "xaicmp: " not in outcome.err


@pytest.mark.parametrize("form", ["table", "json"])
def test_verbose_tells_how_the_checkpoint_was_trained(xaicmp: Xaicmp, form: str) -> None:
    outcome = xaicmp("metrics", "--n", 2, "--ig-steps", 2, "--format", form, "--verbose")
    assert outcome.status == 0
    if form == "json":
        json.loads(outcome.out)
    told = " ".join((outcome.err if form == "json" else outcome.out).split())
    checkpoint = load_checkpoint(shipped_checkpoint())
    for name, value in checkpoint.metadata["recipe"].items():
        assert f"{name} {value}" in told
    for name in checkpoint.classifier.classes:
        assert name in told


def test_version(xaicmp: Xaicmp) -> None:
    assert re.fullmatch(r"xaicmp \d+\.\d+\.\d+\n", done(xaicmp("--version")).out)


# ---------------------------------------------------------------- one photograph


def test_one_image_is_ranked_among_a_reference(tiny: Xaicmp, alone: Path) -> None:
    """Photographs of the sample; the image itself, which is one of them, does not count."""
    for index, pixels in enumerate(load_sample().tensor[:21].permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels).save(alone / f"{index}.png")
    line = ["explain", "--ids", 3, "--methods", "saliency", "edge", "--quiet"]
    alone_said = " ".join(done(tiny(*line)).out.split())
    assert "Too few others to rank the agreement on one image among (smallest p 1)" in alone_said
    (without,) = document(tiny(*line, "--format", "json"))["images"]
    shifts = without["rank_among_shifts"]["pearson"]["saliency|edge"]
    above = "above the shifts" if shifts["p"] <= 0.05 else "not told apart"
    assert re.search(rf"Pearson 1 of 1 1\.000 {shifts['rank']} of 20 {shifts['p']:.3f} {above}", alone_said)
    shown = done(tiny(*line, "--reference", alone)).out
    assert "Does it agree about this image?" in shown
    found = document(tiny(*line, "--reference", alone, "--format", "json"))["images"][0]
    entry = found["rank_among_others"]["pearson"]["saliency|edge"]
    assert entry["of"] == 21
    assert entry["p"] == pytest.approx(entry["rank"] / 21)
    assert re.search(rf"{entry['rank']} of 21 .*{entry['verdict']}", shown)
    refused = tiny(*line, "--reference", "none.png")
    assert (refused.status, refused.out) == (1, "")
    assert "none.png" in refused.err
