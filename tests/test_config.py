from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from dynaseg_cli.benchmark.variants import METHODS
from dynaseg_cli.config import (
    COARSE_GRANULARITY,
    COMMON_GRANULARITY,
    FINE_GRANULARITY,
    FOLDER_FIT,
    PRESET_CUTS,
    PRESETS,
    BatchConfig,
    BenchmarkConfig,
    CutConfig,
    EvaluateConfig,
    SegmentConfig,
    WeightsFile,
    WorkersConfig,
)
from dynaseg_cli.errors import DynasegError, UsageError

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mode": "average"}, "`mode` must be one of scf, fsf, fixed, not 'average'"),
        ({"precision": "float16"}, "`precision` must be one of auto, float32, bfloat16, not 'float16'"),
        (
            {"backbone": "vgg"},
            "`backbone` must be one of cnn, resnet18-fpn, efficientnet-lite0 or timm:NAME, not 'vgg'",
        ),
        ({"backbone": ""}, "`backbone` must be one of cnn"),
        ({"backbone": "timm:"}, "`backbone` must be one of cnn, resnet18-fpn, efficientnet-lite0 or timm:NAME, not"),
        ({"backbone": "a timm:resnet18"}, "`backbone` must be one of cnn"),
        ({"backbone": None}, "`backbone` must be cnn, resnet18-fpn, efficientnet-lite0 or text, not None"),
        ({"weights": "random"}, "`weights` belong to a pretrained `backbone`; the cnn is trained from scratch"),
        ({"weights": WeightsFile("a.pth", "ab")}, "`weights` belong to a pretrained `backbone`"),
        (
            {"freeze_backbone": True},
            "`freeze_backbone` belongs to `backbone=resnet18-fpn`; the cnn is trained from scratch",
        ),
        (
            {"backbone": "efficientnet-lite0", "freeze_backbone": True},
            "`freeze_backbone` belongs to `backbone=resnet18-fpn`; this one is never trained",
        ),
        (
            {"backbone": "timm:resnet18", "freeze_backbone": True},
            "`freeze_backbone` belongs to `backbone=resnet18-fpn`; this one is never trained",
        ),
        (
            {**FOLDER_FIT, "backbone": "efficientnet-lite0", "model": WeightsFile("m", "ab"), "refine": 2},
            "`refine` trains features further, and those of `backbone=efficientnet-lite0` stay as they are",
        ),
        (
            {**FOLDER_FIT, "backbone": "timm:resnet18", "model": WeightsFile("m", "ab"), "refine": 2},
            "`refine` trains features further, and those of `backbone=timm:resnet18` stay as they are",
        ),
        ({"backbone": "resnet18-fpn", "weights": "a.pth"}, "`weights` must be random or a WeightsFile, not 'a.pth'"),
        ({"alpha": 0.0}, "`alpha` must be above 0, not 0"),
        ({"alpha": -1.0}, "`alpha`"),
        ({"alpha": NAN}, "`alpha`"),
        ({"alpha": INFINITY}, "`alpha`"),
        ({"mode": "fixed", "mu": 0.0}, "`mu` must be above 0, not 0"),
        ({"mode": "fixed", "mu": NAN}, "`mu`"),
        ({"min_labels": 0}, "`min_labels` must be at least 1, not 0"),
        ({"min_labels": 200}, "`min_labels=200` is more than `clusters=64`"),
        ({**FOLDER_FIT, "min_labels": 28}, "`min_labels=28` is more than `clusters=27`"),
        ({"iterations": 10**30}, "`iterations` must be at most 2147483647"),
        ({"iterations": 2.5}, "`iterations` must be a whole number, not 2.5"),
        ({"features": 10**9}, "`features` must be at most 4096"),
        ({"blocks": 1000}, "`blocks` must be at most 100"),
        ({"levels": 1000}, "`levels` must be at most 32"),
        ({"alpha": float("nan")}, "`alpha` must be above 0, not nan"),
        ({"learning_rate": float("inf")}, "`learning_rate` must be finite, not inf"),
        ({"iterations": 0}, "`iterations` must be at least 1, not 0"),
        ({"patience": -1}, "`patience` must be at least 0"),
        ({"max_size": 15}, "`max_size` must be 0 for full resolution, or at least 16, not 15"),
        ({"max_size": -1}, "`max_size`"),
        ({"min_region": -1}, "`min_region` must be at least 0"),
        ({"seed": -1}, "`seed` must be at least 0"),
        ({"seed": 2**32}, "`seed` must be at most 4294967295"),
        ({"blocks": 0}, "`blocks` must be at least 1"),
        ({"features": 0}, "`features` must be at least 1"),
        ({"clusters": 1}, "`clusters` must be at least 2"),
        ({"clusters": 2**15}, "`clusters` must be at most 32767"),
        ({**FOLDER_FIT, "clusters": 1}, "`clusters` must be at least 2"),
        ({**FOLDER_FIT, "model": WeightsFile("m", "ab"), "refine": 1}, "`refine` must be 0 for none, or at least 2"),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0"),
        ({"learning_rate": NAN}, "`learning_rate`"),
        ({"momentum": 1.0}, "`momentum` must be below 1, not 1"),
        ({"momentum": -0.1}, "`momentum` must be at least 0, not -0.1"),
        ({"weight_decay": -1e-9}, "`weight_decay` must be at least 0"),
        ({"weight_decay": NAN}, "`weight_decay`"),
    ],
    ids=str,
)
def test_value_out_of_range_is_refused_by_the_name_of_its_option(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match="^" + re.escape(named)) as raised:
        SegmentConfig(**options)
    assert isinstance(raised.value, DynasegError)


@pytest.mark.parametrize(
    "options",
    [
        {"min_labels": 1},
        {"iterations": 1},
        {"patience": 0},
        {"max_size": 0},
        {"max_size": 16},
        {"min_region": 0},
        {"seed": 0},
        {"seed": 2**32 - 1},
        {"clusters": 2},
        {"clusters": 2**15 - 1},
        {**FOLDER_FIT, "model": WeightsFile("m", "ab"), "refine": 2},
        {"blocks": 1, "features": 1},
        {"momentum": 0.0, "weight_decay": 0.0},
        {"mode": "fixed", "mu": 0.001},
        {"backbone": "resnet18-fpn", "freeze_backbone": True},
        {"backbone": "efficientnet-lite0", "weights": "random"},
        {"backbone": "efficientnet-lite0", **FOLDER_FIT},
        {"backbone": "efficientnet-lite0", **FOLDER_FIT, "model": WeightsFile("m", "ab")},
        {"backbone": "resnet18-fpn", **FOLDER_FIT, "model": WeightsFile("m", "ab"), "refine": 2},
        {"backbone": "timm:a"},
        {"backbone": "timm:resnet18.a1_in1k", "weights": WeightsFile("a.pth", "ab")},
    ],
    ids=str,
)
def test_value_at_the_edge_of_its_range_is_taken(options: dict[str, Any]) -> None:
    config = SegmentConfig(**options)
    assert {name: getattr(config, name) for name in options} == options


@pytest.mark.parametrize("mode", ["scf", "fsf"])
def test_mu_belongs_to_the_fixed_mode(mode: Any) -> None:
    with pytest.raises(UsageError, match=f"`mu` belongs to `mode=fixed`; with `mode={mode}` give `alpha`"):
        SegmentConfig(mode=mode, mu=5.0)


def test_alpha_belongs_to_the_dynamic_modes() -> None:
    with pytest.raises(UsageError, match="`alpha` belongs to `mode=scf` and fsf; with `mode=fixed` give `mu`"):
        SegmentConfig(mode="fixed", alpha=50.0)


@pytest.mark.parametrize(
    ("mode", "option", "published"), [("scf", "alpha", 50), ("fsf", "alpha", 15), ("fixed", "mu", 5)]
)
def test_weight_is_the_published_one_unless_given(mode: Any, option: str, published: float) -> None:
    assert SegmentConfig(mode=mode).weight == published
    assert SegmentConfig(mode=mode, **{option: 7.5}).weight == 7.5


@pytest.mark.parametrize(
    ("mode", "option", "published"), [("scf", "alpha", 50), ("fsf", "alpha", 15), ("fixed", "mu", 5)]
)
def test_options_are_recorded_with_the_weight_resolved(mode: Any, option: str, published: float) -> None:
    config = SegmentConfig(mode=mode)
    options = config.as_options()
    assert set(options) == {field.name for field in dataclasses.fields(SegmentConfig)}
    assert options[option] == published
    assert options == SegmentConfig(mode=mode, **{option: float(published)}).as_options()


@pytest.mark.parametrize(
    ("options", "recorded"),
    [
        ({}, None),
        ({"backbone": "resnet18-fpn"}, "f37072fd"),
        ({"backbone": "resnet18-fpn", "weights": "random"}, "random"),
        ({"backbone": "resnet18-fpn", "weights": WeightsFile("a.pth", "0123456789abcdef" * 4)}, "01234567"),
        ({"backbone": "efficientnet-lite0"}, "57934424"),
        ({"backbone": "efficientnet-lite0", "weights": "random"}, "random"),
        ({"backbone": "efficientnet-lite0", "weights": WeightsFile("a.pth", "0123456789abcdef" * 4)}, "01234567"),
        ({"backbone": "timm:resnet18"}, None),
        ({"backbone": "timm:resnet18", "weights": "random"}, "random"),
        ({"backbone": "timm:resnet18", "weights": WeightsFile("a.pth", "0123456789abcdef" * 4)}, "01234567"),
    ],
    ids=str,
)
def test_weights_are_recorded_by_their_content(options: dict[str, Any], recorded: str | None) -> None:
    assert SegmentConfig(**options).as_options()["weights"] == recorded


WEIGHTS = [None, "random", WeightsFile("a.pth", "0123456789abcdef" * 4)]
PRETRAINED = ["resnet18-fpn", "efficientnet-lite0", "timm:resnet18"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "fixed", "mu": 3.0, "seed": 7},
        {**FOLDER_FIT, "backbone": "efficientnet-lite0"},
        *({"backbone": backbone, "weights": weights} for backbone in PRETRAINED for weights in WEIGHTS),
    ],
    ids=str,
)
def test_recorded_options_give_what_they_were_recorded_of(options: dict[str, Any]) -> None:
    config = SegmentConfig(**options)
    again = SegmentConfig.from_options(config.as_options())
    assert again.as_options() == config.as_options()
    # The weight is resolved and weights are a fingerprint; all else is what it was.
    same = dataclasses.replace(again, alpha=config.alpha, mu=config.mu, weights=config.weights)
    assert same == config


def test_weights_of_a_package_are_those_of_the_same_file_named() -> None:
    package = SegmentConfig(backbone="efficientnet-lite0")
    by_path = SegmentConfig(backbone="efficientnet-lite0", weights=WeightsFile("a.pth", "57934424" + "0" * 56))
    assert package.as_options() == by_path.as_options()


@pytest.mark.parametrize(
    ("options", "frozen"),
    [
        ({}, False),
        ({"backbone": "resnet18-fpn"}, False),
        ({"backbone": "resnet18-fpn", "freeze_backbone": True}, False),
        ({"backbone": "efficientnet-lite0"}, True),
        ({"backbone": "timm:resnet18"}, True),
    ],
    ids=str,
)
def test_networks_that_stand_beside_are_left_as_they_are(options: dict[str, Any], frozen: bool) -> None:
    """A frozen ResNet is not one of them: it is in the network, below a pyramid that is trained."""
    assert SegmentConfig(**options).has_frozen_backbone == frozen


def test_default_preset_is_the_default() -> None:
    assert PRESETS["default"] == SegmentConfig()


def test_paper_preset_is_the_paper_to_the_letter() -> None:
    """Section IV-A: full resolution, float32, nothing but T and the number of labels ends the optimisation."""
    paper = PRESETS["paper"]
    assert (paper.blocks, paper.features, paper.clusters) == (3, 100, 100)
    assert (paper.learning_rate, paper.momentum, paper.weight_decay) == (0.1, 0.9, 1e-4)
    assert (paper.iterations, paper.patience, paper.max_size) == (1000, 0, 0)
    assert (paper.mode, paper.weight, paper.precision, paper.min_labels) == ("scf", 50, "float32", "auto")
    assert paper.min_region == 0


def test_config_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SegmentConfig().seed = 1  # type: ignore[misc]


def test_changed_copy_is_checked_too() -> None:
    with pytest.raises(UsageError, match="`iterations`"):
        dataclasses.replace(SegmentConfig(), iterations=0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_pixels": 0}, "`max_pixels` must be at least 1, not 0"),
        ({"colors": "grey"}, "`colors` must be one of calm, palette, mean, not 'grey'"),
        ({"export": ("voc", "doc")}, "`export` must be one or more of voc, coco-rle, coco-panoptic, cvat"),
        ({"export": ("voc",), "save": ("labels",)}, "`export` is made of labels and stats: add stats to `save`"),
        ({"report": True, "save": ("labels",)}, "`report` is made of stats: add stats to `save`"),
        ({"save": ()}, "`save` needs at least one of labels, color, stats"),
        (
            {"save": ("labels", "film")},
            "`save` must be one or more of labels, color, stats, overlay, regions, hierarchy, raw, recording, not",
        ),
        ({"shard": (0, 8)}, "`shard` must be I/N with 1 <= I <= N, not 0/8"),
        ({"shard": (9, 8)}, "`shard` must be I/N with 1 <= I <= N, not 9/8"),
        ({"shard": (0, 0)}, "`shard` must be I/N with 1 <= I <= N, not 0/0"),
    ],
    ids=str,
)
def test_batch_value_out_of_range_is_refused_by_the_name_of_its_option(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match="^" + re.escape(named)):
        BatchConfig(**options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"protocol": "voc"}, "`protocol` must be one of auto, bsds500, regions, classes, coco-stuff27, not 'voc'"),
        ({"use": "colors"}, "`use` must be one of labels, regions, hierarchy, raw, not 'colors'"),
        (
            {"use": "hierarchy", "protocol": "classes"},
            "`use=hierarchy`: its regions belong to no classes; it goes with",
        ),
        ({"use": "hierarchy", "protocol": "coco-stuff27"}, "`use=hierarchy`: its regions belong to no classes"),
        ({"use": "hierarchy", "num_things": 3}, "`use=hierarchy`: its regions belong to no classes"),
        ({"use": "hierarchy", "connected": False}, "`connected=False` has no meaning with `use=hierarchy`"),
        ({"center_crop": -1}, "`center_crop` must be at least 0"),
        ({"max_pixels": 0}, "`max_pixels` must be at least 1"),
        ({"num_things": -1}, "`num_things` must be at least 0"),
        ({"num_things": 3, "protocol": "bsds500"}, "`num_things` belongs to `protocol=classes`, not bsds500"),
        ({"ignore_index": 0, "protocol": "coco-stuff27"}, "`ignore_index`: coco-stuff27 ignores what is unlabeled"),
    ],
    ids=str,
)
def test_scoring_option_out_of_range_is_refused_by_its_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match="^" + re.escape(named)):
        EvaluateConfig(**options)


def test_default_methods_of_the_benchmark_exist() -> None:
    assert set(BenchmarkConfig().methods.split(",")) <= set(METHODS)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"executor": "slurm"}, "`executor` must be one of local, ray, not 'slurm'"),
        ({"workers": -1}, "`workers` must be at least 0, not -1"),
        ({"workers": 10**9}, "`workers` must be at most 65536"),
        ({"threads": 10**9}, "`threads` must be at most 1024"),
        ({"timeout": float("nan")}, "`timeout` must be above 0, not nan"),
        ({"threads": 0}, "`threads` must be at least 1, not 0"),
        ({"timeout": 0.0}, "`timeout` must be above 0, not 0"),
        ({"timeout": NAN}, "`timeout`"),
        ({"ray_address": "127.0.0.1:6379"}, "`ray_address` belongs to `executor=ray`"),
        ({"executor": "ray", "workers": 0}, "`workers` must be at least 1 with `executor=ray`"),
    ],
)
def test_workers_that_cannot_be_are_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=re.escape(named)):
        WorkersConfig(**options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"regions": 0}, "`regions` must be at least 1, not 0"),
        ({"granularity": 1.5}, "`granularity` must be at most 1, not 1.5"),
        ({"granularity": float("nan")}, "`granularity` must be at least 0, not nan"),
        ({"regions": 5, "granularity": 0.5}, "`regions` and `granularity` are two ways"),
    ],
    ids=str,
)
def test_cut_out_of_range_is_refused_by_the_name_of_its_option(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match="^" + re.escape(named)):
        CutConfig(**options)


@pytest.mark.parametrize(
    ("cut", "granularity"),
    [
        (CutConfig(), COMMON_GRANULARITY),
        (CutConfig(regions="coarse"), COARSE_GRANULARITY),
        (CutConfig(regions="fine"), FINE_GRANULARITY),
        (CutConfig(regions="raw"), 1),
        (CutConfig(granularity=0.3), 0.3),
        (CutConfig(regions=12), None),
    ],
)
def test_words_of_cuts_are_granularities(cut: CutConfig, granularity: float | None) -> None:
    assert 0 < COARSE_GRANULARITY < COMMON_GRANULARITY < FINE_GRANULARITY < 1
    assert cut.common_granularity == granularity
    assert cut.is_raw == (granularity == 1)


def test_every_preset_has_a_cut() -> None:
    assert PRESET_CUTS.keys() == PRESETS.keys()
    assert PRESET_CUTS["paper"].is_raw
    assert PRESET_CUTS["default"] == CutConfig()
