from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from samples import noise
from scenes import made_scene
from torch import Tensor, nn

from dynaseg_cli.config import FOLDER_FIT, SegmentConfig
from dynaseg_cli.engine.engine import Engine
from dynaseg_cli.engine.fitting import Fitter
from dynaseg_cli.engine.folder_fitting import FolderFitter
from dynaseg_cli.engine.labelling import to_input
from dynaseg_cli.errors import DeviceMemoryError, DivergedError
from dynaseg_cli.files.weights import read_model
from dynaseg_cli.method.losses import continuity_loss, continuity_weight, similarity_loss

CONFIG = SegmentConfig(**FOLDER_FIT | {"clusters": 8, "epochs": 1, "features": 8, "max_size": 32}, precision="float32")
RESNET = dataclasses.replace(CONFIG, backbone="resnet18-fpn", weights="random")
FROZEN = dataclasses.replace(RESNET, freeze_backbone=True)
KINDS = pytest.mark.parametrize("config", [CONFIG, RESNET, FROZEN], ids=["cnn", "resnet", "frozen resnet"])


def mosaic_of(*seeds: int) -> NDArray[np.uint8]:
    """Made scenes side by side, (36, 48 n, 3)."""
    return np.concatenate([made_scene(seed, 48, 36)[0] for seed in seeds], axis=1)


MOSAICS = [mosaic_of(0, 1), mosaic_of(2, 3), mosaic_of(4, 5)]


def fitter_of(config: SegmentConfig) -> FolderFitter:
    return FolderFitter(config, "cpu")


def norms_of(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: norm for name, norm in network.named_modules() if isinstance(norm, nn.BatchNorm2d)}


# Iterations


@pytest.mark.parametrize(
    "config",
    [
        dataclasses.replace(CONFIG, alpha=20),
        dataclasses.replace(CONFIG, mode="fsf"),
        dataclasses.replace(CONFIG, mode="fixed", mu=2),
        dataclasses.replace(CONFIG, literal=True),
        RESNET,
        FROZEN,
    ],
    ids=["scf", "fsf", "fixed", "literal", "resnet", "frozen resnet"],
)
def test_iterations_on_mosaics_are_those_of_autograd(config: SegmentConfig) -> None:
    """Compared with PyTorch's own optimiser. The last iteration on a mosaic updates nothing."""
    config = dataclasses.replace(config, iterations=3)
    fitter = fitter_of(config)
    network = copy.deepcopy(fitter.engine.network).train()
    trained = [value for name, value in network.named_parameters() if "response_norm" not in name]
    optimiser = torch.optim.SGD(
        [value for value in trained if value.requires_grad], lr=0.1, momentum=0.9, weight_decay=1e-4
    )
    for mosaic in MOSAICS[:2]:
        found = fitter.improve(mosaic)
        x = to_input(mosaic, torch.device("cpu"))
        for iteration in range(3):
            response = network(x)
            labels = response.detach().argmax(1)
            present = len(labels.unique())
            weight = continuity_weight(config.mode, config.weight, max(present, 3))
            loss = similarity_loss(response, labels) + weight * continuity_loss(response)
            if iteration < 2:
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        assert found.labels_per_iteration[-1] == present
        assert found.loss[-1] == pytest.approx(loss.item(), rel=2e-3)


@KINDS
def test_response_keeps_zero_mean_and_unit_variance(config: SegmentConfig) -> None:
    fitter = fitter_of(config)
    before = {name: value.clone() for name, value in fitter.engine.network.named_parameters()}
    for mosaic in MOSAICS:
        fitter.improve(mosaic)
    norm = fitter.engine.network.response_norm
    assert (norm.weight == 1).all()
    assert (norm.bias == 0).all()
    changed = {name for name, value in fitter.engine.network.named_parameters() if not torch.equal(value, before[name])}
    fixed = {name for name in before if "response_norm" in name or (config.freeze_backbone and "trunk" in name)}
    assert changed == before.keys() - fixed


def test_what_comes_before_a_mosaic_counts() -> None:
    """Weights and momenta go on: nothing is fitted from the beginning again."""
    one, other = fitter_of(CONFIG), fitter_of(CONFIG)
    one.improve(MOSAICS[0])
    assert any(momentum.any() for momentum in one.engine.fitter.momenta)
    assert one.improve(MOSAICS[1]) != other.improve(MOSAICS[1])


@pytest.mark.parametrize("step", ["improve", "measure"])
def test_loss_that_is_no_number_ends_the_fit(step: str) -> None:
    fitter = fitter_of(CONFIG)
    with torch.no_grad():
        fitter.engine.network.classifier.weight.fill_(torch.nan)
    with pytest.raises(DivergedError, match=r"^the loss became nan in iteration 1; try `precision=float32`$"):
        getattr(fitter, step)(MOSAICS[0])


def test_mosaic_that_does_not_fit_the_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    fitter = fitter_of(CONFIG)
    monkeypatch.setattr(Fitter, "continue_fit", exhausted)
    with pytest.raises(DeviceMemoryError, match=r"^cpu has no memory for a mosaic of 96 x 36 pixels: .* `max_size`"):
        fitter.improve(MOSAICS[0])


def test_mistakes_in_the_program_surface(monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(*arguments: Any) -> None:
        raise RuntimeError("shapes differ")

    fitter = fitter_of(CONFIG)
    monkeypatch.setattr(Fitter, "continue_fit", mistaken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        fitter.improve(MOSAICS[0])


def test_uniform_images_are_fitted_and_labelled() -> None:
    fitter = fitter_of(CONFIG)
    black = np.zeros((32, 64, 3), dtype=np.uint8)
    fitter.improve(black)
    fitter.measure(black)
    fitter.apply_measured()
    assert all((norm.running_var >= 0).all() for norm in norms_of(fitter.engine.network).values())  # type: ignore[operator]
    assert fitter.engine.apply(black).labels.shape == (32, 64)


@pytest.mark.parametrize("refine", [0, 3])
def test_model_gives_an_image_of_one_colour_one_label(refine: int, tmp_path: Path) -> None:
    fitter = fitter_of(CONFIG)
    for mosaic in MOSAICS:
        fitter.improve(mosaic)
        fitter.measure(mosaic)
    fitter.apply_measured()
    (tmp_path / "model.safetensors").write_bytes(fitter.model())
    config = dataclasses.replace(read_model(tmp_path / "model.safetensors"), refine=refine)
    result = Engine(config, "cpu").segment(np.full((50, 90, 3), (200, 40, 90), dtype=np.uint8))
    assert result.num_labels == len(np.unique(result.labels)) == 1
    assert result.fit.stop_reason == "model"


# Statistics of the whole folder


class Watched:
    """Inputs of each trained BatchNorm, over all passes."""

    def __init__(self, network: nn.Module) -> None:
        self.inputs: dict[str, list[Tensor]] = {}
        for name, norm in norms_of(network).items():
            norm.register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def keep(norm: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            self.inputs.setdefault(name, []).append(inputs[0].detach().double())

        return keep

    def statistics(self, name: str) -> tuple[Tensor, Tensor]:
        """Law of total variance: the mean of the (unbiased) variances, and the variance of the means."""
        seen = self.inputs[name]
        means = torch.stack([one.mean((0, 2, 3)) for one in seen])
        variances = torch.stack([one.transpose(0, 1).flatten(1).var(1) for one in seen])
        return means.mean(0), variances.mean(0) + means.var(0, correction=0)


@KINDS
def test_network_normalises_by_the_whole_folder(config: SegmentConfig) -> None:
    fitter = fitter_of(config)
    network = fitter.engine.network
    fitter.improve(MOSAICS[0])
    kept = {name: value.clone() for name, value in network.state_dict().items() if "trunk" in name}
    twin = copy.deepcopy(network).train()
    watched = Watched(twin)
    for mosaic in MOSAICS:
        fitter.measure(mosaic)
        with torch.no_grad():
            twin(to_input(mosaic, torch.device("cpu")))
    fitter.apply_measured()
    for name, norm in norms_of(network).items():
        if config.freeze_backbone and "trunk" in name:
            continue
        mean, variance = watched.statistics(name)
        torch.testing.assert_close(norm.running_mean, mean.float(), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(norm.running_var, variance.float(), rtol=1e-3, atol=1e-4)
    if config.freeze_backbone:
        after = network.state_dict()
        assert all(torch.equal(after[name], value) for name, value in kept.items())


def test_measuring_changes_no_weight_and_no_momentum() -> None:
    fitter = fitter_of(CONFIG)
    fitter.improve(MOSAICS[0])
    before = {name: value.clone() for name, value in fitter.state().items()}
    fitter.measure(MOSAICS[1])
    fitter.apply_measured()
    changed = {name for name, value in fitter.state().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(".running_" in name for name in changed)


def test_order_of_the_mosaics_does_not_count_in_the_statistics() -> None:
    one, other = fitter_of(CONFIG), fitter_of(CONFIG)
    for mosaic in MOSAICS:
        one.measure(mosaic)
    for mosaic in MOSAICS[::-1]:
        other.measure(mosaic)
    for fitter in (one, other):
        fitter.apply_measured()
    for ours, theirs in zip(one.state().values(), other.state().values(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_channel_that_hardly_varies_has_no_negative_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference of float32 squares would be off by more than the variance, to either side of 0."""
    fitter = fitter_of(CONFIG)
    norm = fitter.engine.network.response_norm
    means = [1000.0, 1000.01, 1000.03]
    script = iter(means)

    def look(mosaic: NDArray[np.uint8], limit: int) -> None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.fill_(next(script))
        norm.running_var.fill_(1e-6)

    fitter.engine.network.train()
    monkeypatch.setattr(fitter, "_iterate", look)
    for _ in means:
        fitter.measure(MOSAICS[0])
    fitter.apply_measured()
    assert norm.running_var is not None
    expected = 1e-6 + np.var(np.float32(means).astype(float))
    np.testing.assert_allclose(norm.running_var.numpy(), expected, rtol=0.02)


def test_statistics_can_be_taken_again() -> None:
    fitter = fitter_of(CONFIG)
    for mosaic in MOSAICS:
        fitter.measure(mosaic)
    fitter.apply_measured()
    again = fitter_of(CONFIG)
    again.measure(mosaic_of(6, 7))
    again.apply_measured()
    for mosaic in MOSAICS:
        again.measure(mosaic)
    again.apply_measured()
    for ours, theirs in zip(again.state().values(), fitter.state().values(), strict=True):
        assert torch.equal(ours, theirs)


# Numbers


def counts(labels: NDArray[Any]) -> NDArray[np.int64]:
    return np.bincount(labels.reshape(-1), minlength=CONFIG.clusters)


@KINDS
def test_labels_are_numbered_by_area_and_stay_themselves(config: SegmentConfig) -> None:
    fitter = fitter_of(config)
    for mosaic in MOSAICS:
        fitter.improve(mosaic)
    for mosaic in MOSAICS:
        fitter.measure(mosaic)
    fitter.apply_measured()
    before = [fitter.engine.apply(mosaic).labels for mosaic in MOSAICS]
    areas = sum(map(counts, before), np.zeros(config.clusters, np.int64))
    assert np.count_nonzero(areas) > 1
    assert (np.diff(areas) > 0).any(), "there is something to renumber"
    fitter.number_by_area(areas)
    after = [fitter.engine.apply(mosaic).labels for mosaic in MOSAICS]
    new_areas = sum(map(counts, after), np.zeros(config.clusters, np.int64))
    assert (np.diff(new_areas) <= 0).all()
    assert sorted(new_areas) == sorted(areas)
    pairs = {(old, new) for a, b in zip(before, after, strict=True) for old, new in zip(a.flat, b.flat, strict=True)}
    assert len(pairs) == np.count_nonzero(areas), "one number takes the place of one number, in all images"


# Going on


@KINDS
def test_fit_goes_on_from_its_state_bit_for_bit(config: SegmentConfig) -> None:
    whole, first, second = fitter_of(config), fitter_of(config), fitter_of(config)
    for mosaic in MOSAICS:
        whole.improve(mosaic)
    first.improve(MOSAICS[0])
    second.improve(noise(3, 64, 32))  # whatever it did before
    second.load_state({name: value.clone() for name, value in first.state().items()})
    for mosaic in MOSAICS[1:]:
        second.improve(mosaic)
    expected, found = whole.state(), second.state()
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        if "num_batches_tracked" not in name:
            assert torch.equal(found[name], value), name


@pytest.mark.parametrize(
    "other",
    [{"features": 16}, {"clusters": 9}, {"blocks": 2}, {"backbone": "resnet18-fpn", "weights": "random"}],
    ids=lambda other: next(iter(other)),
)
def test_state_of_another_network_is_refused_and_changes_nothing(other: dict[str, Any]) -> None:
    fitter = fitter_of(CONFIG)
    before = {name: value.clone() for name, value in fitter.state().items()}
    with pytest.raises(ValueError, match="state of another network"):
        fitter.load_state(fitter_of(dataclasses.replace(CONFIG, **other)).state())
    assert all(torch.equal(value, before[name]) for name, value in fitter.state().items())


# Results


@KINDS
def test_model_is_what_the_engine_applies(config: SegmentConfig, tmp_path: Path) -> None:
    fitter = fitter_of(config)
    for mosaic in MOSAICS:
        fitter.improve(mosaic)
        fitter.measure(mosaic)
    fitter.apply_measured()
    (tmp_path / "model.safetensors").write_bytes(fitter.model())
    engine = Engine(read_model(tmp_path / "model.safetensors"), "cpu")
    image = made_scene(9, 60, 45)[0]
    segmentation = engine.segment(image)
    np.testing.assert_array_equal(segmentation.labels, fitter.engine.apply(image).labels)
    assert segmentation.fit.stop_reason == "model"
    assert segmentation.fit.iterations == 0


def labels_left(mosaics: list[NDArray[np.uint8]], *, learned_scale: bool = False) -> int:
    """Over all scenes after a long fit, those of less than a thousandth of the pixels left out."""
    fitter = fitter_of(dataclasses.replace(CONFIG, features=32, clusters=27))
    if learned_scale:
        fitter = _with_learned_scale(fitter)
    for _ in range(20):
        for mosaic in mosaics:
            fitter.improve(mosaic)
    for mosaic in mosaics:
        fitter.measure(mosaic)
    fitter.apply_measured()
    areas = np.bincount(np.ravel([fitter.engine.apply(mosaic).labels for mosaic in mosaics]))
    return int((areas > areas.sum() / 1000).sum())


def _with_learned_scale(fitter: FolderFitter) -> FolderFitter:
    engine = fitter.engine
    engine.network.response_norm.requires_grad_(requires_grad=True)
    engine.fitter = Fitter(engine.network, engine.config, torch.float32)
    return fitter


def test_labels_survive_a_long_fit_as_they_would_not_with_a_learned_scale() -> None:
    scenes = [made_scene(seed, 24, 24)[0] for seed in range(24)]
    mosaics = [np.concatenate(np.hstack([scenes[i : i + 4], scenes[i + 4 : i + 8]]), axis=1) for i in (0, 8, 16)]
    assert {mosaic.shape for mosaic in mosaics} == {(48, 96, 3)}
    assert labels_left(mosaics) >= 7
    assert labels_left(mosaics, learned_scale=True) <= 4


@pytest.mark.requires_cuda
@pytest.mark.parametrize("features", [8, 13])
def test_cuda_fits_a_folder_as_the_cpu_does(features: int) -> None:
    """13 is aligned to 16 there, and saved without."""
    config = dataclasses.replace(CONFIG, features=features, clusters=8)
    models = {}
    for device in ("cpu", "cuda"):
        fitter = FolderFitter(config, device)
        fits = [fitter.improve(mosaic) for mosaic in MOSAICS]
        for mosaic in MOSAICS:
            fitter.measure(mosaic)
        fitter.apply_measured()
        fitter.number_by_area(sum(counts(fitter.engine.apply(mosaic).labels) for mosaic in MOSAICS))  # type: ignore[arg-type]
        models[device] = fits, [fitter.engine.apply(mosaic).labels for mosaic in MOSAICS], fitter.state()
    (ours, our_labels, _), (theirs, their_labels, _) = models["cpu"], models["cuda"]
    np.testing.assert_allclose([fit.loss[-1] for fit in ours], [fit.loss[-1] for fit in theirs], rtol=0.02)
    agreeing = [(one == other).mean() for one, other in zip(our_labels, their_labels, strict=True)]
    assert np.mean(agreeing) > 0.95


@pytest.mark.requires_cuda
def test_cuda_goes_on_from_a_state_as_if_it_had_not_stopped() -> None:
    whole, first, second = (FolderFitter(CONFIG, "cuda") for _ in range(3))
    for mosaic in MOSAICS:
        whole.improve(mosaic)
    first.improve(MOSAICS[0])
    second.load_state(first.state())
    for mosaic in MOSAICS[1:]:
        second.improve(mosaic)
    for name, value in whole.state().items():
        torch.testing.assert_close(second.state()[name], value, rtol=1e-3, atol=1e-4)
