"""Labelling by kernels against the plain operations: on a CUDA device, and elsewhere under Triton's interpreter.

`test_kernels` runs this file again under the interpreter, which is slow: images are tiny here.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from step_samples import NothingFromTheHost
from torch import Tensor

from dynaseg_cli.engine import labelling
from dynaseg_cli.engine.device import STRICT
from dynaseg_cli.engine.guided_filter import apply_coefficients
from dynaseg_cli.engine.labelling import (
    FILTER_RADIUS,
    FILTER_REGULARISATION,
    area_weights,
    label_with_fit,
    label_with_model,
    to_input,
)
from dynaseg_cli.engine.precision import exact_arithmetic
from dynaseg_cli.method.network import SegmentationNetwork
from dynaseg_cli.resampling import shrink

pytest.importorskip("triton", reason="no Triton for this platform: labelling by kernels is not tested")

from test_compiled_kernels import compiling, resources
from test_kernels import DEVICE, INTERPRETED, on_device
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.runtime.jit import JITFunction

from dynaseg_cli.engine import guided_filter
from dynaseg_cli.engine.cuda import fused_labelling
from dynaseg_cli.engine.cuda import labelling_kernels as kernels

without_device = pytest.mark.skipif(INTERPRETED, reason="the interpreter launches nothing")
CPU = torch.device("cpu")
Photo = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def exactly() -> Iterator[None]:
    with exact_arithmetic():
        yield


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def noise(height: int, width: int) -> Photo:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def scene(height: int, width: int) -> Photo:
    """Four areas of noisy colours."""
    image = np.random.default_rng(0).normal([60, 120, 90], 12, (height, width, 3))
    image[: height // 2] += [90, -40, 20]
    image[:, width // 2 :] += [-20, 60, 80]
    return image.clip(0, 255).astype(np.uint8)


def some_network(
    photo: Photo, blocks: int = 2, features: int = 5, clusters: int = 6, device: torch.device = DEVICE
) -> SegmentationNetwork:
    """With the statistics of a photo, scales and shifts that are not 1 and 0, and clear responses."""
    network = SegmentationNetwork(blocks, features, clusters)
    network.initialise(0)
    generator = torch.Generator().manual_seed(1)
    for norm in (*network.feature_norms, network.response_norm):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
        torch.nn.init.uniform_(norm.bias, -0.5, 0.5, generator=generator)
    with torch.no_grad():
        network.train()(to_input(photo, CPU))
    return network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


# --- Each kernel -----------------------------------------------------------------------------------------------------


@on_device
@pytest.mark.parametrize(
    ("size", "channels", "radius"),
    [((1, 9), 1, 1), ((5, 1), 3, 1), ((2, 20), 64, 1), ((2, 5), 70, 2), ((4, 8), 5, FILTER_RADIUS)],
    ids=str,
)
def test_coefficients_are_those_of_the_plain_operations(size: tuple[int, int], channels: int, radius: int) -> None:
    """They are nearer to those in float64 than these are in float32. Half of the guide is of one colour."""
    guide, maps = noise(*size), 5 + random(*size, channels)
    guide[:, : size[1] // 2] = 255
    actual = kernels.guided_coefficients(torch.tensor(guide, device=DEVICE), maps, radius, FILTER_REGULARISATION)
    x, by_channel = to_input(guide, CPU).double(), maps.cpu().permute(2, 0, 1)[None]
    expected = guided_filter.guided_coefficients(x, by_channel.double(), radius, FILTER_REGULARISATION)
    plain = guided_filter.guided_coefficients(x.float(), by_channel, radius, FILTER_REGULARISATION)
    error, usual = ((found - expected).abs().max() for found in (actual.cpu().permute(3, 2, 0, 1), plain))
    assert error < usual < 1e-3


@on_device
def test_a_guide_of_one_colour_averages() -> None:
    maps = random(3, 4, 3)
    guide = torch.full((3, 4, 3), 200, dtype=torch.uint8, device=DEVICE)
    actual = kernels.guided_coefficients(guide, maps, 1, FILTER_REGULARISATION).permute(3, 2, 0, 1)
    averaged = guided_filter.box_mean(guided_filter.box_mean(maps.permute(2, 0, 1)[None].double(), 1), 1)[0]
    torch.testing.assert_close(actual[:, 3].double(), averaged, rtol=1e-5, atol=1e-6)
    assert actual[:, :3].abs().max() < 1e-4


@on_device
@pytest.mark.parametrize("reach", [0, 1, 8])
def test_smooth_guide_is_that_of_the_plain_operations(reach: int) -> None:
    """More pixels in a row than one program holds; at the border, and where neighbouring tiles go on."""
    photo = noise(3, kernels.PHOTO_TILE + 9)
    for rows, columns in ((slice(1, 2), slice(0, kernels.PHOTO_TILE + 5)), (slice(0, 1), slice(250, 265))):
        actual = kernels.smooth(torch.tensor(photo, device=DEVICE), rows, columns, reach)
        expected = labelling._smoothed(photo, rows, columns, reach, CPU).permute(1, 2, 0)
        torch.testing.assert_close(actual.cpu(), expected, rtol=1e-6, atol=1e-6)


@on_device
@pytest.mark.parametrize("channels", [1, 5, 70])
@pytest.mark.parametrize(("coarse", "size"), [((3, 4), (7, 11)), ((1, 9), (2, 20)), ((5, 1), (5, 1))], ids=str)
def test_labels_are_the_argmax_of_the_filtered_maps(
    coarse: tuple[int, int], size: tuple[int, int], channels: int
) -> None:
    coefficients, guide = random(*coarse, 4, channels), random(*size, 3, seed=1).abs()
    present = torch.arange(channels) % 3 != 1
    filtered = apply_coefficients(
        coefficients.cpu().double().permute(3, 2, 0, 1),
        guide.cpu().double().permute(2, 0, 1),
        slice(0, size[0]),
        slice(0, size[1]),
        size,
    )[present]
    labels = torch.full(size, -7, dtype=torch.int16, device=DEVICE)
    for rows, columns in labelling.tiles(*size, 8):
        part = guide[rows, columns].contiguous()
        kernels.write_labels(coefficients, part, present.int().to(DEVICE), rows, columns, labels)
    expected = present.nonzero()[:, 0][filtered.argmax(0)]
    best = filtered.topk(min(2, len(filtered)), 0).values
    decided = best[0] - best[-1] > 1e-5 if len(filtered) > 1 else torch.ones(size, dtype=torch.bool)
    assert decided.double().mean() > 0.95
    assert torch.equal(labels.cpu()[decided].long(), expected[decided])
    assert present[labels.cpu().long()].all()


@on_device
def test_first_of_equal_maps_is_the_label() -> None:
    """In one block of channels and in the next."""
    coefficients = random(2, 3, 4, 1).expand(2, 3, 4, 100).contiguous()
    guide, labels = random(4, 6, 3).abs(), torch.empty((4, 6), dtype=torch.int16, device=DEVICE)
    for first in (0, 7, 64, 99):
        present = (torch.arange(100, device=DEVICE) >= first).int()
        kernels.write_labels(coefficients, guide, present, slice(0, 4), slice(0, 6), labels)
        assert (labels == first).all()


# --- The network's response, averaged --------------------------------------------------------------------------------


def by_definition(network: SegmentationNetwork, photo: Photo) -> Tensor:
    """The response of a network in float64, (q, H, W)."""
    network = copy.deepcopy(network).double()
    x = to_input(photo, DEVICE).double()
    for convolution, norm in zip(network.feature_convolutions, network.feature_norms, strict=True):
        x = norm(torch.relu(convolution(x)))
    response: Tensor = network.response_norm(network.classifier(x))[0]
    return response


@on_device
@pytest.mark.parametrize(
    ("size", "coarse", "blocks", "tile_size"),
    [((6, 7), (3, 3), 2, 4), ((6, 7), (3, 3), 2, 100), ((7, 1), (3, 1), 1, 4), ((4, 5), (4, 5), 3, 100)],
    ids=str,
)
def test_averaged_response_is_that_of_the_network(
    size: tuple[int, int], coarse: tuple[int, int], blocks: int, tile_size: int
) -> None:
    """In float64, of the whole photo at once."""
    photo = noise(*size)
    network = some_network(photo, blocks)
    with torch.inference_mode():
        actual = fused_labelling.averaged_response(network, photo, coarse, torch.float32, tile_size)
        response = by_definition(network, photo)
    down, across = (
        torch.tensor(area_weights(fine, few)).double().to(DEVICE) for fine, few in zip(size, coarse, strict=True)
    )
    torch.testing.assert_close(actual.permute(2, 0, 1), (down @ response @ across.T).float(), rtol=1e-4, atol=1e-4)


@on_device
def test_bfloat16_is_about_as_near_as_the_plain_operations() -> None:
    photo = scene(10, 13)
    network = some_network(photo, features=24, clusters=16)
    with torch.inference_mode():
        expected = by_definition(network, photo).permute(1, 2, 0)
        actual = fused_labelling.averaged_response(network, photo, (10, 13), torch.bfloat16, 100)
        plain = labelling._response(network, to_input(photo, DEVICE), torch.bfloat16)[0].permute(1, 2, 0)
    # The interpreter rounds towards 0, which doubles its errors.
    assert (actual - expected).norm() < (2 if INTERPRETED else 1.2) * (plain - expected).norm()


@on_device
def test_mirrored_response_is_that_of_the_plain_operations() -> None:
    photo = scene(3, 5)
    network = some_network(photo)
    with torch.inference_mode():
        actual = fused_labelling.averaged_response(network, photo, (3, 5), torch.float32, 3, mirrored=True)
        (_, _, expected), *others = labelling._responses(network, photo, torch.float32, 100, mirrored=True)
    assert not others
    torch.testing.assert_close(actual.permute(2, 0, 1), expected[0], rtol=1e-4, atol=1e-4)


# --- Labels ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def by_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain operations fail, and windows are small: the interpreter computes one pixel of a window at a time."""
    monkeypatch.setattr(labelling, "has_triton", lambda device: True)
    monkeypatch.setattr(labelling, "_label_filtered", None)
    monkeypatch.setattr(fused_labelling, "FILTER_RADIUS", 1)


def assert_highest(labels: NDArray[np.int16], filtered: Tensor, kept: Tensor) -> None:
    """No label kept, (K,), has a filtered response, (K, H, W), above that of the label given."""
    present = kept.tolist()
    assert set(np.unique(labels)) <= set(present)
    given = torch.tensor(np.searchsorted(present, labels), device=filtered.device)
    chosen = filtered.gather(0, given[None])[0]
    assert (filtered.max(0).values - chosen).max() < 1e-3


def filtered_plainly(photo: Photo, small: Photo, response: Tensor) -> Tensor:
    """(K, H, W) from (1, K, h, w)."""
    guide = to_input(small, DEVICE)
    coefficients = guided_filter.guided_coefficients(guide, response, 1, FILTER_REGULARISATION)
    rows, columns = slice(0, photo.shape[0]), slice(0, photo.shape[1])
    smooth = labelling._smoothed(photo, rows, columns, labelling.guide_reach(photo, small), DEVICE)
    return apply_coefficients(coefficients, smooth, rows, columns, photo.shape[:2])


@on_device
@pytest.mark.usefixtures("by_kernels")
@pytest.mark.parametrize(
    ("photo", "fitted_size", "labels", "tile_size"),
    [
        (scene(6, 8), (2, 3), [1, 2, 5], 100),
        (scene(6, 4), (3, 2), [0, 1, 2, 3, 4, 5], 4),
        (noise(8, 1), (3, 1), [2, 3], 100),
        (np.full((4, 6, 3), 90, np.uint8), (2, 3), [0, 4], 100),
        (noise(3, 4), (1, 2), [4], 100),
    ],
    ids=["landscape", "portrait, in tiles", "a column", "one colour", "one label"],
)
def test_labels_are_those_of_the_plain_operations(
    photo: Photo, fitted_size: tuple[int, int], labels: list[int], tile_size: int
) -> None:
    network = some_network(noise(8, 8))
    fitted = torch.tensor(labels, device=DEVICE).repeat(20)[: fitted_size[0] * fitted_size[1]].view(fitted_size)
    kept = torch.unique(fitted)
    small = shrink(photo, fitted_size[1], fitted_size[0])
    with torch.inference_mode():
        detailed = shrink(photo, *labelling.working_size(photo.shape[1], photo.shape[0], round(2.5 * max(fitted_size))))
        response = labelling._averaged_response(network, detailed, kept, fitted_size, torch.float32, 100, lambda: None)
        filtered = filtered_plainly(photo, small, response)
    heard: list[None] = []
    actual = label_with_fit(network, photo, fitted, torch.float32, tile_size, lambda: heard.append(None))
    assert (actual.shape, actual.dtype) == (photo.shape[:2], np.int16)
    assert_highest(actual, filtered, kept)
    tiles = (list(labelling.tiles(*image.shape[:2], tile_size)) for image in (detailed, photo))
    assert len(heard) == sum(map(len, tiles))


@on_device
@pytest.mark.usefixtures("by_kernels")
def test_labels_of_a_folders_network_are_those_of_the_plain_operations() -> None:
    photo = scene(6, 8)
    network, small = some_network(photo), shrink(photo, 3, 2)
    with torch.inference_mode():
        ((_, _, response),) = labelling._responses(network, small, torch.float32, 100, mirrored=True)
        kept = torch.unique(response.max(1).indices)
        filtered = filtered_plainly(photo, small, response[:, kept])
    actual = label_with_model(network, photo, (2, 3), torch.float32, 100)
    assert_highest(actual, filtered, kept)


@pytest.mark.requires_cuda
def test_maps_of_more_values_than_32_bits_can_count() -> None:
    """Takes 20 GB of the device. The last rows do not depend on how many there are above."""
    height, width, channels = 9000, 1000, 64
    guide = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, device=DEVICE)
    maps = torch.randn((height, width, channels), device=DEVICE)
    whole = kernels.guided_coefficients(guide, maps, FILTER_RADIUS, FILTER_REGULARISATION)
    part = kernels.guided_coefficients(
        guide[-20:].contiguous(), maps[-20:].contiguous(), FILTER_RADIUS, FILTER_REGULARISATION
    )
    assert whole.numel() > 1 << 31
    assert torch.equal(whole[-5:], part[-5:])


# --- Without a device ------------------------------------------------------------------------------------------------


class Arrived(Exception):  # noqa: N818 - no error
    """Labels are copied to the host."""


class Operations(NothingFromTheHost):
    """Lists operations that launch something, down to a copy to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.launched: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace == "aten":
            with self:
                made = func.decompose(*args, **(kwargs or {}))
            if made is not NotImplemented:
                return made
        made = super().__torch_dispatch__(func, types, args, kwargs)
        if func.namespace == "aten" and not func.is_view and not re.search("empty|view", func.name()):
            self.launched.append(func.name())
        if isinstance(made, Tensor) and made.device.type == "cpu":
            raise Arrived
        return made


@without_device
@pytest.mark.parametrize("portrait", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_image_takes_few_launches_and_one_wait(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, portrait: bool
) -> None:
    """On tensors without values, without launching kernels. An operation that needs a value raises an error there."""
    operations, sizes = Operations(), [(321, 481), (85, 128), (214, 320)]
    photo, fitted, detailed = [(width, height) for height, width in sizes] if portrait else sizes

    def upload(image: Photo, device: torch.device) -> Tensor:
        operations.launched.append("upload")
        return torch.empty(image.shape, dtype=torch.uint8, device=device)

    def launch(kernel: JITFunction[Any], grid: object) -> Any:
        return lambda *_, **__: operations.launched.append("kernel")

    monkeypatch.setattr(JITFunction, "__getitem__", launch)
    monkeypatch.setattr(fused_labelling, "on_device", upload)
    monkeypatch.setattr(labelling, "_has_kernels", lambda network, dtype: True)
    monkeypatch.setattr(labelling, "shrink", lambda image, width, height: np.empty((height, width, 3), np.uint8))
    with FakeTensorMode():
        cuda = torch.device("cuda")
        with cuda:
            network = SegmentationNetwork(3, 64, 64)
            labels = torch.zeros(sizes[1], dtype=torch.int64)
        with pytest.raises(Arrived), operations:
            image = np.empty((*photo, 3), np.uint8)
            label_with_fit(network, image, labels.T if portrait else labels, dtype, labelling.TILE_SIZE["cuda"])
    assert labelling.working_size(*photo[::-1], round(2.5 * max(fitted))) == detailed[::-1]
    assert operations.launched.count("kernel") == 8
    # 22, and 1 for portraits. Without a device torch expects bfloat16 convolutions to lose the order of channels, at 2
    # more.
    assert len(operations.launched) <= 25


@without_device
@pytest.mark.slow
@pytest.mark.parametrize(
    ("features", "clusters", "dtype"),
    [(64, 64, torch.bfloat16), (104, 100, torch.float32)],
    ids=str,
)
def test_compiled_for_an_h100_kernels_spill_nothing_and_serve_all_sizes(
    tmp_path: Path, features: int, clusters: int, dtype: torch.dtype
) -> None:
    network = SegmentationNetwork(3, features, clusters).eval()
    with torch.inference_mode(), compiling(tmp_path) as compiled:
        for height, width in [(31, 48), (16, 16), (1, 9), (9, 1)]:
            photo, size = np.empty((height, width, 3), np.uint8), (-(-height // 3), -(-width // 3))
            response = fused_labelling.averaged_response(network, photo, size, dtype, 1024)
            fitted = torch.zeros(size, dtype=torch.int64)
            fused_labelling.label_filtered(photo, shrink(photo, *size[::-1]), response, fitted, 1024, lambda: None)
    assert len({kernel.name for kernel in compiled}) == len(compiled) == 7
    for kernel in compiled:
        _, spilled = resources(kernel)
        assert spilled == 0, kernel.name


@without_device
def test_where_kernels_cannot_run_plain_operations_label(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A CPU is such a place. One warning is enough."""
    photo = scene(12, 16)
    network, fitted = some_network(photo, device=CPU), torch.arange(12).remainder(5).view(3, 4)

    def labels() -> NDArray[np.int16]:
        return label_with_fit(network, photo, fitted, torch.float32, 100)

    expected = labels()
    monkeypatch.setattr(labelling, "has_triton", lambda device: True)
    monkeypatch.setattr(labelling, "_kernels_ran", {})
    for _ in range(2):
        np.testing.assert_array_equal(labels(), expected)
    (warning,) = caplog.records
    assert warning.message.startswith("cpu: continuing without fused kernels for labelling, more slowly: ")
    monkeypatch.setattr(labelling, "_kernels_ran", {})
    monkeypatch.setenv(STRICT, "1")
    with pytest.raises(Exception, match=r"(?i)cpu|driver|triton"):
        labels()


@without_device
def test_no_memory_to_try_kernels_is_not_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = scene(12, 16)
    network, fitted = some_network(photo, device=CPU), torch.zeros((3, 4), dtype=torch.int64)

    def lack(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(labelling, "has_triton", lambda device: True)
    monkeypatch.setattr(labelling, "_kernels_ran", {})
    monkeypatch.setattr(labelling, "_rehearse", lack)
    with pytest.raises(torch.OutOfMemoryError):
        label_with_fit(network, photo, fitted, torch.float32, 100)
    assert not labelling._kernels_ran
