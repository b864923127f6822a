from __future__ import annotations

import itertools
import re
from typing import Any

import captum.attr
import pytest
import torch
from small import SmallNet, quick, registered
from torch import Tensor, nn

from xaicmp.core.attribution import METHODS, PUBLISHED, get_methods
from xaicmp.core.attribution.context import Context
from xaicmp.core.attribution.method import REDUCTIONS
from xaicmp.core.attribution.selection import find_known, groups, split_names
from xaicmp.core.models.architectures import resnet18_cifar
from xaicmp.errors import UsageError, XaicmpError

# The others are in test_attention.
OF_CONVOLUTIONS = [name for name, each in METHODS.items() if each.family != "attention"]


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return resnet18_cifar().eval()


def images_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def explain(name: str, model: nn.Module, images: Tensor, targets: Tensor, **options: Any) -> Tensor:
    context = {key: options.pop(key) for key in ("batch_size", "layer", "ids") if key in options}
    return quick([name], **options)[0].explain(model, images, targets, **context)


def close(maps: Tensor, expected: Tensor) -> None:
    """Equal to float32 rounding, on the maps' own scale."""
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("size", [(32, 32), (40, 48), (33, 47)])
@pytest.mark.parametrize("name", OF_CONVOLUTIONS)
def test_every_method_keeps_the_contract(name: str, size: tuple[int, int]) -> None:
    maps = explain(
        name, SmallNet().eval(), images_of(3, 3, *size), torch.tensor([0, 9, 4]), steps=2, samples=4
    )
    assert maps.shape == (3, *size)
    assert maps.dtype == torch.float32
    assert not maps.requires_grad
    assert maps.grad_fn is None
    assert maps.isfinite().all()
    assert METHODS[name].reduction == "sum" or (maps >= 0).all()
    assert maps.abs().max() > 0


@pytest.mark.parametrize("name", OF_CONVOLUTIONS)
def test_images_in_another_memory_order_or_type_get_the_same_maps(name: str) -> None:
    model, images, targets = SmallNet().eval(), images_of(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    options = {"steps": 4, "samples": 8}
    maps = explain(name, model, images, targets, **options)
    channels_last = images.contiguous(memory_format=torch.channels_last)
    close(explain(name, model, channels_last, targets, **options), maps)
    wide = torch.zeros(4, 3, 32, 64)
    wide[..., ::2] = images
    close(explain(name, model, wide[..., ::2], targets, **options), maps)


@pytest.mark.parametrize("name", OF_CONVOLUTIONS)
def test_an_image_alone_gets_the_map_it_gets_among_many(name: str) -> None:
    """Also where the method draws at random: an image's draws go with its id."""
    model, images, targets = SmallNet().eval(), images_of(9, 3, 32, 32), torch.arange(9)
    options = {"steps": 4, "samples": 8}
    among = explain(name, model, images, targets, ids=range(20, 29), **options)
    for batch_size in (1, 3, 64):
        alone = explain(name, model, images[7:8], targets[7:8], ids=[27], batch_size=batch_size, **options)
        assert alone.shape == (1, 32, 32)
        assert (alone[0] - among[7]).abs().max() <= 1e-5 * among[7].abs().max()


@pytest.mark.parametrize("name", OF_CONVOLUTIONS)
def test_the_map_follows_the_target_unless_the_method_knows_nothing_of_it(name: str) -> None:
    model, images = SmallNet().eval(), images_of(1, 3, 32, 32).expand(2, -1, -1, -1)
    first, second = explain(name, model, images, torch.tensor([3, 5]), ids=[4, 4], steps=2, samples=8)
    if METHODS[name].model_free or name == "eigen-cam":
        assert torch.equal(first, second)
    else:
        assert (first - second).abs().max() > 1e-3 * first.abs().max()


def linear_model(weight: Tensor) -> nn.Module:
    """S_t(x) = <w_t, x> + b_t."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(weight[0].numel(), len(weight)))
    with torch.no_grad():
        model[1].weight.copy_(weight.flatten(1))
    return model


def test_saliency_of_a_linear_model_is_its_largest_weight() -> None:
    weight, targets = images_of(5, 3, 6, 7, seed=1), torch.tensor([4, 0, 0, 2])
    maps = explain("saliency", linear_model(weight), images_of(4, 3, 6, 7), targets)
    close(maps, weight[targets].abs().amax(dim=1))


@pytest.mark.parametrize("steps", [2, 3, 32])
def test_integrated_gradients_of_a_linear_model_is_weight_times_input(steps: int) -> None:
    weight, targets = images_of(5, 3, 6, 7, seed=1), torch.tensor([4, 0, 0, 2])
    images = images_of(4, 3, 6, 7)
    maps = explain("integrated-gradients", linear_model(weight), images, targets, steps=steps)
    close(maps, (weight[targets] * images).sum(dim=1).clamp(min=0))
    assert (maps == 0).any()


class Square(nn.Module):
    """S_t(x) = (t + 1) * sum of x squared."""

    def forward(self, images: Tensor) -> Tensor:
        return images.square().sum(dim=(1, 2, 3))[:, None] * torch.arange(1.0, 4.0)


@pytest.mark.parametrize("steps", [2, 4, 5, 32])
def test_integrated_gradients_is_the_right_riemann_sum(steps: int) -> None:
    """x * 1/m sum_k 2 k/m x = x^2 (m + 1) / m, which a left, middle or trapezoid rule would not give."""
    images = images_of(3, 3, 5, 5)
    maps = explain("integrated-gradients", Square(), images, torch.tensor([0, 1, 2]), steps=steps)
    factors = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    close(maps, factors * images.square().sum(dim=1) * (steps + 1) / steps)


@pytest.mark.parametrize("steps", [1, 0, -3])
def test_integrated_gradients_refuses_too_few_steps(steps: int) -> None:
    with pytest.raises(UsageError, match=rf"integrated-gradients: steps {steps}: needs 2 or more"):
        explain("integrated-gradients", Square(), images_of(2, 3, 4, 4), torch.tensor([0, 1]), steps=steps)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 7, 64])
def test_integrated_gradients_does_not_depend_on_how_its_steps_are_batched(batch_size: int) -> None:
    images, targets = images_of(5, 3, 32, 32), torch.arange(5)
    model = SmallNet().eval()
    close(
        explain("integrated-gradients", model, images, targets, steps=32, batch_size=batch_size),
        explain("integrated-gradients", model, images, targets, steps=32, batch_size=1000),
    )


@pytest.mark.parametrize(("images", "batch_size"), [(3, 64), (7, 7), (40, 16)])
def test_passes_through_the_model_are_bounded(images: int, batch_size: int) -> None:
    model, sizes = SmallNet().eval(), []
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    explain(
        "integrated-gradients",
        model,
        images_of(images, 3, 32, 32),
        torch.zeros(images, dtype=torch.long),
        steps=32,
        batch_size=batch_size,
    )
    assert max(sizes) <= max(images, batch_size)


class CamByHand(nn.Module):
    """Two feature maps as they come in, then the mean of each, then a linear head."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.layer4 = nn.AvgPool2d(8)
        self.fc = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.fc.weight.copy_(weight)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.layer4(images).mean(dim=(2, 3)))


def test_grad_cam_worked_out_on_paper() -> None:
    """With mean pooling and a linear head, a_k = w_tk / pixels; the feature maps are 2x2 blocks."""
    weight = torch.tensor([[1.0, -2.0, 0.5], [-1.0, -1.0, 4.0]])
    blocks = images_of(2, 3, 2, 2, seed=3)
    images = blocks.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    targets = torch.tensor([1, 0])
    small = ((weight[targets] / 4)[:, :, None, None] * blocks).sum(dim=1).clamp(min=0)
    # Bilinear, corners not aligned: output pixel i lies at (i + 1/2) / 8 - 1/2 of the small map.
    at = ((torch.arange(16) + 0.5) / 8 - 0.5).clamp(0, 1)
    along = torch.stack([1 - at, at], dim=1)
    expected = torch.einsum("ya,xb,nab->nyx", along, along, small)
    close(explain("grad-cam", CamByHand(weight), images, targets), expected)


def direct_saliency(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return captum.attr.Saliency(model).attribute(images, target=targets).amax(dim=1)


def direct_integrated_gradients(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    attributions = captum.attr.IntegratedGradients(model).attribute(
        images, torch.zeros_like(images), target=targets, n_steps=6, method="riemann_right"
    )
    return attributions.sum(dim=1).relu()


def direct_grad_cam(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    maps = captum.attr.LayerGradCam(model, model.layer4).attribute(images, target=targets)
    upsample = nn.Upsample(images.shape[2:], mode="bilinear", align_corners=False)
    return upsample(maps.detach().relu())[:, 0]


@pytest.mark.parametrize("size", [(32, 32), (40, 48)])
@pytest.mark.parametrize(
    ("name", "direct"),
    [
        ("grad-cam", direct_grad_cam),
        ("saliency", direct_saliency),
        ("integrated-gradients", direct_integrated_gradients),
    ],
)
def test_as_captum_called_directly(name: str, direct: Any, size: tuple[int, int], resnet: nn.Module) -> None:
    images, targets = images_of(3, 3, *size), torch.tensor([2, 7, 7])
    expected = direct(resnet, images.clone().requires_grad_(), targets)
    close(explain(name, resnet, images, targets, steps=6), expected)


@pytest.mark.parametrize("layer", ["avgpool", "fc", ""])
def test_grad_cam_refuses_a_layer_without_spatial_extent(layer: str, resnet: nn.Module) -> None:
    with pytest.raises(XaicmpError, match="layer"):
        explain("grad-cam", resnet, images_of(2, 3, 32, 32), torch.tensor([0, 1]), layer=layer)


def test_an_imagenet_stem_on_small_images_leaves_grad_cam_an_earlier_layer() -> None:
    from torchvision.models import resnet18

    model, images, targets = resnet18(num_classes=10).eval(), images_of(2, 3, 32, 32), torch.tensor([0, 1])
    with pytest.raises(XaicmpError, match=r"layer layer4 puts out \(2, 512, 1, 1\)"):
        explain("grad-cam", model, images, targets, layer="layer4")
    close(
        explain("grad-cam", model, images, targets),
        explain("grad-cam", model, images, targets, layer="layer3"),
    )


def test_grad_cam_names_a_layer_that_is_not_there(resnet: nn.Module) -> None:
    with pytest.raises(XaicmpError, match="layer5"):
        explain("grad-cam", resnet, images_of(1, 3, 32, 32), torch.tensor([0]), layer="layer5")


def test_grad_cam_is_zero_where_every_feature_speaks_against_the_class() -> None:
    model = SmallNet().eval()
    with torch.no_grad():
        model.fc.weight.copy_(-model.fc.weight.abs())
    maps = explain("grad-cam", model, images_of(4, 3, 32, 32), torch.arange(4))
    assert torch.equal(maps, torch.zeros(4, 32, 32))


def test_grad_cam_in_bfloat16_is_upsampled_in_float32(resnet: nn.Module) -> None:
    images, targets = images_of(2, 3, 32, 32), torch.tensor([0, 1])
    with torch.autocast("cpu", torch.bfloat16):
        maps = explain("grad-cam", resnet, images, targets)
    assert maps.dtype == torch.float32
    distinct = [len(each[each > 0].unique()) / (each > 0).sum() for each in maps]
    assert min(distinct) > 0.5


def test_the_published_methods_come_in_the_published_order() -> None:
    assert PUBLISHED == ("grad-cam", "saliency", "integrated-gradients")
    assert [each.name for each in get_methods(PUBLISHED)] == list(PUBLISHED)
    assert get_methods(["integrated-gradients"])[0].options["steps"] == 32


def test_every_method_says_what_it_is() -> None:
    for name, each in METHODS.items():
        assert each.name == name
        assert all([each.title, each.family, each.cost, each.paper])
        assert each.reduction in REDUCTIONS
        assert each.function.__module__.startswith("xaicmp.core.attribution.")
        assert (each.function.__doc__ or "").strip()
    assert len({each.title for each in METHODS.values()}) == len(METHODS)


def test_settings_reach_the_methods_that_take_them_and_no_other() -> None:
    names = [*PUBLISHED, "smoothgrad-ig", "integrated-gradients:steps=7"]
    chosen = get_methods(names, settings={"integrated-gradients": {"steps": 5, "tolerance": 1}})
    assert [each.options.get("steps") for each in chosen] == [None, None, 5, 32, 7]
    assert [each.options.get("tolerance") for each in chosen] == [None, None, 1.0, None, 1.0]
    assert METHODS["integrated-gradients"].options["steps"] == 32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ig": {"steps": 5}}, "settings for an unknown method 'ig'"),
        ({"saliency": {"steps": 5}}, "saliency: no option 'steps'; it has none"),
        ({"rise": {"step": 5}}, "rise: no option 'step'; it has samples"),
        ({"rise": {"samples": "5"}}, "rise: samples 5: give a whole number"),
        ({"rise": {"samples": 0.5}}, "rise: samples 0.5: give a whole number"),
        (
            {"integrated-gradients": {"rule": "simpson"}},
            "integrated-gradients: rule simpson: choose from right, left",
        ),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        get_methods(["edge"], settings=settings)


@pytest.mark.parametrize(
    ("spec", "name", "title", "options"),
    [
        (
            "integrated-gradients:steps=64,rule=middle",
            None,
            "IG (steps=64, rule=middle)",
            {"steps": 64, "rule": "middle"},
        ),
        (
            "integrated-gradients:rule=left,l2,steps=064",
            "integrated-gradients:l2,steps=64,rule=left",
            "IG (l2, steps=64, rule=left)",
            {"steps": 64, "rule": "left"},
        ),
        (
            "integrated-gradients:tolerance=.1",
            "integrated-gradients:tolerance=0.1",
            "IG (tolerance=0.1)",
            {"tolerance": 0.1},
        ),
        ("lrp:epsilon=1e-9", "lrp:epsilon=1e-09", "LRP (epsilon=1e-09)", {"epsilon": 1e-9}),
        ("deeplift:baseline=blur", None, "DeepLIFT (baseline=blur)", {"baseline": "blur"}),
        ("rise:samples=5", None, "RISE (samples=5)", {"samples": 5}),
    ],
)
def test_a_name_may_carry_options(spec: str, name: str | None, title: str, options: dict[str, Any]) -> None:
    (found,) = get_methods([spec], reduce="sum")
    base = METHODS[spec.partition(":")[0]]
    assert (found.name, found.title) == (name or spec, title)
    assert found.options == base.options | options
    assert found.reduction == ("l2" if "l2" in spec else "sum")
    known = find_known(found.name)
    assert known is not None
    assert (known.name, known.title, known.options) == (found.name, found.title, found.options)


def test_the_same_method_can_be_compared_with_itself() -> None:
    model, images, targets = SmallNet().eval(), images_of(3, 3, 16, 16), torch.arange(3)
    names = [
        "integrated-gradients",
        "integrated-gradients:steps=4",
        "integrated-gradients:steps=4,rule=middle",
    ]
    chosen = get_methods(names)
    assert [each.name for each in chosen] == names
    for each, options in zip(chosen, [{}, {"steps": 4}, {"steps": 4, "rule": "middle"}], strict=True):
        expected = explain("integrated-gradients", model, images, targets, **options)
        close(each.explain(model, images, targets), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("integrated-gradients:steps=many", "integrated-gradients: steps many: give a whole number"),
        ("integrated-gradients:steps=", "integrated-gradients: steps : give a whole number"),
        ("integrated-gradients:steps=2.5", "integrated-gradients: steps 2.5: give a whole number"),
        ("integrated-gradients:tolerance=nan", "integrated-gradients: tolerance nan: give a number"),
        (
            "integrated-gradients:rule=simpson",
            "integrated-gradients: rule simpson: choose from right, left, middle",
        ),
        ("deeplift:baseline=grey", "deeplift: baseline grey: choose from zero, black, blur, random"),
        (
            "integrated-gradients:step=4",
            "integrated-gradients: no option 'step'; it has steps, rule, baseline",
        ),
        ("integrated-gradients:steps=4,steps=5", "integrated-gradients: steps is set twice"),
        ("saliency:sum,l2", "saliency: two reductions, sum and l2; name one"),
        ("saliency:", "saliency: unknown reduction ''; choose from max-abs"),
        ("saliency:steps=4", "saliency: no option 'steps'"),
        ("nothing:steps=4", "unknown method 'nothing:steps=4'"),
    ],
)
def test_wrong_options_in_a_name_are_refused_at_once(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        get_methods([name])
    assert find_known(name) is None


def test_the_same_options_in_another_order_are_the_same_method() -> None:
    names = ["integrated-gradients:steps=4,rule=left", "integrated-gradients:rule=left,steps=4"]
    with pytest.raises(UsageError, match="'integrated-gradients:steps=4,rule=left' is named twice"):
        get_methods(names)


def test_a_saved_name_imports_nothing() -> None:
    assert find_known("package.module:function") is None
    assert find_known("saliency") == METHODS["saliency"]


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("ig:steps=64,rule=middle", ["ig:steps=64,rule=middle"]),
        ("ig:steps=64,rule=middle,saliency", ["ig:steps=64,rule=middle", "saliency"]),
        ("saliency:sum,steps=4,edge", ["saliency:sum,steps=4", "edge"]),
        ("ig:steps=4,l2,ig:steps=8,l2", ["ig:steps=4,l2", "ig:steps=8,l2"]),
        ("saliency,steps=4", ["saliency", "steps=4"]),
        ("saliency,sum", ["saliency", "sum"]),
        ("my.module:function,edge", ["my.module:function", "edge"]),
        ("", [""]),
        ("a,,b", ["a", "", "b"]),
    ],
)
def test_a_comma_belongs_to_the_options_before_it(word: str, names: list[str]) -> None:
    assert split_names(word) == names


def test_no_method_or_group_is_called_like_a_reduction() -> None:
    assert not set(REDUCTIONS) & {*METHODS, *groups()}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no method is named; `xaicmp explain list_methods`"),
        (["grad-cam", "gradcam"], "unknown method 'gradcam'; did you mean grad-cam"),
        (["saliency", "saliency"], "'saliency' is named twice"),
        ([""], "unknown method ''; `xaicmp explain list_methods`"),
        (["Grad-CAMM"], "unknown method 'Grad-CAMM'; did you mean grad-cam"),
        (["saliency:mean"], "saliency: unknown reduction 'mean'; choose from max-abs, sum, sum-abs"),
        (["saliency:sum", "saliency:sum"], "'saliency:sum' is named twice"),
    ],
)
def test_wrong_names_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        get_methods(names)


def test_a_title_is_a_name_too() -> None:
    assert [each.name for each in get_methods(["Grad-CAM", "ig", "LRP"])] == [
        "grad-cam",
        "integrated-gradients",
        "lrp",
    ]


def test_a_method_that_returns_another_shape_is_refused() -> None:
    def whole(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return images[:1]

    with (
        registered("whole", whole),
        pytest.raises(XaicmpError, match=r"whole returned maps of shape \(1, 3,"),
    ):
        METHODS["whole"].explain(SmallNet(), images_of(2, 3, 8, 8), torch.tensor([0, 1]))


def test_a_new_method_needs_one_function() -> None:
    def brightness(model: nn.Module, images: Tensor, targets: Tensor, *, power: float = 1) -> Tensor:
        return images.mean(dim=1) ** power

    images = images_of(2, 3, 8, 8)
    with registered("brightness", brightness):
        maps = explain("brightness", SmallNet(), images, torch.tensor([0, 1]), power=2)
    torch.testing.assert_close(maps, images.mean(dim=1) ** 2)
    assert "brightness" not in METHODS


def test_groups_stand_for_their_members() -> None:
    assert groups()["published"] == PUBLISHED
    assert [each.name for each in get_methods(["all"])] == list(METHODS)
    assert {each.family for each in get_methods(["cam", "model-free"])} == {"cam", "model-free"}
    assert [each.name for each in get_methods(["grad-cam", "published"])] == list(PUBLISHED)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_reduction_can_be_named_for_one_method_or_for_all(reduction: str) -> None:
    model, images, targets = SmallNet().eval(), images_of(3, 3, 16, 16), torch.arange(3)
    inputs = images.clone().requires_grad_()
    model(inputs).gather(1, targets[:, None]).sum().backward()
    by_hand = {
        "max-abs": inputs.grad.abs().amax(1),
        "sum": inputs.grad.sum(1),
        "sum-abs": inputs.grad.abs().sum(1),
        "l2": inputs.grad.square().sum(1).sqrt(),
        "positive": inputs.grad.sum(1).relu(),
    }[reduction]
    (named,) = get_methods([f"saliency:{reduction}"])
    assert (named.name, named.title) == (f"saliency:{reduction}", f"Saliency ({reduction})")
    close(named.explain(model, images, targets), by_hand)
    (every,) = get_methods(["saliency"], reduce=reduction)
    close(every.explain(model, images, targets), by_hand)


def test_methods_on_one_batch_share_one_pass() -> None:
    model, passes = SmallNet().eval(), []
    model.register_forward_hook(lambda *_: passes.append(1))
    context = Context(model, images_of(3, 3, 32, 32), torch.arange(3), layer="layer4")
    shared = ["saliency", "input-x-gradient", "grad-cam", "grad-cam++", "hirescam", "layercam", "xgrad-cam"]
    for each in get_methods(shared):
        each.explain_in(context)
    assert len(passes) == 1


def test_the_order_of_groups_and_names_does_not_decide() -> None:
    once = [each.name for each in get_methods(["published", "saliency"])]
    assert once == [each.name for each in get_methods(["published"])]
    assert sorted(each.name for each in get_methods(["saliency", "published"])) == sorted(once)
    assert get_methods(["saliency", "published"])[0].name == "saliency"
    for names in itertools.permutations(["saliency", "gradient", "published", "edge"]):
        assert {each.name for each in get_methods(names)} == {
            each.name for each in get_methods(sorted(names))
        }
    for names in itertools.permutations(["saliency", "published", "saliency"]):
        with pytest.raises(UsageError, match="named twice"):
            get_methods(names)
