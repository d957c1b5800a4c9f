from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from dynaseg_cli.config import PRESETS, Mode, Precision, SegmentConfig
from dynaseg_cli.engine import engine as engine_module
from dynaseg_cli.engine.device import is_out_of_memory
from dynaseg_cli.engine.engine import SMALLEST_SIZE, Engine
from dynaseg_cli.engine.fitting import Fit, Fitter
from dynaseg_cli.engine.labelling import label_with_fit
from dynaseg_cli.engine.networks import new_network
from dynaseg_cli.errors import DeviceMemoryError, DeviceUnavailableError, DivergedError
from dynaseg_cli.method.reference import reference_segment
from dynaseg_cli.method.silhouette import Silhouette, silhouette_phase
from dynaseg_cli.regions.segments import number_by_area

Image = NDArray[np.uint8]

PAPER = dataclasses.replace(PRESETS["paper"], iterations=10, min_labels=3)
FAST = dataclasses.replace(PAPER, literal=False)
"""The paper's options in the engine's own operations."""
QUICK = SegmentConfig(
    iterations=4,
    min_labels=2,
    patience=0,
    max_size=0,
    levels=1,
    precision="float32",
    blocks=2,
    features=24,
    clusters=24,
)
RESNET = dataclasses.replace(QUICK, backbone="resnet18-fpn", weights="random", features=8, clusters=8, iterations=3)
CPU_ALLOCATOR_MESSAGE = (
    "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory:"
    " you tried to allocate 4611686018427387904 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.fixture(scope="module")
def wide(photo: Image) -> Image:
    """(24, 96, 3): wider than the smallest working size."""
    return np.tile(photo, (1, 3, 1))


def agreement(one: NDArray[np.integer], other: NDArray[np.integer]) -> float:
    """Fraction of pixels on which two label maps agree under the best renumbering."""
    table = np.zeros((int(one.max()) + 1, int(other.max()) + 1), dtype=np.int64)
    np.add.at(table, (one.reshape(-1), other.reshape(-1)), 1)
    return float(table[linear_sum_assignment(-table)].sum() / one.size)


class Run(NamedTuple):
    losses: list[float]
    labels: NDArray[np.integer]


def run_engine(image: Image, config: SegmentConfig, device: str) -> Run:
    result = Engine(config, device).segment(image)
    return Run(result.fit.loss, result.labels)


def run_reference(image: Image, config: SegmentConfig) -> Run:
    result = reference_segment(image, config, threshold=3)
    return Run(result.losses, number_by_area(result.labels).labels)


def typical_difference(
    one: Callable[[SegmentConfig], Run], other: Callable[[SegmentConfig], Run], mode: Mode
) -> tuple[float, float]:
    """The median over five seeds of the relative difference of the losses and of the agreement of the labels.

    argmax and abs have kinks. Where two runs land on different sides of one for the last bit of a float32, they part
    ways, rightly: about one seed in ten does. An error would part all of them.
    """
    differences, agreements = [], []
    for seed in range(5):
        config = dataclasses.replace(FAST, mode=mode, seed=seed)
        first, second = one(config), other(config)
        assert len(first.losses) == len(second.losses) == 10
        differences.append(np.abs(np.array(first.losses) / second.losses - 1).max())
        agreements.append(agreement(first.labels, second.labels))
    return float(np.median(differences)), float(np.median(agreements))


# The method


@pytest.mark.parametrize("mode", ["scf", "fsf", "fixed"])
def test_paper_preset_equals_the_reference_bit_for_bit(photo: Image, mode: Mode) -> None:
    config = dataclasses.replace(PAPER, mode=mode)
    result, reference = run_engine(photo, config, "cpu"), run_reference(photo, config)
    assert result.losses == reference.losses
    assert np.array_equal(result.labels, reference.labels)


@pytest.mark.parametrize("mode", ["scf", "fsf", "fixed"])
def test_engine_gives_what_the_reference_gives(patches: Image, mode: Mode) -> None:
    difference, agreed = typical_difference(
        lambda config: run_engine(patches, config, "cpu"), lambda config: run_reference(patches, config), mode
    )
    assert difference < 1e-4
    assert agreed > 0.999


@pytest.mark.parametrize("mode", ["scf", "fsf", "fixed"])
def test_first_iterations_on_a_larger_photo_are_those_of_the_reference(photo: Image, mode: Mode) -> None:
    config = dataclasses.replace(FAST, mode=mode, iterations=3)
    result, reference = run_engine(photo, config, "cpu"), run_reference(photo.copy(), config)
    np.testing.assert_allclose(result.losses[0], reference.losses[0], rtol=1e-5)
    np.testing.assert_allclose(result.losses, reference.losses, rtol=0.02)


def test_stop_threshold_is_k_of_the_silhouette_phase(photo: Image) -> None:
    config = dataclasses.replace(QUICK, min_labels="auto", iterations=2)
    expected = silhouette_phase(photo, config.seed)
    record = Engine(config, "cpu").segment(photo).fit
    assert record.silhouette == expected
    assert record.threshold == expected.k


def test_silhouette_found_ahead_is_not_sought_again(monkeypatch: pytest.MonkeyPatch, photo: Image) -> None:
    def unexpected(image: Image, seed: int) -> Silhouette:
        raise AssertionError("the silhouette phase was done again")

    monkeypatch.setattr(engine_module, "silhouette_phase", unexpected)
    ahead = Silhouette(24, {24: 0.5})
    record = Engine(dataclasses.replace(QUICK, min_labels="auto"), "cpu").segment(photo, ahead).fit
    assert record.silhouette == ahead
    assert (record.threshold, record.stop_reason, record.iterations) == (24, "threshold", 1)


def test_fixed_threshold_makes_the_silhouette_phase_unnecessary(photo: Image) -> None:
    engine = Engine(dataclasses.replace(QUICK, min_labels=7), "cpu")
    assert engine.find_silhouette(photo) is None
    record = engine.segment(photo).fit
    assert record.silhouette is None
    assert record.threshold == 7


def test_seed_changes_the_result(photo: Image) -> None:
    losses = [Engine(dataclasses.replace(QUICK, seed=seed), "cpu").segment(photo).fit.loss[0] for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("max_size", [0, 16])
def test_result_does_not_depend_on_what_was_segmented_before(photo: Image, wide: Image, max_size: int) -> None:
    config = dataclasses.replace(QUICK, max_size=max_size)
    engine = Engine(config, "cpu")
    first = engine.segment(photo)
    assert not np.array_equal(engine.segment(wide).labels[:, :32], first.labels)
    again = engine.segment(photo)
    fresh = Engine(config, "cpu").segment(photo)
    for other in (again, fresh):
        assert np.array_equal(other.labels, first.labels)
        assert other.fit.loss == first.fit.loss


def test_result_does_not_depend_on_an_image_that_failed_before(monkeypatch: pytest.MonkeyPatch, photo: Image) -> None:
    expected = Engine(QUICK, "cpu").segment(photo)
    engine = Engine(QUICK, "cpu")

    def stop_at_three(iteration: int, present: int) -> None:
        if iteration == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        engine.segment(photo[::-1].copy(), on_iteration=stop_at_three)
    assert np.array_equal(engine.segment(photo).labels, expected.labels)


# Labels


@pytest.mark.parametrize("max_size", [0, 16])
def test_labels_have_the_size_of_the_image_and_are_numbered_by_falling_area(photo: Image, max_size: int) -> None:
    result = Engine(dataclasses.replace(QUICK, max_size=max_size), "cpu").segment(photo)
    assert result.labels.shape == photo.shape[:2]
    assert result.labels.dtype == np.uint8
    areas = np.bincount(result.labels.reshape(-1))
    assert len(areas) == result.num_labels > 2
    assert areas.min() > 0
    assert (np.diff(areas) <= 0).all()


def test_image_is_fitted_at_the_working_size_and_recorded_so(wide: Image) -> None:
    record = Engine(dataclasses.replace(QUICK, max_size=32), "cpu").segment(wide).fit
    assert (record.width, record.height) == (32, 8)
    assert record.iterations == len(record.loss) == 4
    assert record.stop_reason == "iterations"


def test_network_fitted_small_labels_at_full_resolution(photo: Image) -> None:
    """Upsampled labels would be equal in blocks of the shrinking factor."""
    result = Engine(dataclasses.replace(QUICK, max_size=16), "cpu").segment(photo)
    blocks = result.labels.reshape(12, 2, 16, 2)
    assert (blocks != blocks[:, :1, :, :1]).any(axis=(1, 3)).mean() > 0.1


def test_small_regions_are_merged(photo: Image) -> None:
    config = dataclasses.replace(QUICK, min_region=40)
    assert Engine(QUICK, "cpu").segment(photo).num_labels > Engine(config, "cpu").segment(photo).num_labels


@pytest.mark.parametrize("max_size", [0, 16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 40), (40, 1)], ids=str)
def test_narrow_images_have_labels_too(shape: tuple[int, int], max_size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    config = dataclasses.replace(QUICK, max_size=max_size, min_labels="auto")
    result = Engine(config, "cpu").segment(image)
    assert result.labels.shape == shape
    assert np.isfinite(result.fit.loss).all()
    assert len(result.fit.loss) == result.fit.iterations


def test_one_pixel_is_one_label() -> None:
    result = Engine(QUICK, "cpu").segment(np.full((1, 1, 3), 9, dtype=np.uint8))
    assert result.labels.tolist() == [[0]]
    assert (result.num_labels, result.fit.labels_per_iteration) == (1, [1])


@pytest.mark.parametrize("options", [{}, {"min_labels": 3}, {"max_size": 0, "literal": True}, {"levels": 2}], ids=str)
@pytest.mark.parametrize("value", [0, 128, 255])
def test_image_of_one_colour_is_one_label(value: int, options: dict[str, Any]) -> None:
    image = np.full((70, 50, 3), value, dtype=np.uint8)
    config = dataclasses.replace(QUICK, **{"min_labels": "auto", "max_size": 32, **options})
    told: list[tuple[int, int, tuple[int, ...]]] = []
    result = Engine(config, "cpu").segment(image, on_labels=lambda *now: told.append((*now[:2], now[2].shape)))
    assert result.labels.shape == (70, 50)
    assert not result.labels.any()
    assert result.num_labels == 1
    assert told == [(1, 1, (result.fit.height, result.fit.width))]
    lists = (result.fit.labels_per_iteration, result.fit.loss, result.fit.changed_fraction)
    assert [len(entries) for entries in lists] == [result.fit.iterations] * 3 == [1] * 3


def test_image_of_one_colour_but_for_a_pixel_is_fitted() -> None:
    image = np.full((300, 16, 3), 9, dtype=np.uint8)
    image[-1, -1, 2] = 10
    assert Engine(dataclasses.replace(QUICK, iterations=3, patience=0), "cpu").segment(image).fit.iterations == 3


def test_image_of_one_colour_takes_what_is_drawn() -> None:
    image, strokes = np.full((24, 32, 3), 9, np.uint8), np.full((24, 32), 255, np.uint8)
    strokes[3:5, 4:20] = 7
    one = Engine(QUICK, "cpu").segment(image, scribbles=strokes)
    assert np.unique(one.labels).tolist() == [7]
    strokes[15:17, 4:20] = 2
    two = Engine(QUICK, "cpu").segment(image, scribbles=strokes)
    assert (two.fit.threshold, two.num_labels) == (2, 2)
    assert (two.labels[:9] == 7).all()
    assert (two.labels[11:] == 2).all()


def test_array_may_have_any_strides(photo: Image) -> None:
    engine = Engine(QUICK, "cpu")
    for view in (photo[::-1], photo[:, ::-1], photo[::2, ::2], photo.transpose(1, 0, 2)):
        assert np.array_equal(engine.segment(view).labels, engine.segment(view.copy()).labels)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8,), dtype=np.uint8),
        np.zeros((3, 8, 8), dtype=np.uint8),
        np.zeros((1, 8, 8, 3), dtype=np.uint8),
        np.zeros((8, 8, 3), dtype=np.complex64),
        np.zeros((0, 8, 3), dtype=np.uint8),
        np.zeros((8, 0, 3), dtype=np.uint8),
    ],
    ids=lambda image: f"{image.shape} {image.dtype}",
)
def test_array_that_is_no_image_is_refused(image: Image) -> None:
    with pytest.raises(ValueError, match=r"\(H, W, 4\) array of numbers, not \("):
        Engine(QUICK, "cpu").segment(image)


def test_bfloat16_is_recorded(photo: Image) -> None:
    config = dataclasses.replace(QUICK, precision="bfloat16", iterations=2)
    result = Engine(config, "cpu").segment(photo)
    assert result.fit.precision == "bfloat16"
    assert result.fit.loss[0] == pytest.approx(Engine(QUICK, "cpu").segment(photo).fit.loss[0], rel=0.02)


# Errors


def test_unknown_device_is_refused_at_once() -> None:
    with pytest.raises(DeviceUnavailableError):
        Engine(QUICK, "quantum")


def test_divergence_has_a_name(photo: Image) -> None:
    with pytest.raises(DivergedError):
        Engine(dataclasses.replace(QUICK, learning_rate=1e38), "cpu").segment(photo)


def fit_failing(times: int, error: Exception, widths: list[int]) -> Callable[..., Fit]:
    """`Fitter.fit`, but the first `times` calls raise; the width of every call's image is noted."""
    original = Fitter.fit

    def fit(fitter: Fitter, levels: list[torch.Tensor], *options: object, **more: Any) -> Fit:
        widths.append(levels[-1].shape[3])
        if len(widths) <= times:
            raise error
        return original(fitter, levels, *options, **more)

    return fit


@pytest.mark.parametrize("config", [QUICK, dataclasses.replace(QUICK, max_size=48, levels=2), PAPER, RESNET])
def test_labels_of_the_iterations_are_there_for_who_asks(photo: Image, config: SegmentConfig) -> None:
    heard: list[tuple[int, int, NDArray[np.int16]]] = []
    expected = Engine(config, "cpu").segment(photo)
    result = Engine(config, "cpu").segment(photo, on_labels=lambda *news: heard.append(news))
    assert np.array_equal(result.labels, expected.labels)
    assert [(iteration, present) for iteration, present, _ in heard] == list(
        enumerate(result.fit.labels_per_iteration, start=1)
    )
    assert all(len(np.unique(labels)) == present for _, present, labels in heard)
    last = heard[-1][2]
    assert last.shape == (result.fit.height, result.fit.width)
    if last.shape == result.labels.shape:
        assert np.array_equal(result.numbers[last], result.labels)
    else:
        assert set(np.unique(result.labels)) <= set(result.numbers[np.unique(last)])


OUT_OF_MEMORY = [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(CPU_ALLOCATOR_MESSAGE), MemoryError()]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_fit_out_of_memory_is_retried_at_half_the_size(
    monkeypatch: pytest.MonkeyPatch, wide: Image, error: Exception
) -> None:
    expected = Engine(dataclasses.replace(QUICK, max_size=48), "cpu").segment(wide)
    widths: list[int] = []
    monkeypatch.setattr(Fitter, "fit", fit_failing(1, error, widths))
    result = Engine(QUICK, "cpu").segment(wide)
    assert widths == [96, 48]
    assert (result.fit.width, result.fit.height) == (48, 12)
    assert np.array_equal(result.labels, expected.labels)


def test_fit_out_of_memory_at_every_size_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch, wide: Image) -> None:
    widths: list[int] = []
    monkeypatch.setattr(Fitter, "fit", fit_failing(99, OUT_OF_MEMORY[0], widths))
    with pytest.raises(DeviceMemoryError, match=f"cpu is out of memory even at a working size of {SMALLEST_SIZE}"):
        Engine(QUICK, "cpu").segment(wide)
    assert widths == [96, 48, SMALLEST_SIZE]


def test_engine_serves_the_next_image_after_one_too_large(monkeypatch: pytest.MonkeyPatch, photo: Image) -> None:
    expected = Engine(QUICK, "cpu").segment(photo)
    engine = Engine(QUICK, "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(Fitter, "fit", fit_failing(99, OUT_OF_MEMORY[0], []))
        with pytest.raises(DeviceMemoryError):
            engine.segment(photo)
    assert np.array_equal(engine.segment(photo).labels, expected.labels)


def test_labelling_out_of_memory_is_retried_with_smaller_tiles(monkeypatch: pytest.MonkeyPatch, wide: Image) -> None:
    config = dataclasses.replace(QUICK, max_size=48)
    expected = Engine(config, "cpu").segment(wide)
    sizes: list[int] = []

    def label(network: object, image: Image, fitted: object, dtype: object, size: int, *rest: object) -> object:
        sizes.append(size)
        if len(sizes) <= 2:
            raise OUT_OF_MEMORY[0]
        return label_with_fit(network, image, fitted, dtype, size, *rest)

    monkeypatch.setattr(engine_module, "label_with_fit", label)
    monkeypatch.setitem(engine_module.TILE_SIZE, "cpu", 160)
    result = Engine(config, "cpu").segment(wide)
    assert sizes == [160, 80, 40]
    assert agreement(result.labels, expected.labels) > 0.999


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("memory"), InterruptedError()], ids=repr)
def test_any_other_error_surfaces(monkeypatch: pytest.MonkeyPatch, wide: Image, error: Exception) -> None:
    widths: list[int] = []
    monkeypatch.setattr(Fitter, "fit", fit_failing(99, error, widths))
    with pytest.raises(type(error)) as raised:
        Engine(QUICK, "cpu").segment(wide)
    assert raised.value is error
    assert widths == [96]


@pytest.mark.parametrize(
    ("message", "recognised"),
    [
        ("CUDA error: out of memory", True),
        ("Triton Error [CUDA]: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_what_asks_a_device_for_memory_by_itself_is_recognised_by_its_words(message: str, recognised: bool) -> None:
    assert is_out_of_memory(RuntimeError(message)) == recognised


def test_real_failure_of_the_cpu_allocator_is_recognised() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)


def test_an_image_is_segmented_without_scikit_learn() -> None:
    code = (
        "import sys; from dynaseg_cli import Engine, SegmentConfig; import numpy as np;"
        "Engine(SegmentConfig(iterations=1), 'cpu').segment(np.arange(300, dtype=np.uint8).reshape(10, 10, 3));"
        "assert 'sklearn' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


# The ResNet


@pytest.fixture(scope="module")
def resnet_photo(photo: Image) -> Image:
    """(72, 96, 3): the last stage has 3 x 3 pixels."""
    return photo.repeat(3, 0).repeat(3, 1)


@pytest.mark.parametrize("max_size", [0, 64])
def test_resnet_gives_equal_results_for_equal_runs_whatever_came_before(
    resnet_photo: Image, wide: Image, max_size: int
) -> None:
    config = dataclasses.replace(RESNET, max_size=max_size)
    engine = Engine(config, "cpu")
    first = engine.segment(resnet_photo)
    engine.segment(wide)
    for other in (engine.segment(resnet_photo), Engine(config, "cpu").segment(resnet_photo)):
        assert np.array_equal(other.labels, first.labels)
        assert other.fit.loss == first.fit.loss


def test_resnet_follows_the_losses_of_the_method(resnet_photo: Image) -> None:
    """The same three iterations in PyTorch's own words."""
    config = dataclasses.replace(RESNET, precision="float32")
    network = new_network(config).train()
    optimiser = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=1e-4)
    x = torch.tensor(resnet_photo).permute(2, 0, 1)[None].float() / 255
    losses = []
    for _ in range(3):
        response = network(x)
        labels = response.argmax(1)
        mu = 50 / max(len(labels.unique()), 2)
        loss = torch.nn.functional.cross_entropy(response, labels) + mu * (
            response.diff(dim=3).abs().mean() + response.diff(dim=2).abs().mean()
        )
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    result = Engine(config, "cpu").segment(resnet_photo)
    np.testing.assert_allclose(result.fit.loss, losses, rtol=5e-3)
    np.testing.assert_allclose(result.fit.loss[0], losses[0], rtol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_only_a_frozen_resnet_is_as_it_was_after_a_fit(resnet_photo: Image, frozen: bool) -> None:
    config = dataclasses.replace(RESNET, freeze_backbone=frozen)
    engine = Engine(config, "cpu")
    engine.segment(resnet_photo)
    before = new_network(config).state_dict()
    same = {name for name, value in engine.network.state_dict().items() if torch.equal(value, before[name])}
    counters = {name for name in before if name.endswith("num_batches_tracked")}
    trunk = {name for name in before if name.startswith("trunk.")}
    # Into a BatchNorm leads nothing that a shift would change: the classifier's bias has no gradient but of rounding.
    assert same - counters - {"classifier.bias"} == (trunk - counters if frozen else set())


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("levels", [1, 2])
def test_resnet_labels_at_the_size_of_the_photo(resnet_photo: Image, upright: bool, levels: int) -> None:
    image = resnet_photo.transpose(1, 0, 2) if upright else resnet_photo
    result = Engine(dataclasses.replace(RESNET, max_size=64, levels=levels), "cpu").segment(image)
    assert result.labels.shape == image.shape[:2]
    assert max(result.fit.width, result.fit.height) == 64
    assert len(result.fit.levels) == levels
    assert len(np.unique(result.labels)) == result.num_labels > 1


def test_resnet_labels_a_larger_photo_by_what_the_fit_ended_with(resnet_photo: Image) -> None:
    """The photo is constant over each working pixel, so the guided filter changes almost nothing."""
    config = dataclasses.replace(RESNET, max_size=96)
    small = Engine(config, "cpu").segment(resnet_photo)
    large = Engine(config, "cpu").segment(resnet_photo.repeat(2, 0).repeat(2, 1))
    assert large.fit.loss == small.fit.loss
    assert agreement(large.labels[::2, ::2], small.labels) > 0.8


@pytest.mark.parametrize("max_size", [0, 16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 2), (1, 40), (40, 1), (33, 17)], ids=str)
def test_resnet_labels_narrow_images_too(shape: tuple[int, int], max_size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    result = Engine(dataclasses.replace(RESNET, max_size=max_size, iterations=2), "cpu").segment(image)
    assert result.labels.shape == shape
    assert np.isfinite(result.fit.loss).all()


def test_resnet_out_of_memory_is_fitted_smaller(monkeypatch: pytest.MonkeyPatch, resnet_photo: Image) -> None:
    expected = Engine(dataclasses.replace(RESNET, max_size=48), "cpu").segment(resnet_photo)
    widths: list[int] = []
    monkeypatch.setattr(Fitter, "fit", fit_failing(1, OUT_OF_MEMORY[0], widths))
    result = Engine(RESNET, "cpu").segment(resnet_photo)
    assert widths == [96, 48]
    assert np.array_equal(result.labels, expected.labels)


def test_resnet_computes_in_bfloat16(resnet_photo: Image) -> None:
    exact, rounded = (
        Engine(dataclasses.replace(RESNET, precision=precision), "cpu").segment(resnet_photo)
        for precision in ("float32", "bfloat16")
    )
    assert (exact.fit.precision, rounded.fit.precision) == ("float32", "bfloat16")
    assert rounded.fit.loss[0] == pytest.approx(exact.fit.loss[0], rel=0.03)
    assert rounded.fit.loss != exact.fit.loss


def test_resnet_takes_the_preset_of_the_paper(photo: Image) -> None:
    config = dataclasses.replace(
        PAPER, backbone="resnet18-fpn", weights="random", iterations=2, features=8, clusters=8, min_labels=2
    )
    result = Engine(config, "cpu").segment(photo)
    assert (result.fit.width, result.fit.height, result.fit.iterations) == (32, 24, 2)


# CUDA


@pytest.mark.requires_cuda
@pytest.mark.parametrize("mode", ["scf", "fsf", "fixed"])
def test_cuda_gives_what_the_cpu_gives(patches: Image, mode: Mode) -> None:
    difference, agreed = typical_difference(
        lambda config: run_engine(patches, config, "cuda"), lambda config: run_engine(patches, config, "cpu"), mode
    )
    assert difference < 1e-3
    assert agreed > 0.99


@pytest.mark.requires_cuda
@pytest.mark.parametrize("config", [PAPER, QUICK], ids=["paper", "default"])
def test_cuda_gives_equal_results_for_equal_runs(photo: Image, config: SegmentConfig) -> None:
    first, again = (run_engine(photo, config, "cuda") for _ in range(2))
    assert first.losses == again.losses
    assert np.array_equal(first.labels, again.labels)


@pytest.mark.requires_cuda
@pytest.mark.parametrize("frozen", [False, True])
def test_cuda_gives_what_the_cpu_gives_of_the_resnet(resnet_photo: Image, frozen: bool) -> None:
    config = dataclasses.replace(RESNET, freeze_backbone=frozen)
    by_cuda, by_cpu = (run_engine(resnet_photo, config, device) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(by_cuda.losses[0], by_cpu.losses[0], rtol=1e-4)
    np.testing.assert_allclose(by_cuda.losses, by_cpu.losses, rtol=0.05)


@pytest.mark.requires_cuda
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_cuda_gives_equal_labels_of_the_resnet_for_equal_runs(resnet_photo: Image, precision: Precision) -> None:
    config = dataclasses.replace(RESNET, precision=precision, iterations=10)
    first, again = (run_engine(resnet_photo, config, "cuda") for _ in range(2))
    assert np.array_equal(first.labels, again.labels)


# Scribbles


@pytest.fixture(scope="module")
def twins() -> tuple[Image, Image, Image]:
    """Two patches that look alike on a ground: (60, 80, 3); which is which, 0, 1, 2; and a stroke on each."""
    truth = np.zeros((60, 80), dtype=np.uint8)
    truth[10:50, 8:36], truth[10:50, 44:72] = 1, 2
    image = np.array([[60, 110, 60], [170, 120, 90], [178, 128, 82]])[truth]
    image = image + np.random.default_rng(0).normal(0, 8, image.shape)
    strokes = np.full(truth.shape, 255, dtype=np.uint8)
    strokes[3:5, 4:76], strokes[28:31, 12:32], strokes[28:31, 48:68] = 9, 20, 4
    return image.clip(0, 255).astype(np.uint8), truth, strokes


SCRIBBLED = SegmentConfig(max_size=64, features=48, clusters=48, mode="fsf")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_scribbles_keep_apart_what_looks_alike(
    twins: tuple[Image, Image, Image], precision: Literal["float32", "bfloat16"]
) -> None:
    """Compares medians of five seeds, because rounding may tip a single fit either way."""
    image, truth, strokes = twins
    merged, kept, shares = [], [], []
    for seed in range(5):
        engine = Engine(dataclasses.replace(SCRIBBLED, precision=precision, seed=seed), "cpu")
        plain = engine.segment(image).labels
        one, other = (np.bincount(plain[truth == patch]).argmax() for patch in (1, 2))
        merged.append(one == other)
        result = engine.segment(image, scribbles=strokes)
        kept.append([(result.labels[strokes == label] == label).mean() for label in (9, 20, 4)])
        shares.append([(result.labels[truth == patch] == label).mean() for patch, label in enumerate((9, 20, 4))])
        assert result.num_labels == len(np.unique(result.labels))
        assert (result.fit.threshold, result.fit.silhouette) == (3, None)
    assert np.median(merged) == 1, "without strokes they are one"
    assert (np.median(kept, axis=0) > 0.9).all()
    assert (np.median(shares, axis=0) > 0.5).all()


def test_scribbles_on_one_image_leave_the_next_as_it_was(twins: tuple[Image, Image, Image]) -> None:
    image, _, strokes = twins
    engine = Engine(dataclasses.replace(QUICK, min_labels="auto"), "cpu")
    alone = engine.segment(image)
    first = engine.segment(image, scribbles=strokes)
    again = engine.segment(image)
    assert np.array_equal(again.labels, alone.labels)
    assert again.fit.loss == alone.fit.loss
    assert np.array_equal(engine.segment(image, scribbles=strokes).labels, first.labels)


def test_scribbles_that_are_free_everywhere_are_none(photo: Image) -> None:
    engine = Engine(dataclasses.replace(QUICK, min_labels="auto"), "cpu")
    expected = engine.segment(photo)
    result = engine.segment(photo, scribbles=np.full(photo.shape[:2], 255, dtype=np.uint8))
    assert np.array_equal(result.labels, expected.labels)
    assert result.fit.silhouette == expected.fit.silhouette
    assert result.fit.loss == expected.fit.loss


def test_literal_operations_take_scribbles_too(twins: tuple[Image, Image, Image]) -> None:
    image, _, strokes = twins
    runs = [Engine(dataclasses.replace(PAPER, literal=literal), "cpu") for literal in (True, False)]
    literal, by_hand = (engine.segment(image, scribbles=strokes) for engine in runs)
    np.testing.assert_allclose(by_hand.fit.loss[:3], literal.fit.loss[:3], rtol=1e-2)
    for result in (literal, by_hand):
        assert all((result.labels[strokes == label] == label).mean() > 0.9 for label in (9, 20, 4))


def test_a_pixel_that_is_the_whole_image_takes_the_label_drawn() -> None:
    result = Engine(QUICK, "cpu").segment(np.full((1, 1, 3), 9, np.uint8), scribbles=np.full((1, 1), 7, np.uint8))
    assert result.labels.tolist() == [[7]]
    assert result.num_labels == 1


@pytest.mark.parametrize(
    ("scribbles", "complaint"),
    [
        (np.zeros((3, 4), dtype=np.uint8), r"not \(3, 4\) uint8"),
        (np.zeros((24, 32), dtype=np.int64), "int64"),
        (np.full((24, 32), 24, dtype=np.uint8), "below 24, the number of `clusters`, not 24"),
    ],
    ids=["size", "type", "value"],
)
def test_scribbles_that_are_none_are_refused(photo: Image, scribbles: NDArray[np.integer], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Engine(QUICK, "cpu").segment(photo, scribbles=scribbles)  # type: ignore[arg-type]
