from __future__ import annotations

import itertools
import re

import pytest
import torch
from rich.console import Console, RenderableType
from small import SmallNet, compared, registered, small_engine
from torch import Tensor, nn

from xaicmp.core.attribution import METHODS, PUBLISHED
from xaicmp.core.images.cifar10 import CLASSES
from xaicmp.core.images.tensors import ImageSet
from xaicmp.core.results.comparison import Comparison
from xaicmp.core.results.verdict import Verdict
from xaicmp.core.training.loop import Epoch
from xaicmp.views.document import document
from xaicmp.views.tables.comparison import pairs_table
from xaicmp.views.tables.images import images_table
from xaicmp.views.tables.training import epochs_table
from xaicmp.views.text import decimals, shortened

WIDTHS = [80, 120]


def rendered(table: RenderableType, width: int) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(table)
    return console.export_text()


def brightness(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return images.mean(dim=1)


def with_long_names(sample: ImageSet) -> ImageSet:
    """Four-digit ids, and the longest class name both as label and as prediction."""
    return ImageSet(
        "CIFAR-10",
        "test",
        False,
        sample.tensor.repeat(10, 1, 1, 1),
        torch.full((10_000,), CLASSES.index("automobile")),
        CLASSES,
    )


def always(label: str) -> SmallNet:
    model = SmallNet()
    with torch.no_grad():
        model.fc.bias[CLASSES.index(label)] = 1e3
    return model


def contents(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", WIDTHS)
def test_the_published_table_holds_the_documents_values(width: int, sample: ImageSet) -> None:
    comparison, _ = compared(sample, PUBLISHED, tuple(range(12)))
    text = rendered(pairs_table(comparison), width)
    assert "…" not in text
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    for pair in document(comparison)["pairs"]:
        a, b = (METHODS[pair[side]].title for side in "ab")
        found = re.search(rf"(?m)^{a} vs( {b} .*\n|  .*\n{b} ).*$", text)
        assert found
        shown = " ".join([*found[0].splitlines(), ""])
        for statistic in ("pearson", "iou"):
            entry = pair[statistic]
            assert f" {entry['mean']:.3f} ± {entry['std']:.3f} " in shown
            assert f" {decimals(entry['ci'][0])} to {decimals(entry['ci'][1])} " in shown
            assert f" {decimals(entry['other_image'])}" in shown
            verdict = next(each for each in Verdict if each.long == entry["verdict"])
            assert verdict.short in shown
    caption = contents(text)
    for part in (
        "n = 12 images",
        "small.pt (test accuracy 12.50%)",
        "CIFAR-10 sample in the package",
        "Undefined: Pearson 0, IoU@20% 0; tied: IoU@20% ",
        "IoU@20% 0.111",
    ):
        assert part in caption
    tied = sum(pair["iou"]["tied"] for pair in document(comparison)["pairs"])
    assert f"tied: IoU@20% {tied}." in caption


@pytest.mark.parametrize("predicted", ["automobile", "airplane"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_row_an_image_holds_the_documents_values_and_nothing_is_cut(
    count: int, width: int, predicted: str, sample: ImageSet
) -> None:
    """Two, three and four methods (1, 3 and 6 pairs), with the longest ids and names there are."""
    names = (*PUBLISHED, "brightness")[:count]
    engine = small_engine(always(predicted))
    with registered("brightness", brightness):
        comparison, _ = compared(with_long_names(sample), names, (7, 9_999), engine)
        text = rendered(images_table(comparison), width)
        titles = [METHODS[name].title for name in names]
    assert "…" not in text
    said = contents(text)
    mark = "" if predicted == "automobile" else " ✗"
    for image in document(comparison)["images"]:
        assert f"{image['id']} automobile {predicted}{mark} {image['confidence']:.3f}" in said
        for pair, value in image["pearson"].items():
            both = (decimals(value), decimals(image["iou"][pair]))
            assert "/".join(both) in said or " ".join(both) in said
    for a, b in itertools.combinations(titles, 2):
        assert f"vs {b}" in said
        assert a in said
    assert "checksums not the official ones" in said


def test_wrong_predictions_are_marked_and_right_ones_are_not(sample: ImageSet) -> None:
    comparison, _ = compared(sample, PUBLISHED, tuple(range(40)))
    lines = rendered(images_table(comparison), 80).splitlines()
    chosen = comparison.predictions
    for image, predicted, label in zip(chosen.ids, chosen.predicted, chosen.labels, strict=True):
        row = next(line for line in lines if line.split()[:1] == [str(image)])
        assert ("✗" in row) == (predicted != label)
    wrong = int((chosen.predicted != chosen.labels).sum())
    assert 0 < wrong < 40
    assert f"{wrong} of them classified wrongly" in contents("\n".join(lines))


def zero_cam(sample: ImageSet) -> Comparison:
    model = SmallNet()
    with torch.no_grad():
        model.fc.weight.copy_(-model.fc.weight.abs())
    return compared(sample, PUBLISHED, (0, 1, 2), small_engine(model))[0]


def test_what_is_undefined_is_a_dash(sample: ImageSet) -> None:
    comparison = zero_cam(sample)
    pairs, images = (rendered(each, 80) for each in (pairs_table(comparison), images_table(comparison)))
    assert pairs.count("- ± -") == 4
    assert images.count(" -/-") == 6
    assert "Undefined: Pearson 6, IoU@20% 6; tied: IoU@20% 0" in contents(pairs)
    assert "nan" not in (pairs + images).lower()


def test_a_name_stays_in_its_line() -> None:
    assert shortened("one\ntwo\r\nthree") == "one two three"
    assert shortened("photographs/of\nanimals/cats/tom.png") == "…of animals/cats/tom.png"


def test_rows_of_epochs_printed_one_by_one_line_up() -> None:
    epoch = {"loss": 1.2345, "train_accuracy": 0.5, "test_accuracy": 0.625, "seconds": 61.25}
    epoch |= {"images_per_second": 816.3}
    known = {key: value for key, value in epoch.items() if key in Epoch.__dataclass_fields__}
    first = Epoch(epoch=1, **known)
    text = rendered(epochs_table([first]), 80)
    alone = rendered(epochs_table([first], header=False), 80)
    row = next(line for line in text.splitlines() if "1.2345" in line)
    assert row.split() == ["1", "1.2345", "50.00%", "62.50%", "61.2", "816"]
    assert alone.rstrip().splitlines()[-1].rstrip() == row.rstrip()
