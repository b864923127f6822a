"""Classes of other libraries as methods: the same maps as from the class called directly."""

from __future__ import annotations

from typing import Any

import captum.attr
import numpy as np
import pytest
import pytorch_grad_cam
import torch
from architectures import architecture
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from small import SmallNet, state
from torch import Tensor, nn
from torch.nn.functional import interpolate

from xaicmp.core.attribution import get_methods
from xaicmp.core.attribution.selection import split_names
from xaicmp.errors import UsageError, XaicmpError

TARGETS = torch.tensor([1, 0, 4])


def images_of(count: int = 3, size: int = 16) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def explain(name: str, model: nn.Module | None = None, **context: Any) -> Tensor:
    return get_methods([name])[0].explain(model or SmallNet().eval(), images_of(), TARGETS, **context)


def close(maps: Tensor, expected: Tensor) -> None:
    assert expected.abs().max() > 0
    torch.testing.assert_close(
        maps, expected.detach().float(), rtol=1e-4, atol=1e-5 * float(expected.detach().abs().max())
    )


@pytest.mark.parametrize(
    ("kind", "options", "reduced"),
    [
        ("Saliency", {}, lambda x: x.amax(dim=1)),
        ("Saliency", {"abs": False}, lambda x: x.abs().amax(dim=1)),
        ("InputXGradient", {}, lambda x: x.sum(dim=1).relu()),
        ("IntegratedGradients", {}, lambda x: x.sum(dim=1).relu()),
        ("IntegratedGradients", {"n_steps": 7, "method": "riemann_left"}, lambda x: x.sum(dim=1).relu()),
        ("GuidedBackprop", {}, lambda x: x.abs().amax(dim=1)),
        ("Deconvolution", {}, lambda x: x.abs().amax(dim=1)),
        ("DeepLift", {"eps": 1e-8}, lambda x: x.sum(dim=1).relu()),
        ("LRP", {}, lambda x: x.sum(dim=1).relu()),
        ("FeatureAblation", {"perturbations_per_eval": 96}, lambda x: x.sum(dim=1).relu()),
    ],
)
def test_captum_called_directly_gives_the_same_maps(kind: str, options: dict[str, Any], reduced: Any) -> None:
    model, images = SmallNet().eval(), images_of().requires_grad_()
    made = {key: options[key] for key in ("eps",) if key in options}
    called = {key: value for key, value in options.items() if key not in made}
    expected = reduced(getattr(captum.attr, kind)(model, **made).attribute(images, target=TARGETS, **called))
    words = ",".join(f"{key}={value}" for key, value in options.items())
    name = f"captum:{kind}" + (f":{words}" if words else "")
    (method,) = get_methods(split_names(f"{name},edge"))[:1]
    assert method.name == method.title == name
    close(method.explain(SmallNet().eval(), images_of(), TARGETS), expected)


@pytest.mark.parametrize("layer", ["layer1", "layer4", None])
@pytest.mark.parametrize(
    "kind",
    ["LayerGradCam", "LayerActivation", "LayerGradientXActivation", "LayerConductance", "LayerDeepLift"],
)
def test_layer_classes_take_the_layer_of_the_cams_and_are_upsampled(kind: str, layer: str | None) -> None:
    model, images = SmallNet().eval(), images_of().requires_grad_()
    explainer = getattr(captum.attr, kind)(model, model.get_submodule(layer or "layer4"))
    found = explainer.attribute(images, **({} if kind == "LayerActivation" else {"target": TARGETS}))
    expected = interpolate(found, size=(16, 16), mode="bilinear", align_corners=False)
    if kind == "LayerGradCam":
        assert len(expected[0]) == 1
    close(explain(f"captum:{kind}:sum", layer=layer), expected.sum(dim=1))


@pytest.mark.parametrize(
    "kind", ["GradCAM", "GradCAMPlusPlus", "EigenCAM", "ScoreCAM", "AblationCAM", "FullGrad"]
)
@pytest.mark.parametrize("network", ["small", "vit"])
def test_pytorch_grad_cam_called_directly_gives_the_same_maps(kind: str, network: str) -> None:
    if network == "vit" and kind in ("AblationCAM", "FullGrad"):
        pytest.skip("they take no tokens")
    model, layer, size = SmallNet().eval(), "layer4", 16
    reshape: Any = None
    if network == "vit":
        model, layer, size = architecture("vit"), "encoder.layers.encoder_layer_1.ln_1", 32
        reshape = lambda x: x[:, 1:].unflatten(1, (4, 4)).movedim(3, 1)  # noqa: E731
    images, expected = images_of(size=size), []
    for image, target in zip(images, TARGETS, strict=True):
        cam = getattr(pytorch_grad_cam, kind)(model, [model.get_submodule(layer)], reshape_transform=reshape)
        with cam:
            expected.append(torch.from_numpy(cam(image[None], [ClassifierOutputTarget(int(target))])))
    found = get_methods([f"pytorch_grad_cam:{kind}"])[0].explain(model, images, TARGETS)
    close(found, torch.cat(expected))


@pytest.mark.parametrize(
    "name",
    [
        "captum:KernelShap",
        "captum:Lime",
        "captum:Saliency",
        "pytorch_grad_cam:RandomCAM",
        "pytorch_grad_cam:FullGrad",
    ],
)
def test_an_image_gets_the_same_map_in_any_company_and_nothing_is_left_behind(name: str) -> None:
    model = SmallNet()
    before, drawn, numpys = state(model), torch.get_rng_state(), np.random.get_state()[1].copy()
    (method,) = get_methods([name])
    maps = method.explain(model, images_of(), TARGETS, ids=[5, 6, 7])
    assert maps.flatten(1).std(dim=1).min() > 0
    for row in range(3):
        part = slice(row, row + 1)
        alone = method.explain(model, images_of()[part], TARGETS[part], ids=[5 + row])
        torch.testing.assert_close(alone[0], maps[row], rtol=1e-4, atol=1e-6 * float(maps.abs().max()))
    other = method.explain(model, images_of(), TARGETS, ids=[5, 6, 7], seed=1)
    random = name in ("captum:KernelShap", "captum:Lime", "pytorch_grad_cam:RandomCAM")
    assert torch.equal(maps, other) == (not random)
    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), drawn)
    assert (np.random.get_state()[1] == numpys).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("captum:Salency", "captum:Salency: captum.attr has no such class of attribution; choose Saliency"),
        ("captum:", "has no such class"),
        ("captum:Attribution", "has no such class"),
        ("captum:visualization", "has no such class"),
        ("pytorch_grad_cam:GradCam", "pytorch_grad_cam has no such class of attribution; choose .*GradCAM"),
        (
            "captum:NeuronGradient",
            "captum:NeuronGradient needs neuron_selector, which cannot be given in a name; call",
        ),
        ("captum:Occlusion", "needs sliding_window_shapes, which cannot"),
        ("captum:NoiseTunnel", "needs attribution_method, which cannot"),
        ("captum:DeepLiftShap", "needs baselines, which cannot"),
        ("captum:FeaturePermutation", "mixes the images of a batch"),
        ("captum:Saliency:abs=7", "captum:Saliency: abs 7: give true or false"),
        ("captum:Saliency:steps=7", "captum:Saliency: no option 'steps'; it has abs"),
        ("captum:IntegratedGradients:n_steps=many", "n_steps many: give a whole number"),
        ("captum:Saliency:loud", "captum:Saliency: unknown reduction 'loud'; choose from"),
    ],
)
def test_a_class_that_is_none_or_needs_more_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        get_methods([name])
    assert "\n" not in str(caught.value)


def test_a_library_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pytorch_grad_cam", None)
    with pytest.raises(
        UsageError, match=r"pytorch_grad_cam:GradCAM: .*; install it with `pip install grad-cam`"
    ):
        get_methods(["pytorch_grad_cam:GradCAM"])


def test_what_a_library_cannot_explain_is_one_line_and_a_layer_of_other_shape_too() -> None:
    model, images = architecture("vit"), images_of(size=32)
    with pytest.raises(XaicmpError, match="plug-in captum:LRP failed: ") as caught:
        get_methods(["captum:LRP"])[0].explain(model, images, TARGETS)
    assert "\n" not in str(caught.value)
    # It averages over the last axis, which is that of the features here.
    with pytest.raises(XaicmpError, match=r"captum:LayerGradCam gives \(3, 1, 32\), which is no grid"):
        get_methods(["captum:LayerGradCam"])[0].explain(model, images, TARGETS)
    maps = get_methods(["captum:LayerGradientXActivation"])[0].explain(model, images, TARGETS)
    assert maps.shape == (3, 32, 32)


def test_settings_of_a_class_can_be_compared() -> None:
    names = ["captum:Saliency", "captum:Saliency:l2", "captum:Saliency:abs=false", "saliency"]
    methods = get_methods(names)
    assert [each.name for each in methods] == [*names[:2], "captum:Saliency:abs=False", "saliency"]
    maps = [each.explain(SmallNet().eval(), images_of(), TARGETS) for each in methods]
    for other in maps[2:]:
        close(maps[0], other)
