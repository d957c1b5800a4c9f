from __future__ import annotations

import copy
import dataclasses
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from numpy.typing import NDArray
from scenes import made_scene
from torch import Tensor, nn

from dynaseg_cli.config import FOLDER_FIT, PRESETS, SegmentConfig
from dynaseg_cli.engine import engine as engine_module
from dynaseg_cli.engine import timm_trunk
from dynaseg_cli.engine.backbones import Backbone
from dynaseg_cli.engine.engine import BESIDE_SCALE, SMALLEST_SIZE, Engine
from dynaseg_cli.engine.fitting import Fitter
from dynaseg_cli.engine.networks import frozen_backbone, new_network
from dynaseg_cli.engine.region_fitting import RegionFitter
from dynaseg_cli.errors import DeviceMemoryError, UsageError
from dynaseg_cli.files.weights import OPTIONS_KEY, identify, read_model

Image = NDArray[np.uint8]
CHANNELS = 192, 96
"""Of the last two maps of the network below."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SegmentConfig:
    """A fit of milliseconds beside what timm's smallest network sees, which has learned nothing."""
    path = tmp_path_factory.mktemp("weights") / "made.pth"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        torch.save(timm.create_model("test_resnet").state_dict(), path)
    return SegmentConfig(
        backbone="timm:test_resnet",
        weights=identify(path),
        iterations=4,
        min_labels=2,
        patience=0,
        max_size=0,
        levels=1,
        precision="float32",
        blocks=2,
        features=8,
        clusters=8,
    )


@pytest.fixture(scope="module")
def wide(photo: Image) -> Image:
    """(24, 96, 3)."""
    return np.tile(photo, (1, 3, 1))


def states_of(backbone: nn.Module | None) -> dict[str, Tensor]:
    assert isinstance(backbone, Backbone)
    return copy.deepcopy({**backbone.state_dict(), **backbone.weights})


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


# One image


def test_losses_are_those_of_the_method_with_the_features_beside(config: SegmentConfig, photo: Image) -> None:
    """The same iterations in PyTorch's own words."""
    backbone = frozen_backbone(config)
    assert backbone is not None
    network = new_network(config, backbone).train()
    assert network.classifier.in_channels == config.features + sum(CHANNELS)
    with torch.no_grad():
        seen = backbone(torch.tensor(backbone.resized(photo)).permute(2, 0, 1)[None].float() / 255)
    beside = [nn.functional.interpolate(BESIDE_SCALE * found[None], photo.shape[:2], mode="bilinear") for found in seen]
    image = torch.tensor(photo).permute(2, 0, 1)[None].float() / 255
    optimiser = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=1e-4)
    losses = []
    for _ in range(config.iterations):
        own = image
        for convolution, norm in zip(network.convolutions, network.norms, strict=True):
            own = norm(convolution(own).relu())
        response = network.response_norm(network.classifier(torch.cat([own, *beside], 1)))
        labels = response.argmax(1)
        mu = config.weight / max(len(labels.unique()), 2)
        loss = nn.functional.cross_entropy(response, labels) + mu * (
            response.diff(dim=3).abs().mean() + response.diff(dim=2).abs().mean()
        )
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    found = Engine(config, "cpu").segment(photo).fit.loss
    np.testing.assert_allclose(found[0], losses[0], rtol=1e-5)
    np.testing.assert_allclose(found, losses, rtol=5e-3)


@pytest.mark.parametrize("max_size", [0, 16])
def test_equal_images_give_equal_results_whatever_came_before(
    config: SegmentConfig, photo: Image, wide: Image, max_size: int
) -> None:
    config = dataclasses.replace(config, max_size=max_size)
    engine = Engine(config, "cpu")
    first = engine.segment(photo)
    assert first.num_labels > 2
    engine.segment(wide[:, ::-1])
    for other in (engine.segment(photo), Engine(config, "cpu").segment(photo)):
        np.testing.assert_array_equal(other.labels, first.labels)
        assert other.fit.loss == first.fit.loss
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(other.features, first.features, strict=True))


@pytest.mark.parametrize("max_size", [32, 48])
@pytest.mark.parametrize("tile_size", [8, 13])
def test_tiles_agree_with_the_whole(
    config: SegmentConfig, wide: Image, max_size: int, tile_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(dataclasses.replace(config, max_size=max_size), "cpu")
    monkeypatch.setitem(engine_module.TILE_SIZE, "cpu", 10_000)
    whole = engine.segment(wide).labels
    assert len(np.unique(whole)) > 2
    monkeypatch.setitem(engine_module.TILE_SIZE, "cpu", tile_size)
    assert (engine.segment(wide).labels == whole).mean() >= 0.999


def test_what_the_backbone_saw_comes_with_the_labels(config: SegmentConfig, photo: Image) -> None:
    engine = Engine(config, "cpu")
    result, maps = engine.segment(photo), engine.look(photo)
    # 24 x 32 is looked at as 32 x 64, since 1.5 times 32 lies between one stride and two.
    assert [found.shape for found in maps] == [(CHANNELS[0], 2, 4), (CHANNELS[1], 1, 2)]
    for of_result, found in zip(result.features, maps, strict=True):
        assert of_result.dtype == np.float32
        assert of_result.flags.c_contiguous
        np.testing.assert_array_equal(of_result, found.permute(1, 2, 0).numpy())
    assert 0 < result.features_seconds < result.seconds


def test_a_trained_resnet_sees_for_the_regions_what_it_saw_before_the_fit(photo: Image) -> None:
    config = SegmentConfig(
        backbone="resnet18-fpn", weights="random", iterations=2, features=4, clusters=4, min_labels=2, max_size=16
    )
    engine = Engine(config, "cpu")
    before = engine.look(photo)
    first, second = (engine.segment(photo).features for _ in range(2))
    for found, ours, theirs in zip(before, first, second, strict=True):
        np.testing.assert_array_equal(ours, found.permute(1, 2, 0).numpy())
        np.testing.assert_array_equal(ours, theirs)


def test_without_a_pretrained_backbone_nothing_is_seen(config: SegmentConfig, photo: Image) -> None:
    engine = Engine(dataclasses.replace(config, backbone="cnn", weights=None), "cpu")
    assert engine.look(photo) == []
    result = engine.segment(photo)
    assert result.features == ()


def test_scribbles_are_followed(config: SegmentConfig, photo: Image) -> None:
    strokes = np.full(photo.shape[:2], 255, dtype=np.uint8)
    strokes[1, 2:30], strokes[7:9, 6:10], strokes[14:18, 20:26] = 6, 2, 0
    result = Engine(dataclasses.replace(config, iterations=30, mode="fsf"), "cpu").segment(photo, scribbles=strokes)
    assert result.fit.threshold == 3
    assert all((result.labels[strokes == label] == label).mean() > 0.9 for label in (6, 2, 0))


def test_image_of_one_colour_is_one_label_and_is_not_looked_at(
    config: SegmentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(config, "cpu")
    monkeypatch.setattr(engine, "look", lambda image: pytest.fail("there is nothing to see"))
    result = engine.segment(np.full((20, 30, 3), 128, dtype=np.uint8))
    assert not result.labels.any()
    assert (result.num_labels, result.features) == (1, ())


@pytest.mark.parametrize("max_size", [0, 16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 40), (40, 1), (33, 17)], ids=str)
def test_narrow_images_have_labels_too(config: SegmentConfig, shape: tuple[int, int], max_size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    result = Engine(dataclasses.replace(config, max_size=max_size, iterations=2), "cpu").segment(image)
    assert result.labels.shape == shape
    assert np.isfinite(result.fit.loss).all()


@pytest.mark.parametrize("changes", [{"levels": 2, "max_size": 64}, {"literal": True}, {"mode": "fsf"}], ids=str)
def test_every_fit_takes_the_features(config: SegmentConfig, wide: Image, changes: dict[str, Any]) -> None:
    """Without them, and otherwise the same, the losses are others from the first iteration on."""
    config = dataclasses.replace(config, **changes)
    engine, blind = Engine(config, "cpu"), Engine(config, "cpu")
    blind.look = lambda image: [found * 0 for found in engine.look(image)]  # type: ignore[method-assign]
    result, without = engine.segment(wide), blind.segment(wide)
    assert np.isfinite(result.fit.loss).all()
    assert len(result.fit.levels) == config.levels
    assert result.fit.loss[0] != without.fit.loss[0]


def test_preset_of_the_paper_takes_a_backbone(config: SegmentConfig, photo: Image) -> None:
    paper = dataclasses.replace(
        PRESETS["paper"], backbone=config.backbone, weights=config.weights, iterations=2, min_labels=2
    )
    result = Engine(paper, "cpu").segment(photo)
    assert (result.fit.width, result.fit.height, result.fit.iterations) == (32, 24, 2)


def test_features_in_bfloat16_are_nearly_the_same(config: SegmentConfig, photo: Image) -> None:
    exact, rounded = (
        Engine(dataclasses.replace(config, precision=precision), "cpu").segment(photo)
        for precision in ("float32", "bfloat16")
    )
    for ours, theirs in zip(rounded.features, exact.features, strict=True):
        assert ours.dtype == np.float32
        assert np.einsum("hwc,hwc->hw", ours, theirs).min() > 0.99
    assert rounded.fit.loss[0] == pytest.approx(exact.fit.loss[0], rel=0.03)
    assert rounded.fit.loss != exact.fit.loss


@pytest.mark.parametrize("backbone", ["efficientnet-lite0", "timm:test_resnet"])
def test_fit_leaves_the_backbone_as_it_is(config: SegmentConfig, photo: Image, backbone: str) -> None:
    weights = None if backbone == "efficientnet-lite0" else config.weights
    engine = Engine(dataclasses.replace(config, backbone=backbone, weights=weights), "cpu")
    before, network = states_of(engine.backbone), copy.deepcopy(engine.network.state_dict())
    engine.segment(photo)
    assert same(states_of(engine.backbone), before)
    assert not same(engine.network.state_dict(), network)


# Memory


def seeing(times: int, sizes: list[tuple[int, ...]]) -> Callable[[Backbone, Tensor], list[Tensor]]:
    """`Backbone.forward`, but the first `times` calls run out of memory; the size of every image is noted."""
    original = Backbone.forward

    def forward(backbone: Backbone, image: Tensor) -> list[Tensor]:
        sizes.append(tuple(image.shape[2:]))
        if len(sizes) <= times:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(backbone, image)

    return forward


def test_out_of_memory_a_photo_is_looked_at_smaller(
    config: SegmentConfig, wide: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, sizes = Engine(config, "cpu"), list[tuple[int, ...]]()
    monkeypatch.setattr(engine_module, "MOST_SIZE", 64)
    expected = engine.segment(wide)
    monkeypatch.setattr(engine_module, "MOST_SIZE", 128)
    monkeypatch.setattr(Backbone, "forward", seeing(1, sizes))
    result = Engine(config, "cpu").segment(wide)
    assert sizes == [(32, 128), (32, 64)]
    np.testing.assert_array_equal(result.labels, expected.labels)
    for ours, theirs in zip(result.features, expected.features, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_out_of_memory_at_every_size_is_an_error_and_the_engine_goes_on(
    config: SegmentConfig, wide: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, sizes = Engine(config, "cpu"), list[tuple[int, ...]]()
    monkeypatch.setattr(engine_module, "MOST_SIZE", 128)
    expected = Engine(config, "cpu").segment(wide)
    with monkeypatch.context() as patch:
        patch.setattr(Backbone, "forward", seeing(99, sizes))
        with pytest.raises(DeviceMemoryError, match=f"out of memory even at a working size of {SMALLEST_SIZE} pixels"):
            engine.segment(wide)
    assert sizes == [(32, 128), (32, 64), (32, 32)]
    np.testing.assert_array_equal(engine.segment(wide).labels, expected.labels)


def test_fit_out_of_memory_does_not_look_again(
    config: SegmentConfig, wide: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, widths = list[tuple[int, ...]](), list[int]()
    original = Fitter.fit

    def fit(fitter: Fitter, levels: list[Tensor], *options: object, **more: Any) -> Any:
        widths.append(levels[-1].shape[3])
        if len(widths) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(fitter, levels, *options, **more)

    expected = Engine(dataclasses.replace(config, max_size=48), "cpu").segment(wide)
    monkeypatch.setattr(Fitter, "fit", fit)
    monkeypatch.setattr(Backbone, "forward", seeing(0, sizes))
    result = Engine(config, "cpu").segment(wide)
    assert (widths, len(sizes)) == ([96, 48], 1)
    np.testing.assert_array_equal(result.labels, expected.labels)


# The network of a folder, as a file


SCENES = [made_scene(seed, 48, 36)[0] for seed in range(4)]


def folder_config(config: SegmentConfig, **changes: Any) -> SegmentConfig:
    options = FOLDER_FIT | {"clusters": 6, "epochs": 1, "iterations": 3, "max_size": 32, "precision": "float32"}
    return SegmentConfig(**options | {"backbone": config.backbone, "weights": config.weights} | changes)


def fitted(config: SegmentConfig) -> RegionFitter:
    fitter = RegionFitter(config, "cpu")
    for scene in SCENES:
        fitter.describe(scene)
    fitter.number_by_area(fitter.fit())
    return fitter


@pytest.fixture(scope="module")
def model(config: SegmentConfig) -> bytes:
    return fitted(folder_config(config)).model()


def take_away_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the package of weights, nor a network, nor a cache."""

    def unavailable(*_: object, **__: object) -> None:
        raise AssertionError("the weights are in the model")

    monkeypatch.setattr(timm_trunk, "efficientnet_weights", unavailable)
    monkeypatch.setattr(timm_trunk, "timm_weights", unavailable)
    monkeypatch.setattr(timm_trunk, "parse_weights", unavailable)


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "efficientnet-lite0", "weights": None},
        {"backbone": "timm:test_vit", "weights": "random"},
        {"max_size": 0},
    ],
    ids=["efficientnet", "transformer", "full size"],
)
def test_loaded_model_gives_the_labels_of_the_fit(
    config: SegmentConfig, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitter = fitted(folder_config(config, **changes))
    path = tmp_path / "model.safetensors"
    path.write_bytes(fitter.model())
    take_away_weights(monkeypatch)
    found = read_model(path)
    assert found.as_options() == {**fitter.engine.config.as_options(), "model": identify(path).fingerprint}
    engine = Engine(found, "cpu")
    for image in (*SCENES[:2], made_scene(9, 60, 45)[0]):
        result = engine.segment(image)
        expected = fitter.engine.apply(image)
        np.testing.assert_array_equal(result.labels, expected.labels)
        assert (result.fit.stop_reason, result.fit.iterations) == ("model", 0)
        for ours, theirs in zip(result.features, expected.features, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_random_weights_in_a_model_are_not_warned_of_again(
    config: SegmentConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(fitted(folder_config(config, weights="random")).model())
    caplog.clear()
    Engine(read_model(path), "cpu")
    assert caplog.text == ""


def test_network_of_a_folder_sees_the_last_map_alone(config: SegmentConfig, model: bytes, tmp_path: Path) -> None:
    """Its first layer is the classifier, which has no colours of its own."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(model)
    network = Engine(read_model(path), "cpu").network
    own = {name: tuple(value.shape) for name, value in network.named_parameters()}
    assert own == {
        "classifier.weight": (6, CHANNELS[-1], 1, 1),
        "classifier.bias": (6,),
        "response_norm.weight": (6,),
        "response_norm.bias": (6,),
    }


def test_tiles_of_a_folder_s_network_agree_with_the_whole(
    model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(model)
    image = np.concatenate(SCENES[:3], axis=1)
    for max_size in (0, 48):
        engine = Engine(dataclasses.replace(read_model(path), max_size=max_size), "cpu")
        monkeypatch.setitem(engine_module.TILE_SIZE, "cpu", 10_000)
        whole = engine.segment(image).labels
        assert len(np.unique(whole)) > 1
        monkeypatch.setitem(engine_module.TILE_SIZE, "cpu", 13)
        assert (engine.segment(image).labels == whole).mean() >= 0.999


def test_image_of_one_colour_has_one_label_of_a_folder(model: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(model)
    labels = Engine(read_model(path), "cpu").segment(np.full((40, 30, 3), 90, dtype=np.uint8)).labels
    assert len(np.unique(labels)) == 1


State = dict[str, Tensor]
FIRST = "backbone.model.conv1.0.weight"


def changed(content: bytes, change: Callable[[State], State], **options: Any) -> bytes:
    """A model file whose tensors, or options, are others."""
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    if options:
        metadata = {OPTIONS_KEY: json.dumps(json.loads(metadata[OPTIONS_KEY]) | options)}
    return safetensors.torch.save(change(safetensors.torch.load(content)), metadata)


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        (lambda state: {name: value for name, value in state.items() if name != FIRST}, {}, "model.conv1.0.weight"),
        (lambda state: state | {FIRST: torch.zeros(2, 3)}, {}, "model.conv1.0.weight"),
        (lambda state: state | {FIRST: torch.full_like(state[FIRST], torch.nan)}, {}, "not finite"),
        (lambda state: state | {"backbone.more": torch.zeros(2)}, {}, "more"),
        (
            lambda state: {name: value for name, value in state.items() if not name.startswith("backbone.")},
            {},
            "Missing key",
        ),
        (lambda state: state, {"backbone": "timm:test_efficientnet"}, "size mismatch"),
        (lambda state: state, {"backbone": "cnn", "weights": None}, "size mismatch"),
        (lambda state: state, {"clusters": 7}, "size mismatch"),
    ],
    ids=["lacking", "shape", "no numbers", "more", "no backbone", "another backbone", "the cnn", "clusters"],
)
def test_model_that_does_not_hold_what_its_options_say_is_refused(
    model: bytes, change: Callable[[State], State], options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(changed(model, lambda state: state))
    Engine(read_model(path), "cpu")
    path.write_bytes(changed(model, change, **options))
    named = re.escape(f"the model {path} does not hold the network of its options: ")
    with pytest.raises(UsageError, match=f"^{named}.*{reason}"):
        Engine(read_model(path), "cpu")


@pytest.mark.parametrize("keep", [0, 4, 2000, -1])
def test_what_is_left_of_a_model_is_refused(model: bytes, keep: int, config: SegmentConfig, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(model[:keep])
    with pytest.raises(UsageError, match=f"^the model {re.escape(str(path))} does not hold the network"):
        Engine(folder_config(config, model=identify(path)), "cpu")


def test_model_needs_timm_itself(model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(model)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"pip install 'dynaseg\[pretrained\]'"):
        Engine(read_model(path), "cpu")
