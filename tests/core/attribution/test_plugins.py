from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
import torch
from small import SmallNet, state
from torch import Tensor, nn

from xaicmp.core.attribution.plugins import entry_points, find_plugin
from xaicmp.errors import UsageError, XaicmpError

GOOD = '''
import torch

def input_norm(model, images, targets):
    """|x|_2, after Nobody, 1900.

    More of it.
    """
    return images.norm(dim=1)

def my_gradient(model, images, targets):
    score = model(images).gather(1, targets[:, None]).sum()
    return torch.autograd.grad(score, images)[0]

my_gradient.reduction = "l2"

class Nested:
    @staticmethod
    def inside(model, images, targets):
        return images

class Callable:
    def __call__(self, model, images, targets):
        return images[:, 0] * 2

an_object = Callable()
a_value = 3

def other_reduction(model, images, targets):
    return images

other_reduction.reduction = ["sum"]

def coarse(model, images, targets):
    return images

coarse.needs_layer = True
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with plug-ins in it, of which nothing remains."""
    (tmp_path / "good_plugin.py").write_text(GOOD)
    (tmp_path / "broken_plugin.py").write_text("import torch\n1 / 0\n")
    (tmp_path / "needy_plugin.py").write_text("import there_is_no_such_module\n")
    (tmp_path / "syntax_plugin.py").write_text("def f(:\n")
    (tmp_path / "leaving_plugin.py").write_text("raise SystemExit('bye')\n")
    (tmp_path / "erring_plugin.py").write_text("import torch\ntorch.no_such_thing\n")
    (tmp_path / "folder_plugin").mkdir()
    (tmp_path / "folder_plugin" / "inner.py").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", str(Path.cwd()))])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if "_plugin" in name:
            del sys.modules[name]


def images_of(count: int) -> Tensor:
    return torch.randn(count, 3, 12, 8, generator=torch.Generator().manual_seed(0))


def targets_of(count: int) -> Tensor:
    return torch.arange(count) % 10


def test_a_function_in_the_working_directory_is_a_method(here: Path) -> None:
    found = find_plugin("good_plugin:input_norm")
    assert (found.name, found.title, found.family) == ("good_plugin:input_norm", "input norm", "plug-in")
    assert (found.reduction, found.needs, found.cost, found.options) == ("sum", "", "?", {})
    assert found.paper == "|x|_2, after Nobody, 1900."
    maps = found.explain(SmallNet(), images_of(3), targets_of(3))
    torch.testing.assert_close(maps, images_of(3).norm(dim=1))


def test_a_function_may_declare_its_reduction(here: Path) -> None:
    found = find_plugin("good_plugin:my_gradient")
    assert (found.reduction, found.paper, found.title) == ("l2", "", "my gradient")
    model, images = SmallNet().eval(), images_of(3).requires_grad_()
    score = model(images).gather(1, targets_of(3)[:, None]).sum()
    expected = torch.autograd.grad(score, images)[0].norm(dim=1)
    maps = found.explain(model, images, targets_of(3))
    torch.testing.assert_close(maps, expected)
    assert not maps.requires_grad


def test_a_function_may_declare_what_it_needs_and_knows(here: Path) -> None:
    plain, coarse = (find_plugin(f"good_plugin:{name}") for name in ("input_norm", "coarse"))
    assert (plain.needs_layer, plain.model_free, plain.sees_modules) == (False, False, True)
    assert (coarse.needs_layer, coarse.model_free, coarse.sees_modules) == (True, False, True)


@pytest.mark.parametrize(
    "spec", ["folder_plugin.inner:input_norm", "good_plugin:Nested.inside", "good_plugin:an_object"]
)
def test_what_else_can_be_named(here: Path, spec: str) -> None:
    assert find_plugin(spec).explain(SmallNet(), images_of(1), targets_of(1)).shape == (1, 12, 8)


def test_a_file_in_the_working_directory_hides_nothing_installed(here: Path) -> None:
    (here / "captum.py").write_text("raise RuntimeError")
    (here / "colorsys.py").write_text("raise RuntimeError")
    sys.modules.pop("colorsys", None)
    find_plugin("good_plugin:input_norm")
    assert sys.path[-1] == str(Path.cwd())
    find_plugin("good_plugin:my_gradient")
    assert sys.path.count(str(Path.cwd())) == 1
    import colorsys

    assert "hls_to_rgb" in vars(colorsys)


@pytest.mark.slow
def test_the_working_directory_is_searched_in_a_process_of_its_own(here: Path) -> None:
    code = "from xaicmp.core.attribution.plugins import find_plugin; print(find_plugin('good_plugin:my_gradient').title)"
    # As for an installed script, -I leaves the working directory out.
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=here)
    assert done.stdout == "my gradient\n", done.stderr


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("good_plugin", "plug-in 'good_plugin' has another form; write package.module:function"),
        ("good_plugin:", "has another form"),
        (":input_norm", "has another form"),
        ("good plugin:f", "has another form"),
        ("good_plugin:a:b", "has another form"),
        (".good_plugin:f", "has another form"),
        (
            "no_such_plugin:f",
            "plug-in no_such_plugin:f: No module named 'no_such_plugin'; check the spelling",
        ),
        ("folder_plugin.none:f", "No module named 'folder_plugin.none'; check"),
        ("none_plugin.inner:f", "No module named 'none_plugin'; check"),
        ("good_plugin.inner:f", "No module named 'good_plugin.inner'"),
        ("good_plugin:gone", "plug-in good_plugin:gone: module 'good_plugin' has no attribute 'gone'; check"),
        ("good_plugin:Nested.gone", "'Nested' has no attribute 'gone'"),
        ("good_plugin:a_value", "plug-in good_plugin:a_value is not a function but int"),
    ],
)
def test_a_wrong_name_is_refused(here: Path, spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_plugin(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "broken_plugin:f",
            "plug-in broken_plugin:f cannot be imported: ZeroDivisionError: division by zero; ",
        ),
        (
            "needy_plugin:f",
            "cannot be imported: ModuleNotFoundError: No module named 'there_is_no_such_module'",
        ),
        ("syntax_plugin:f", "cannot be imported: SyntaxError: invalid syntax"),
        ("leaving_plugin:f", "cannot be imported: SystemExit: bye"),
        (
            "erring_plugin:f",
            "cannot be imported: AttributeError: module 'torch' has no attribute 'no_such_thing'",
        ),
        ("good_plugin:other_reduction", r"no reduction \['sum'\]; choose from max-abs, sum,"),
    ],
)
def test_a_plugin_that_cannot_be_had_is_named(here: Path, spec: str, message: str) -> None:
    with pytest.raises(XaicmpError, match=message) as caught:
        find_plugin(spec)
    assert type(caught.value) is XaicmpError
    assert "\n" not in str(caught.value)


def returning(value: Callable[[Tensor], object]) -> Callable[..., object]:
    return lambda model, images, targets: value(images)


def raising(error: BaseException) -> Callable[..., object]:
    def function(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        raise error

    return function


def nan_at_one(images: Tensor) -> Tensor:
    maps = images.detach()[:, 0].clone()
    maps[-1, 2, 3] = torch.nan
    return maps


class Odd(Exception):
    def __str__(self) -> str:
        raise ValueError


class Failing(Tensor):
    @classmethod
    def __torch_function__(cls, *args: object, **kwargs: object) -> object:
        raise RuntimeError("no")


WRONG: dict[str, tuple[Callable[..., object], str]] = {
    "nothing": (returning(lambda images: None), "returned NoneType, not a torch tensor"),
    "an array": (returning(lambda images: images.detach().numpy()), "returned ndarray, not a torch tensor"),
    "a list": (returning(list), "returned list, not"),
    "one number": (returning(torch.sum), r"returned maps of shape \(\), expected \(3, 12, 8\)"),
    "a number an image": (returning(lambda images: images.sum(dim=(1, 2, 3))), r"of shape \(3,\)"),
    "too few": (returning(lambda images: images[1:]), r"of shape \(2, 3, 12, 8\), expected \(3, 12, 8\)"),
    "another size": (returning(lambda images: images[..., :-1]), r"of shape \(3, 3, 12, 7\)"),
    "sides changed over": (returning(lambda images: images[:, 0].mT), r"of shape \(3, 8, 12\)"),
    "no channel": (returning(lambda images: images[:, :0]), r"of shape \(3, 0, 12, 8\)"),
    "five dimensions": (returning(lambda images: images[:, None]), r"of shape \(3, 1, 3, 12, 8\)"),
    "a NaN": (returning(nan_at_one), "returned maps with NaN or infinity"),
    "infinity": (returning(lambda images: images / 0), "returned maps with NaN or infinity"),
    "more than float32": (returning(lambda images: images.double() * 1e300), "with NaN or infinity"),
    "an error": (
        raising(ValueError("no\n good")),
        "failed: ValueError: no good; correct it, or leave the method out$",
    ),
    "an error without words": (raising(KeyError()), "failed: KeyError; correct it, or leave the method out$"),
    "an exit": (raising(SystemExit(3)), "failed: SystemExit: 3; correct it, or leave the method out$"),
    "an exit of the process": (
        lambda model, images, targets: os._exit(0),
        "failed: SystemExit: 0; correct it, or leave the method out$",
    ),
    "an error of its own kind": (
        raising(Odd()),
        "failed: Odd: an error that cannot be printed; correct it, or leave the method out$",
    ),
    "a base error": (
        raising(asyncio.CancelledError()),
        "failed: CancelledError; correct it, or leave the method out$",
    ),
    "complex": (returning(lambda images: images * 1j), "returned a complex tensor; return plain numbers"),
    "sparse": (returning(lambda images: images.detach()[:, 0].to_sparse()), "returned a sparse tensor"),
    "compressed": (returning(lambda images: images.detach()[:, 0].to_sparse_csr()), "a sparse tensor"),
    "nested": (
        returning(lambda images: torch.nested.nested_tensor(list(images))),
        "returned a nested tensor",
    ),
    "meta": (returning(lambda images: images.to("meta")), "returned a meta tensor"),
    "quantised": (
        returning(lambda images: torch.quantize_per_tensor(images.detach(), 0.1, 0, torch.qint8)),
        "returned a quantised tensor",
    ),
    "a tensor that fails": (
        returning(lambda images: images.as_subclass(Failing)),
        "failed: RuntimeError: no",
    ),
    "other parameters": (lambda model: None, "failed: TypeError: .*positional argument"),
}


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[..., Tensor]]:
    """Makes a plug-in of a function and explains three images with it."""

    def use(function: Callable[..., object], model: nn.Module) -> Tensor:
        module = type(sys)("passing_plugin")
        module.method = function
        monkeypatch.setitem(sys.modules, "passing_plugin", module)
        return find_plugin("passing_plugin:method").explain(model, images_of(3), targets_of(3))

    return use


@pytest.mark.parametrize("case", WRONG)
def test_what_a_plugin_returns_is_checked(case: str, here: Path, plugged: Callable[..., Tensor]) -> None:
    function, message = WRONG[case]
    model = SmallNet()
    before = state(model)
    with pytest.raises(XaicmpError, match=f"plug-in passing_plugin:method .*{message}"):
        plugged(function, model)
    assert state(model) == before


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), torch.OutOfMemoryError("out of memory"), MemoryError()]
)
def test_what_is_no_fault_of_the_plugin_passes(
    error: BaseException, here: Path, plugged: Callable[..., Tensor]
) -> None:
    with pytest.raises(type(error)):
        plugged(raising(error), SmallNet())


def test_what_a_plugin_prints_goes_to_stderr_and_the_way_out_is_put_back(
    here: Path, plugged: Callable[..., Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    leave = os._exit
    plugged(lambda model, images, targets: (sys.stdout.write("hi\n"), images)[1], SmallNet())
    assert capsys.readouterr() == ("", "hi\n")
    with pytest.raises(XaicmpError):
        plugged(raising(ValueError()), SmallNet())
    assert os._exit is leave


@pytest.mark.parametrize("kind", [torch.float16, torch.float64, torch.int64, torch.bool])
def test_maps_of_any_type_are_taken(kind: torch.dtype, here: Path, plugged: Callable[..., Tensor]) -> None:
    maps = plugged(returning(lambda images: (images > 0).to(kind)), SmallNet())
    torch.testing.assert_close(maps, (images_of(3) > 0).float().sum(dim=1))


def left_gradients(model: nn.Module, images: Tensor) -> None:
    model.requires_grad_(True)
    model(images).sum().backward()
    model.requires_grad_(False)


def scaled_data(model: nn.Module, images: Tensor) -> None:
    model.fc.weight.data *= 1.5


def in_place(model: nn.Module, images: Tensor) -> None:
    model.layer1[1].running_mean.add_(1)


def other_storage(model: nn.Module, images: Tensor) -> None:
    model.fc.weight.data = torch.zeros_like(model.fc.weight)


def half(model: nn.Module, images: Tensor) -> None:
    model.fc.half()


def transposed(model: nn.Module, images: Tensor) -> None:
    model.layer4[0].weight.data = model.layer4[0].weight.data.mT


def replaced(model: nn.Module, images: Tensor) -> None:
    model.layer4[1] = nn.Tanh()


def parameter_replaced(model: nn.Module, images: Tensor) -> None:
    model.fc.weight = nn.Parameter(model.fc.weight.clone(), requires_grad=False)


def trained(model: nn.Module, images: Tensor) -> None:
    model.train()
    model(images)


def nan_written(model: nn.Module, images: Tensor) -> None:
    model.fc.bias.data[0] = torch.nan


VALUES = "the values of its parameters or buffers"
CHANGES: dict[str, tuple[Callable[[nn.Module, Tensor], object], str]] = {
    "train mode": (lambda model, images: model.train(), "its mode;"),
    "train mode in a part": (lambda model, images: model.layer1[1].train(), "its mode;"),
    "train mode and a pass": (trained, f"its mode, {VALUES};"),
    "a forward hook": (lambda model, images: model.layer4.register_forward_hook(print), "its hooks;"),
    "a backward hook": (lambda model, images: model.fc.register_full_backward_hook(print), "its hooks;"),
    "a pre-hook": (lambda model, images: model.register_forward_pre_hook(print), "its hooks;"),
    "thawed": (lambda model, images: model.requires_grad_(True), "its parameters' requires_grad;"),
    "a submodule in place of another": (replaced, "its submodules;"),
    "a submodule more": (lambda model, images: model.add_module("new", nn.ReLU()), "its submodules;"),
    "a submodule gone": (lambda model, images: delattr(model, "dropout"), "its submodules;"),
    "a parameter in place of another": (parameter_replaced, "its parameters or buffers;"),
    "gradients": (left_gradients, "its gradients;"),
    "values in place": (in_place, f"{VALUES};"),
    "values through data": (scaled_data, f"{VALUES};"),
    "another storage": (other_storage, f"{VALUES};"),
    "another type": (half, f"{VALUES};"),
    "another layout": (transposed, f"{VALUES};"),
    "a NaN": (nan_written, f"{VALUES};"),
}


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("case", CHANGES)
def test_a_plugin_that_changes_the_model_is_caught_and_the_model_put_back(
    case: str, fails: bool, here: Path, plugged: Callable[..., Tensor]
) -> None:
    change, message = CHANGES[case]

    def function(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        change(model, images)
        if fails:
            raise RuntimeError("in the middle")
        return images

    model = SmallNet().train()
    next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    before, were = (
        values(model),
        {key: each for key, each in state(model).items() if not key.endswith(" value")},
    )
    pointers = [each.data_ptr() for each in [*model.parameters(), *model.buffers()]]
    expected = "failed: RuntimeError: in the middle" if fails else f"changed the model: {message}"
    with pytest.raises(XaicmpError, match=f"plug-in passing_plugin:method {expected}"):
        plugged(function, model)
    after = values(model)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert {key: each for key, each in state(model).items() if not key.endswith(" value")} == were
    assert [each.data_ptr() for each in [*model.parameters(), *model.buffers()]] == pointers


def tidy(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Touches everything and puts it back."""
    handle = model.layer4.register_forward_hook(lambda *_: None)
    weight = model.fc.weight.clone()
    model.train().eval()
    model.requires_grad_(True)
    model.fc.weight.data.zero_()
    model(images).sum().backward()
    model.requires_grad_(False)
    model.zero_grad(set_to_none=True)
    model.fc.weight.data.copy_(weight)
    handle.remove()
    return images


def test_a_plugin_that_puts_back_what_it_touches_is_welcome(
    here: Path, plugged: Callable[..., Tensor]
) -> None:
    model = SmallNet().train()
    before = values(model)
    plugged(tidy, model)
    assert all(torch.equal(values(model)[name], value) for name, value in before.items())


def test_a_model_with_nan_or_flags_in_its_buffers_is_not_called_changed(
    here: Path, plugged: Callable[..., Tensor]
) -> None:
    model = SmallNet()
    model.register_buffer("unknown", torch.tensor([torch.nan, torch.inf]))
    model.register_buffer("flags", torch.tensor([True, False]))
    before = {key: each for key, each in state(model).items() if not key.startswith("unknown")}
    plugged(returning(lambda images: images), model)
    assert {key: each for key, each in state(model).items() if not key.startswith("unknown")} == before


def test_a_model_that_notes_something_in_each_pass_is_not_called_changed(
    here: Path, plugged: Callable[..., Tensor]
) -> None:
    class Noting(SmallNet):
        def forward(self, images: Tensor) -> Tensor:
            self.last = images
            return super().forward(images)

    plugged(lambda model, images, targets: model(images)[:, :1, None, None] * images, Noting())


@pytest.fixture
def installed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that names methods, as pip would leave it."""
    info = here / "site" / "some_package-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[xaicmp.methods]\ninput-norm = good_plugin:input_norm\nbroken = broken_plugin:f\ngone = good_plugin:gone\n"
        "value = good_plugin:a_value\nno-module = no_such_plugin:f\nbare = good_plugin\n"
        "[console_scripts]\nother = good_plugin:my_gradient\n"
    )
    monkeypatch.syspath_prepend(str(here / "site"))
    monkeypatch.syspath_prepend(str(here))


def test_installed_packages_name_methods(installed: None) -> None:
    found = entry_points()
    assert {"input-norm", "broken", "gone", "value", "no-module", "bare"} == set(found)
    norm = found["input-norm"]
    assert (norm.name, norm.title, norm.family) == ("input-norm", "input norm", "plug-in")
    torch.testing.assert_close(
        norm.explain(SmallNet(), images_of(2), targets_of(2)), images_of(2).norm(dim=1)
    )


def test_only_what_is_asked_for_by_name_is_loaded(installed: None) -> None:
    assert list(entry_points("input-norm")) == ["input-norm"]
    assert "broken_plugin" not in sys.modules
    assert entry_points("other") == entry_points("unheard-of") == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"plug-in broken \(broken_plugin:f\) cannot be imported: ZeroDivisionError"),
        ("gone", r"plug-in gone \(good_plugin:gone\): module 'good_plugin' has no attribute 'gone'"),
        ("value", r"plug-in value \(good_plugin:a_value\) is not a function but int"),
        ("no-module", r"plug-in no-module \(no_such_plugin:f\): No module named 'no_such_plugin'"),
        ("bare", r"plug-in bare \(good_plugin\): module 'good_plugin' has no attribute ''"),
    ],
)
def test_a_broken_entry_point_says_so_when_it_is_used(installed: None, name: str, message: str) -> None:
    broken = entry_points(name)[name]
    assert (broken.name, broken.title, broken.family) == (name, name, "plug-in")
    with pytest.raises(XaicmpError, match=message) as caught:
        broken.explain(SmallNet(), images_of(2), targets_of(2))
    assert type(caught.value) is XaicmpError  # the command line was right


def test_a_plugin_that_fails_is_named_by_its_entry_point(installed: None, here: Path) -> None:
    (here / "failing_plugin.py").write_text("def f(model, images, targets):\n    return targets\n")
    entry = metadata.EntryPoint("failing", "failing_plugin:f", "xaicmp.methods")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metadata, "entry_points", lambda **_: metadata.EntryPoints([entry]))
        with pytest.raises(XaicmpError, match=r"plug-in failing \(failing_plugin:f\) returned maps of shape"):
            entry_points("failing")["failing"].explain(SmallNet(), images_of(2), targets_of(2))
