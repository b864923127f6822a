"""What a command does not do before it starts to work: import what it does not use, share what it reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from architectures import slim_cifar

from xaicmp.core.models.architectures import ARCHITECTURES, resnet18_cifar
from xaicmp.core.models.checkpoint import load_checkpoint
from xaicmp.errors import XaicmpError

# Each takes from a tenth of a second to one and a half.
HEAVY = (
    "torch",
    "numpy",
    "scipy",
    "matplotlib",
    "torchvision",
    "captum",
    "torch._dynamo",
    "sympy",
    "sklearn",
)
SPARED_BY_METRICS = (
    "pooch",
    "requests",
    "scipy.sparse.linalg",
    "scipy.stats",
    "sklearn",
    "xaicmp.views.figures.registry",
)

RUN = """
import sys
from xaicmp.cli import run
status = run(sys.argv[1:])
assert status == 0, status
print(*sys.modules, file=sys.stderr)
"""


def imported_by(folder: Path, *words: str) -> set[str]:
    """The modules that are loaded once the command has run, which are all that it writes to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stderr.count("\n") == 1
    return set(done.stderr.split())


def test_help_answers_at_once_and_imports_nothing_heavy(tmp_path: Path) -> None:
    spent = []
    for words in (["--help"], ["metrics", "--help"], ["train", "--help"], ["--version"]):
        before = os.times()
        loaded = imported_by(tmp_path, *words)
        after = os.times()
        assert "typer" in loaded  # the list is there
        assert loaded.isdisjoint(HEAVY), sorted(loaded & set(HEAVY))
        spent.append(sum(after[2:4]) - sum(before[2:4]))
    assert min(spent) < 0.5  # of the processor, so that a busy machine does not count


def test_the_published_methods_do_without_what_other_methods_need(tmp_path: Path) -> None:
    loaded = imported_by(tmp_path, "metrics", "--n", "1", "--quiet")
    assert "torch" in loaded
    assert loaded.isdisjoint(SPARED_BY_METRICS), sorted(loaded & set(SPARED_BY_METRICS))


def test_reading_a_checkpoint_leaves_the_generator_alone_and_shares_nothing(tmp_path: Path) -> None:
    made = resnet18_cifar()
    weights = {name: value.clone() for name, value in made.state_dict().items()}
    weights["bn1.weight"] = torch.ones(1).expand(64)  # 64 values in one place
    weights["bn1.bias"] = weights["layer1.0.bn1.bias"]  # two in one
    weights["fc.weight"] = weights["fc.weight"].double()
    torch.save(weights, tmp_path / "a.pth")
    before = torch.get_rng_state()
    model = load_checkpoint(tmp_path / "a.pth").classifier.module
    assert torch.equal(torch.get_rng_state(), before)
    places = [value.data_ptr() for value in model.state_dict().values()]
    assert len(set(places)) == len(places)
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name].to(value.dtype)), name
        assert value.dtype == made.state_dict()[name].dtype
        assert value.device.type == "cpu"
        layout = torch.channels_last if value.ndim == 4 else torch.contiguous_format
        assert value.is_contiguous(memory_format=layout)
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())
    with torch.no_grad():
        model.bn1.weight[0] = 7  # would be in all 64 places
    assert model.bn1.weight.sum() == 70


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e39])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_one_value_that_is_not_finite_is_found_wherever_it_is(
    tmp_path: Path, value: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ARCHITECTURES, "resnet18-cifar", slim_cifar)
    weights = dict(slim_cifar().state_dict())
    weights["fc.weight"] = weights["fc.weight"].to(dtype)
    for place in ((0, 0), (9, 63), (4, 17)):
        spoilt = weights["fc.weight"].clone()
        spoilt[place] = torch.tensor(value, dtype=torch.float64).to(dtype)
        torch.save(weights | {"fc.weight": spoilt}, tmp_path / "a.pth")
        with pytest.raises(XaicmpError, match=r"values in fc.weight that are not finite"):
            load_checkpoint(tmp_path / "a.pth")
