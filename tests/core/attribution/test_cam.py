"""The CAMs against pytorch-grad-cam, Captum and paper."""

from __future__ import annotations

import math
from typing import Any

import captum.attr
import numpy as np
import pytest
import pytorch_grad_cam as reference
import torch
import torchvision
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from small import SmallNet, state
from torch import Tensor, nn
from torch.nn.functional import interpolate

from xaicmp.core.agreement.registry import pearson
from xaicmp.core.attribution import METHODS
from xaicmp.core.attribution.context import Context
from xaicmp.core.models.architectures import resnet18_cifar
from xaicmp.core.models.layers import substitute
from xaicmp.errors import XaicmpError

CAMS = [name for name, each in METHODS.items() if each.family == "cam"]
OF_ONE_PASS = ["grad-cam", "grad-cam++", "hirescam", "layercam", "xgrad-cam", "eigen-cam"]
TARGETS = torch.tensor([1, 0, 4])


def images_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def explain(name: str, model: nn.Module, images: Tensor, targets: Tensor, **context: Any) -> Tensor:
    return METHODS[name].explain(model, images, targets, **context)


def close(maps: Tensor, expected: Tensor, rtol: float = 1e-4) -> None:
    assert expected.abs().max() > 0
    torch.testing.assert_close(maps, expected, rtol=rtol, atol=rtol / 10 * expected.abs().max().item())


def network(scale: float = 1) -> nn.Module:
    """SmallNet, its logits times ``scale``."""
    model = SmallNet().eval()
    with torch.no_grad():
        model.fc.weight.mul_(scale)
    return model


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytorch-grad-cam without its min-max scaling of each map, and with corners that are not aligned."""

    def only_resize(maps: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        return maps if size is None else upsample(torch.from_numpy(maps), size[::-1]).numpy()

    monkeypatch.setattr("pytorch_grad_cam.base_cam.scale_cam_image", only_resize)
    monkeypatch.setattr(
        torch.nn, "UpsamplingBilinear2d", lambda size: nn.Upsample(size, mode="bilinear", align_corners=False)
    )


def by_reference(kind: Any, model: nn.Module, layer: str, images: Tensor, targets: Tensor) -> Tensor:
    with kind(model=model, target_layers=[model.get_submodule(layer)]) as cam:
        return torch.from_numpy(cam(images, [ClassifierOutputTarget(int(target)) for target in targets]))


@pytest.mark.parametrize("size", [(32, 32), (40, 48)])
@pytest.mark.parametrize("layer", ["layer1", "layer4"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("grad-cam", reference.GradCAM),
        # It adds 1e-6 to g^2 (2 + g sum A), which only shows where gradients are small.
        ("grad-cam++", reference.GradCAMPlusPlus),
        ("hirescam", reference.HiResCAM),
        ("layercam", reference.LayerCAM),
        ("xgrad-cam", reference.XGradCAM),
    ],
)
def test_gradient_cams_as_pytorch_grad_cam(
    name: str, kind: Any, layer: str, size: tuple[int, int], raw: None
) -> None:
    model, images = network(scale=1000), images_of(3, 3, *size)
    expected = by_reference(kind, model, layer, images, TARGETS)
    close(explain(name, model, images, TARGETS, layer=layer), expected)


@pytest.mark.parametrize("layer", ["layer1", "layer4"])
def test_score_cam_as_pytorch_grad_cam(layer: str, raw: None) -> None:
    """Up to the share of the softmax that goes to constant maps, one factor an image."""
    model, images = network(), images_of(3, 3, 24, 32)
    maps = explain("score-cam", model, images, TARGETS, layer=layer)
    expected = by_reference(reference.ScoreCAM, model, layer, images, TARGETS)
    close(maps / maps.amax(dim=(1, 2), keepdim=True), expected / expected.amax(dim=(1, 2), keepdim=True))


@pytest.mark.parametrize("layer", ["layer1", "layer4"])
def test_ablation_cam_as_pytorch_grad_cam(layer: str, raw: None) -> None:
    """Which divides by the score, and so agrees where that is positive."""
    model, images = network(), images_of(3, 3, 24, 32)
    score, targets = model(images).detach().max(dim=1)
    assert (score > 0).all()
    expected = by_reference(reference.AblationCAM, model, layer, images, targets) * score[:, None, None]
    close(explain("ablation-cam", model, images, targets, layer=layer), expected)


class Joined(nn.Module):
    """A layer that is not all that the score hangs on, or whose followers count the images."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.stem = nn.Conv2d(3, 6, 3, stride=2)
        self.layer = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())
        self.mix = nn.Conv2d(12 if how == "beside" else 6, 8, 3)
        self.fc = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        below = self.stem(images)
        maps = self.layer(below)
        if self.how == "added":
            maps = maps + below
        if self.how == "beside":
            maps = torch.cat([maps, below], dim=1)
        maps = self.mix(maps).relu()
        return self.fc(
            maps.view(len(images), 8, -1).mean(dim=2) if self.how == "counted" else maps.mean(dim=(2, 3))
        )


@pytest.mark.parametrize("how", ["alone", "added", "beside", "counted"])
def test_ablation_cam_as_captum_whatever_joins_the_layer(how: str) -> None:
    torch.manual_seed(1)
    model, images = Joined(how), images_of(3, 3, 12, 16)
    channels = torch.arange(6)[None, :, None, None]
    drops = captum.attr.LayerFeatureAblation(model, model.layer).attribute(
        images, target=TARGETS, layer_mask=channels
    )
    expected = (drops[:, :, :1, :1] * model.layer(model.stem(images))).sum(dim=1).relu().detach()
    maps = explain("ablation-cam", model, images, TARGETS, layer="layer", batch_size=4)
    close(maps, upsample(expected, (12, 16)))


def test_ablation_cam_runs_only_what_follows_the_layer_where_that_suffices() -> None:
    for how, rows in {"alone": {1}, "added": {3, 4, 2}}.items():
        model, sizes = Joined(how), set()
        context = Context(model, images_of(3, 3, 12, 16), TARGETS, layer="layer", batch_size=4)
        assert context.at_layer.activations is not None
        model.register_forward_pre_hook(lambda module, inputs, sizes=sizes: sizes.add(len(inputs[0])))
        METHODS["ablation-cam"].explain_in(context)
        assert sizes <= rows | {1}
        assert (how == "alone") == (sizes == {1})


def test_ablation_cam_does_not_turn_over_where_the_score_is_negative() -> None:
    model, images = network(), images_of(3, 3, 32, 32)
    before = explain("ablation-cam", model, images, TARGETS)
    with torch.no_grad():
        model.fc.bias.sub_(1000)
    assert (model(images) < 0).all()
    close(explain("ablation-cam", model, images, TARGETS), before, rtol=1e-2)


def test_eigen_cam_is_the_first_singular_vector_of_the_maps() -> None:
    model, images = network(), images_of(3, 3, 32, 32)
    maps = Context(model, images, TARGETS).at_layer.activations
    assert maps is not None
    expected = []
    for each in maps.flatten(2).double().numpy():
        _, _, vectors = np.linalg.svd(each.T)
        expected.append(np.abs(each.T @ vectors[0]).reshape(8, 8))
    close(
        explain("eigen-cam", model, images, TARGETS),
        upsample(torch.tensor(np.array(expected)).float(), (32, 32)),
    )


def test_eigen_cam_of_centred_maps_as_pytorch_grad_cam_but_for_its_arbitrary_sign() -> None:
    """pytorch-grad-cam centres each map, which the paper does not; here they are centred already."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.InstanceNorm2d(6), nn.Conv2d(6, 5, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    images = images_of(3, 3, 10, 10)
    expected = torch.from_numpy(get_2d_projection(model[:2](images).detach().numpy()))
    maps = explain("eigen-cam", model, images, TARGETS, layer="1")
    for each, wanted in zip(maps, expected, strict=True):
        rectified = [upsample((sign * wanted[None]).relu(), (10, 10)) for sign in (1, -1)]
        assert min((each - one[0]).abs().max() for one in rectified) < 1e-4 * wanted.abs().max()


class OnPaper(nn.Module):
    """A_1 and A_2 are the first two channels; S_0 is half the sum of A_1 squared, less the sum of A_2."""

    def __init__(self, maps: int = 2) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(3, maps, 1, bias=False), nn.ReLU())
        with torch.no_grad():
            self.layer[0].weight.copy_(torch.eye(maps, 3)[:, :, None, None])

    def forward(self, images: Tensor) -> Tensor:
        first, second, *_ = self.layer(images).unbind(dim=1)
        score = first.square().sum(dim=(1, 2)) / 2 - second.sum(dim=(1, 2))
        return torch.stack([score, -score], dim=1)


A1 = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
A2 = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
FIRST = 1 / (1 + math.exp(-3.125))
# G_1 = A_1 and G_2 = -1.
WORKED: dict[str, Tensor] = {
    "grad-cam": (1 * A1 - A2).relu(),
    "grad-cam++": (1 / 6 + 2 / 10 + 1 / 6) * A1,
    "hirescam": (A1 * A1 - A2).relu(),
    "layercam": A1 * A1,
    "xgrad-cam": (6 / 4 * A1 - A2).relu(),
    # A_1.A_1 = A_2.A_2 = 6 and A_1.A_2 = 3: the first eigenvector is (1, 1) / sqrt 2.
    "eigen-cam": (A1 + A2) / math.sqrt(2),
    # x * H_1 scores (0.25 + 4 + 0.25) / 2 - 1.5 = 0.75, x * H_2 (1 + 0.25) / 2 - 3 = -2.375.
    "score-cam": FIRST * A1 + (1 - FIRST) * A2,
    "ablation-cam": (3 * A1 - 4 * A2).relu(),
    # Guided backpropagation gives A_1 to the first channel and nothing to the others.
    "guided-grad-cam": (A1 - A2).relu() * A1,
}


def test_every_cam_is_worked_out() -> None:
    assert set(WORKED) == set(CAMS)


@pytest.mark.parametrize("name", WORKED)
def test_cams_worked_out_on_paper(name: str) -> None:
    image = torch.stack([A1, A2, torch.tensor([[9.0, -3.0], [0.5, 7.0]])])
    maps = explain(name, OnPaper(), image[None], torch.tensor([0]), layer="layer")
    torch.testing.assert_close(maps, WORKED[name][None])


def test_score_cam_gives_a_constant_map_no_weight() -> None:
    image = torch.stack([A1, A2, torch.full((2, 2), 5.0)])
    maps = explain("score-cam", OnPaper(maps=3), image[None], torch.tensor([0]), layer="layer")
    torch.testing.assert_close(maps, WORKED["score-cam"][None])


def test_eigen_cam_has_the_same_sign_whatever_the_decomposition_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, images, decompose = network(), images_of(3, 3, 32, 32), torch.linalg.svd
    expected = explain("eigen-cam", model, images, TARGETS)

    def other_sign(*arguments: Any, **options: Any) -> Any:
        found = decompose(*arguments, **options)
        return type(found)((-found.U, found.S, -found.Vh))

    monkeypatch.setattr(torch.linalg, "svd", other_sign)
    close(explain("eigen-cam", model, images, TARGETS), expected)


def test_guided_grad_cam_as_captum() -> None:
    model, images = network(), images_of(3, 3, 32, 40)
    expected = captum.attr.GuidedGradCam(model, model.layer4).attribute(
        images.clone().requires_grad_(), TARGETS, interpolate_mode="bilinear"
    )
    close(explain("guided-grad-cam", model, images, TARGETS), expected.detach().abs().amax(dim=1))


def test_grad_cam_hirescam_and_xgrad_cam_are_one_under_pooling_and_a_linear_head() -> None:
    torch.manual_seed(0)
    model, images = resnet18_cifar().eval(), images_of(3, 3, 32, 32)
    for layer, same in {"layer4": True, "layer3": False}.items():
        context = Context(model, images, TARGETS, layer=layer)
        first, *others = (
            METHODS[name].explain_in(context).maps for name in ("grad-cam", "hirescam", "xgrad-cam")
        )
        for each in others:
            assert ((each - first).abs().max() <= 1e-5 * first.max()) == same


def test_gradient_methods_and_cams_share_one_pass() -> None:
    calls = []
    model = SmallNet().eval()
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    context = Context(model, images_of(3, 3, 32, 32), TARGETS, layer="layer4")
    for name in ["saliency", "input-x-gradient", *OF_ONE_PASS]:
        METHODS[name].explain_in(context)
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["score-cam", "ablation-cam"])
@pytest.mark.parametrize(("count", "batch_size"), [(1, 5), (3, 2), (3, 7), (3, 1000)])
def test_passes_are_bounded_few_reported_and_make_no_difference(
    name: str, count: int, batch_size: int
) -> None:
    model, sizes, reports = SmallNet().eval(), [], []
    images = images_of(count, 3, 16, 16)
    expected = explain(name, model, images, TARGETS[:count])
    context = Context(
        model,
        images,
        TARGETS[:count],
        layer="layer4",
        batch_size=batch_size,
        report=lambda *now: reports.append(now),
    )
    maps = context.at_layer.activations
    assert maps is not None
    pairs = int((maps[:count] != 0).any(dim=3).any(dim=2).sum())
    model.fc.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    close(METHODS[name].explain_in(context).maps, expected, rtol=1e-5)
    limit = max(batch_size, len(context))
    assert max(sizes) <= limit
    assert len(reports) == math.ceil(pairs / limit)
    assert reports[-1] == (pairs, pairs)
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})


@pytest.mark.parametrize(
    ("name", "fails_at"),
    [(name, at) for name in ("score-cam", "ablation-cam") for at in (1, 2, 3)]
    + [("guided-grad-cam", 1), ("guided-grad-cam", 2)],
)
def test_the_model_is_put_back_when_a_pass_fails(name: str, fails_at: int) -> None:
    model, calls = SmallNet().train(), []

    def fail(*_: Any) -> None:
        calls.append(1)
        if len(calls) == fails_at:
            raise ZeroDivisionError

    model.fc.register_forward_pre_hook(fail)
    before = state(model)
    with pytest.raises(XaicmpError, match="fails on it: ZeroDivisionError"):
        explain(name, model, images_of(3, 3, 16, 16), TARGETS, layer="layer4", batch_size=3)
    assert state(model) == before


def dead(model: nn.Module) -> nn.Module:
    """No feature is ever there."""
    with torch.no_grad():
        model.layer4[0].weight.zero_()
        model.layer4[0].bias.fill_(-1)
    return model


@pytest.mark.parametrize("name", CAMS)
def test_maps_without_features_are_zero_and_their_correlation_undefined(name: str) -> None:
    maps = explain(name, dead(SmallNet().eval()), images_of(3, 3, 32, 32), TARGETS, layer="layer4")
    assert torch.equal(maps, torch.zeros(3, 32, 32))
    assert pearson(maps, torch.rand(3, 32, 32)).isnan().all()


@pytest.mark.parametrize(
    "name", ["grad-cam", "grad-cam++", "hirescam", "layercam", "xgrad-cam", "ablation-cam"]
)
def test_a_cam_is_zero_where_every_feature_speaks_against_the_class(name: str) -> None:
    model = SmallNet().eval()
    with torch.no_grad():
        model.fc.weight.copy_(-model.fc.weight.abs())
    assert torch.equal(explain(name, model, images_of(3, 3, 32, 32), TARGETS), torch.zeros(3, 32, 32))


@pytest.mark.parametrize("name", CAMS)
def test_cams_stay_finite_under_a_steep_score(name: str) -> None:
    """exp(S_t) would not."""
    maps = explain(name, network(scale=1e4), images_of(3, 3, 32, 32), TARGETS)
    assert maps.isfinite().all()
    assert maps.amax(dim=(1, 2)).max() > 0


@pytest.mark.parametrize("name", CAMS)
def test_every_cam_refuses_a_layer_without_spatial_extent(name: str) -> None:
    with pytest.raises(XaicmpError, match=r"layer fc puts out \(3, 10\)"):
        explain(name, SmallNet().eval(), images_of(3, 3, 32, 32), TARGETS, layer="fc")


def transformer(kind: str) -> tuple[nn.Module, str, Any]:
    """A small one, a layer, and how pytorch-grad-cam's users make maps of its tokens."""
    if kind == "vit":
        model = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=10)
        nn.init.normal_(model.heads.head.weight)
        return (
            model,
            "encoder.layers.encoder_layer_1.ln_1",
            lambda x: x[:, 1:].unflatten(1, (4, 4)).movedim(3, 1),
        )
    if kind == "swin":
        model = torchvision.models.SwinTransformer([2, 2], 8, [1, 1], [2, 2], [4, 4], num_classes=10)
        return model, "features.2", lambda x: x.movedim(3, 1)
    timm = pytest.importorskip("timm")
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 10}
    model = timm.models.vision_transformer.VisionTransformer(reg_tokens=4, **sizes)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model, "blocks.1.norm1", lambda x: x[:, 5:].unflatten(1, (4, 4)).movedim(3, 1)


@pytest.mark.parametrize("kind", ["vit", "swin", "registers"])
@pytest.mark.parametrize(
    ("name", "reference_kind"),
    [
        ("grad-cam", reference.GradCAM),
        ("hirescam", reference.HiResCAM),
        ("layercam", reference.LayerCAM),
        ("xgrad-cam", reference.XGradCAM),
        ("score-cam", reference.ScoreCAM),
    ],
)
def test_cams_of_tokens_as_pytorch_grad_cam(name: str, reference_kind: Any, kind: str, raw: None) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, layer, reshape = transformer(kind)
    model, images = model.eval(), images_of(3, 3, 32, 32)
    target = [ClassifierOutputTarget(int(each)) for each in TARGETS]
    target_layers = [model.get_submodule(layer)]
    with reference_kind(model=model, target_layers=target_layers, reshape_transform=reshape) as cam:
        expected = torch.from_numpy(cam(images, target))
    maps = explain(name, model, images, TARGETS, layer=layer)
    if name == "score-cam":
        maps, expected = (each / each.amax(dim=(1, 2), keepdim=True) for each in (maps, expected))
    close(maps, expected, rtol=1e-3)


@pytest.mark.parametrize("kind", ["vit", "swin", "registers"])
def test_ablation_cam_of_tokens_leaves_the_class_token(kind: str) -> None:
    model, layer, reshape = transformer(kind)
    model, images = model.eval(), images_of(3, 3, 32, 32)
    seen: list[Tensor] = []
    watching = model.get_submodule(layer).register_forward_hook(lambda _, inputs, output: seen.append(output))
    with torch.no_grad():
        score = model(images)[range(3), TARGETS]
    watching.remove()
    maps, drops = reshape(seen[0]), []
    for channel in range(maps.shape[1]):
        without = seen[0].clone()
        reshape(without)[:, channel] = 0
        with torch.no_grad(), substitute(model, layer, without):
            drops.append(score - model(images)[range(3), TARGETS])
    weighted = (torch.stack(drops, dim=1)[..., None, None] * maps).sum(dim=1).relu()
    found = explain("ablation-cam", model, images, TARGETS, layer=layer)
    close(found, upsample(weighted, (32, 32)), rtol=1e-3)
