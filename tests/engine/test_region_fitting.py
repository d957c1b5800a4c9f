from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from numpy.typing import NDArray
from samples import noise
from scenes import made_scene
from sklearn.cluster import KMeans
from torch import Tensor, nn

from dynaseg_cli.config import FOLDER_FIT, Mode, SegmentConfig
from dynaseg_cli.engine.engine import BESIDE_SCALE
from dynaseg_cli.engine.region_fitting import STARTS, RegionFitter, RegionSet
from dynaseg_cli.errors import DivergedError
from dynaseg_cli.files.weights import identify
from dynaseg_cli.method.losses import continuity_loss, continuity_weight, similarity_loss
from dynaseg_cli.method.network import SegmentationNetwork
from dynaseg_cli.regions.hierarchy import build_hierarchy
from dynaseg_cli.regions.segments import boundary_shares

CLUSTERS = 6
CHANNELS = 96
"""Of the last map of timm's smallest network."""
SCENES = [made_scene(seed, 48, 36)[0] for seed in range(5)]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SegmentConfig:
    path = tmp_path_factory.mktemp("weights") / "made.pth"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        torch.save(timm.create_model("test_resnet").state_dict(), path)
    options = FOLDER_FIT | {"clusters": CLUSTERS, "epochs": 2, "iterations": 3, "max_size": 32, "min_labels": 1}
    return SegmentConfig(**options, backbone="timm:test_resnet", weights=identify(path), precision="float32")


def described(config: SegmentConfig, images: list[NDArray[np.uint8]] = SCENES) -> RegionFitter:
    fitter = RegionFitter(config, "cpu")
    for image in images:
        fitter.describe(image)
    return fitter


@pytest.fixture
def fitter(config: SegmentConfig) -> RegionFitter:
    return described(config)


def begun(config: SegmentConfig) -> SegmentConfig:
    """The same fit, which ends where it starts: all labels are few enough."""
    return dataclasses.replace(config, min_labels=CLUSTERS)


def network_of(fitter: RegionFitter) -> SegmentationNetwork:
    network = fitter.engine.network
    assert isinstance(network, SegmentationNetwork)
    return network


def values_of(network: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy({name: value for name, value in network.state_dict().items() if "num_batches" not in name})


def response_to(fitter: RegionFitter, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the network answers to (R, C) features, as the engine applies it: (R, q)."""
    network = network_of(fitter).eval()
    network.maps_beside = [torch.tensor(features).T[:, None]]
    with torch.inference_mode():
        response: NDArray[np.float32] = network(torch.zeros(1, 3, 1, len(features)))[0, :, 0].T.numpy()
    return response


def labels_of(fitter: RegionFitter) -> NDArray[np.intp]:
    labels: NDArray[np.intp] = response_to(fitter, RegionSet.joined(fitter.regions).features).argmax(1)
    return labels


# Regions


def test_regions_of_an_image_have_the_mean_features_of_their_pixels(config: SegmentConfig) -> None:
    fitter, image = described(config, SCENES[:1]), SCENES[0]
    (found,) = fitter.regions
    maps = fitter.engine.look(image)
    seen = [one.permute(1, 2, 0).numpy() for one in maps]
    regions = build_hierarchy(np.zeros(image.shape[:2], dtype=np.uint8), image, seen).cut()
    assert len(found.area) == regions.max() + 1 > 3
    pixels = nn.functional.interpolate(maps[-1][None], image.shape[:2], mode="bilinear")[0].numpy()
    for region in range(len(found.area)):
        inside = regions == region
        assert found.area[region] == pytest.approx(inside.mean(), rel=1e-6)
        expected = BESIDE_SCALE * pixels[:, inside].mean(1)
        np.testing.assert_allclose(found.features[region], expected, rtol=1e-3, atol=1e-5)
    pairs, length = boundary_shares(regions)
    np.testing.assert_array_equal(found.pairs, pairs)
    np.testing.assert_allclose(found.length, length, rtol=1e-6)


def test_regions_of_several_images_are_told_apart() -> None:
    one, other = made_regions(np.array([[0, 0, 1]])), made_regions(np.array([[0, 1, 2]]))
    joined = RegionSet.joined([one, other, one])
    assert joined.pairs.tolist() == [[0, 1], [2, 3], [3, 4], [5, 6]]
    np.testing.assert_allclose(joined.area, [2 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 1 / 3])
    np.testing.assert_allclose(joined.length, [0.5] * 4)
    np.testing.assert_array_equal(joined.features, np.concatenate([one.features, other.features, one.features]))


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (40, 30)], ids=str)
def test_image_of_one_colour_is_one_region(config: SegmentConfig, shape: tuple[int, int]) -> None:
    (found,) = described(config, [np.full((*shape, 3), 77, dtype=np.uint8)]).regions
    assert (found.area.tolist(), found.pairs.shape, found.length.shape) == ([1.0], (0, 2), (0,))
    assert found.features.shape == (1, CHANNELS)
    assert np.isfinite(found.features).all()


# Where the fit starts


def test_regions_start_with_the_label_of_the_nearest_centre(config: SegmentConfig) -> None:
    fitter = described(begun(config))
    regions = RegionSet.joined(fitter.regions)
    assert len(regions.area) > 2 * CLUSTERS
    areas = fitter.fit()
    means = KMeans(CLUSTERS, n_init=STARTS, random_state=0)
    expected = means.fit(regions.features, sample_weight=regions.area).labels_
    np.testing.assert_array_equal(labels_of(fitter), expected)
    np.testing.assert_allclose(areas, np.bincount(expected, regions.area, CLUSTERS) / len(SCENES), rtol=1e-5)


def test_normalisation_is_undone_at_the_start(config: SegmentConfig) -> None:
    """Unit variance of each channel would make labels equally frequent, and things are not."""
    fitter = described(begun(config))
    fitter.fit()
    features = RegionSet.joined(fitter.regions).features
    classifier = network_of(fitter).classifier
    assert classifier.bias is not None
    linear = features @ classifier.weight.detach().numpy()[:, :, 0, 0].T + classifier.bias.detach().numpy()
    assert linear.std(0).max() > 0.01
    np.testing.assert_allclose(response_to(fitter, features), linear, rtol=1e-4, atol=1e-4)


def test_centre_that_is_nearest_in_distance_wins_by_response(config: SegmentConfig) -> None:
    """Anywhere, and not only in the regions that the centres were found from."""
    fitter = described(begun(config))
    fitter.fit()
    centres = network_of(fitter).classifier.weight.detach().numpy()[:, :, 0, 0]
    places = (centres.mean(0) + np.random.default_rng(0).normal(0, 0.5, (200, CHANNELS))).astype(np.float32)
    nearest = ((places[:, None] - centres) ** 2).sum(2).argmin(1)
    assert len(np.unique(nearest)) > 1
    assert (response_to(fitter, places).argmax(1) == nearest).mean() > 0.99


@pytest.mark.parametrize(
    "images",
    [
        [np.full((20, 30, 3), 90, np.uint8)] * 3,
        SCENES[:1],
        # Of so small an image there is one place to look at: its regions have the same features but for rounding.
        [made_scene(seed, 20, 16)[0] for seed in range(4)],
    ],
    ids=["one", "few", "alike"],
)
def test_fewer_regions_than_clusters_are_no_obstacle(config: SegmentConfig, images: list[NDArray[np.uint8]]) -> None:
    fitter = described(dataclasses.replace(config, clusters=200), images)
    kinds = len(np.unique(RegionSet.joined(fitter.regions).features, axis=0))
    assert kinds < 200
    areas = fitter.fit()
    assert areas.shape == (200,)
    assert areas.sum() == pytest.approx(1, rel=1e-5)
    assert np.count_nonzero(areas) <= kinds
    assert all(value.isfinite().all() for value in network_of(fitter).state_dict().values())
    assert not areas[kinds:].any(), "a channel without a centre is chosen nowhere"


# The fit


def made_regions(regions: NDArray[np.integer], seed: int = 0) -> RegionSet:
    """Those of an (H, W) map, with features of their own."""
    pairs, length = boundary_shares(regions.astype(np.int32))
    area = np.bincount(regions.reshape(-1)) / regions.size
    features = np.random.default_rng(seed).normal(0, 0.3, (len(area), CHANNELS))
    return RegionSet(*(values.astype(np.float32) for values in (features, area)), pairs, length.astype(np.float32))


MAPS = [np.repeat(np.arange(24).reshape(4, 6), 2, 1), np.minimum(np.arange(48).reshape(4, 12) // 2, 17)]
"""Two images of the same size, with regions of different ones."""


@pytest.mark.parametrize("mode", ["scf", "fsf", "fixed"])
def test_fit_to_regions_is_that_of_the_paper_to_maps_that_are_constant_in_them(
    config: SegmentConfig, mode: Mode
) -> None:
    """Compared with PyTorch's own optimiser, on pixels."""
    config = dataclasses.replace(config, mode=mode)
    started, fitter = RegionFitter(begun(config), "cpu"), RegionFitter(config, "cpu")
    for one in (started, fitter):
        one.regions = [made_regions(regions, seed) for seed, regions in enumerate(MAPS)]
    started.fit()
    areas = fitter.fit()
    network = copy.deepcopy(network_of(started)).train()
    pixels = [one.features[regions] for one, regions in zip(fitter.regions, MAPS, strict=True)]
    x = torch.tensor(np.stack(pixels)).permute(0, 3, 1, 2)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for _ in range(6):
        response = network.response_norm(network.classifier(x))
        labels = response.detach().argmax(1)
        weight = continuity_weight(mode, config.weight, len(labels.unique()))
        loss = similarity_loss(response, labels) + weight * continuity_loss(response)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    expected = dict(network.named_parameters())
    for name, value in network_of(fitter).named_parameters():
        torch.testing.assert_close(value, expected[name], rtol=2e-3, atol=2e-4)
        begin = started.engine.network.state_dict()[name]
        # Into a BatchNorm leads nothing that a shift would change: the classifier's bias has no gradient.
        assert name == "classifier.bias" or not torch.allclose(value, begin, rtol=5e-3, atol=5e-4)
    with torch.no_grad():
        labels = network.response_norm(network.classifier(x)).argmax(1)
    np.testing.assert_allclose(areas, np.bincount(labels.numpy().reshape(-1), minlength=CLUSTERS) / 96, atol=1e-6)


def test_statistics_are_those_of_the_pixels(fitter: RegionFitter) -> None:
    fitter.fit()
    regions, network = RegionSet.joined(fitter.regions), network_of(fitter)
    assert network.classifier.bias is not None
    response = regions.features.astype(float) @ network.classifier.weight.detach().double().numpy()[:, :, 0, 0].T
    response += network.classifier.bias.detach().double().numpy()
    share = regions.area[:, None].astype(float) / len(SCENES)
    mean = (share * response).sum(0)
    norm = network.response_norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.running_var.numpy(), (share * (response - mean) ** 2).sum(0), rtol=1e-3, atol=1e-6)
    assert abs(response.mean(0) - mean).max() > 0.01, "regions count by their area"


def test_areas_are_those_of_the_labels_that_the_network_gives(fitter: RegionFitter) -> None:
    areas = fitter.fit()
    area = RegionSet.joined(fitter.regions).area
    np.testing.assert_allclose(areas, np.bincount(labels_of(fitter), area, CLUSTERS) / len(SCENES), rtol=1e-5)
    assert areas.sum() == pytest.approx(1, rel=1e-5)


def test_labels_are_numbered_by_area_and_stay_themselves(fitter: RegionFitter) -> None:
    areas = fitter.fit()
    before = labels_of(fitter)
    assert np.count_nonzero(areas) > 2
    assert (np.diff(areas) > 0).any(), "there is something to renumber"
    fitter.number_by_area(areas)
    after = labels_of(fitter)
    area = RegionSet.joined(fitter.regions).area
    numbered = np.bincount(after, area, CLUSTERS)
    assert (np.diff(numbered) <= 0).all()
    assert len(set(zip(before.tolist(), after.tolist(), strict=True))) == np.count_nonzero(areas)


def test_fit_ends_once_labels_are_few_enough(config: SegmentConfig) -> None:
    many = dataclasses.replace(config, epochs=40, alpha=2000.0)
    counts = {}
    for enough in (1, 3, CLUSTERS):
        fitter = described(dataclasses.replace(many, min_labels=enough))
        counts[enough] = np.count_nonzero(fitter.fit())
    assert counts[1] < counts[3] <= 3
    assert counts[CLUSTERS] == CLUSTERS


@pytest.mark.parametrize("min_labels", [1, 3])
def test_loss_that_is_no_number_ends_the_fit(
    config: SegmentConfig, min_labels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of responses that are no numbers the greatest is always the first one: it looks as if one label were left."""
    start = RegionFitter._start

    def start_and_spoil(fitter: RegionFitter, regions: RegionSet) -> None:
        start(fitter, regions)
        with torch.no_grad():
            network_of(fitter).classifier.weight.fill_(torch.nan)

    monkeypatch.setattr(RegionFitter, "_start", start_and_spoil)
    with pytest.raises(DivergedError, match=r"^the loss became nan"):
        described(dataclasses.replace(config, min_labels=min_labels)).fit()


def test_backbone_is_left_as_it_is(fitter: RegionFitter) -> None:
    assert fitter.engine.backbone is not None
    before = values_of(fitter.engine.backbone)
    fitter.fit()
    after = values_of(fitter.engine.backbone)
    assert all(torch.equal(value, before[name]) for name, value in after.items())


# Equal fits, and fits that go on


def model_of(fitter: RegionFitter) -> bytes:
    fitter.number_by_area(fitter.fit())
    return fitter.model()


def test_model_depends_on_images_options_and_seed_alone(config: SegmentConfig) -> None:
    expected = model_of(described(config))
    torch.rand(3)
    np.random.default_rng().random()
    assert model_of(described(config)) == expected
    assert model_of(described(dataclasses.replace(config, seed=1))) != expected
    assert model_of(described(config, SCENES[:-1])) != expected


def test_fit_can_be_repeated(fitter: RegionFitter) -> None:
    expected = model_of(fitter)
    assert model_of(fitter) == expected


@pytest.mark.parametrize("seen", [0, 2, 5])
def test_fit_goes_on_from_its_state_to_the_same_model(config: SegmentConfig, seen: int) -> None:
    expected = model_of(described(config))
    first, second = described(config, SCENES[:seen]), described(config, [noise(3, 64, 32)])
    second.load_state(safetensors.torch.load(safetensors.torch.save(first.state())))
    assert len(second.regions) == seen
    for image in SCENES[seen:]:
        second.describe(image)
    assert model_of(second) == expected


def without(state: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name not in names}


@pytest.mark.parametrize("lacking", ["area.0", "pairs.1", "features.1"])
def test_state_that_lacks_something_is_refused_and_changes_nothing(fitter: RegionFitter, lacking: str) -> None:
    state = described(fitter.engine.config, SCENES[:2]).state()
    before = fitter.regions
    with pytest.raises((KeyError, ValueError)):
        fitter.load_state(without(state, lacking))
    assert fitter.regions is before
