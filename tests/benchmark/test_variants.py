from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import pytest

from dynaseg_cli.baselines.folder.settings import FeatureKMeansConfig, FolderIicConfig
from dynaseg_cli.baselines.settings import IicConfig, KMeansConfig
from dynaseg_cli.benchmark.variants import FOLDER_METHODS, METHODS, parse_variants
from dynaseg_cli.config import PRESETS, CutConfig, Fit, FolderMethodName, MethodName, SegmentConfig
from dynaseg_cli.errors import UsageError
from dynaseg_cli.files.weights import identify


def test_method_alone_has_its_defaults() -> None:
    for name, config in METHODS.items():
        (variant,) = parse_variants(name)
        assert (variant.name, variant.method, variant.config) == (name, name, config)


def test_help_names_every_method() -> None:
    assert tuple(METHODS) == get_args(MethodName)


def test_reference_is_the_paper() -> None:
    assert METHODS["reference"] == PRESETS["paper"]


def test_methods_named_for_a_weighting_have_it() -> None:
    for mode in ("scf", "fsf", "fixed"):
        config = METHODS[mode]
        assert isinstance(config, SegmentConfig)
        assert config == dataclasses.replace(SegmentConfig(), mode=mode)


def test_options_follow_after_colons() -> None:
    scf, kmeans = parse_variants("scf:max-size=240:alpha=25:min_labels=auto:literal=true, kmeans:clusters=8:window=7")
    assert scf.name == "scf:max-size=240:alpha=25:min_labels=auto:literal=true"
    assert scf.config == SegmentConfig(max_size=240, alpha=25.0, min_labels="auto", literal=True)
    assert kmeans.config == KMeansConfig(clusters=8, window=7)


def test_number_or_word_is_read_as_what_the_option_takes() -> None:
    (variant,) = parse_variants("scf:min_labels=4:precision=bfloat16")
    assert variant.config == SegmentConfig(min_labels=4, precision="bfloat16")


def test_backbone_and_its_weights_are_options(tmp_path: Path) -> None:
    (tmp_path / "made.pth").write_bytes(b"weights")
    random, made = parse_variants(
        f"scf:backbone=resnet18-fpn:weights=random,fsf:backbone=resnet18-fpn:weights={tmp_path}/made.pth"
    )
    assert random.config == SegmentConfig(backbone="resnet18-fpn", weights="random")
    assert made.config == SegmentConfig(mode="fsf", backbone="resnet18-fpn", weights=identify(tmp_path / "made.pth"))


def test_colon_in_the_name_of_a_backbone_begins_no_option() -> None:
    (variant,) = parse_variants("scf:backbone=timm:resnet18:seed=3")
    assert variant.config == SegmentConfig(backbone="timm:resnet18", seed=3)


def test_iterations_are_for_all_that_iterate_and_do_not_say_themselves() -> None:
    scf, own, iic, kmeans = parse_variants("scf,scf:iterations=9,iic,kmeans", iterations=4)
    assert (scf.config, own.config) == (SegmentConfig(iterations=4), SegmentConfig(iterations=9))
    assert iic.config == IicConfig(iterations=4)
    assert kmeans.config == KMeansConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one of scf"),
        (" , ", "at least one of scf"),
        ("scf,unet", "there is no unet; with `fit=image` choose from scf, fsf"),
        ("scf,scf", "names scf twice"),
        ("kmeans:k=8", "'k=8' is no option=value; its options are clusters, seed, window"),
        ("kmeans:clusters", "'clusters' is no option=value"),
        ("kmeans:clusters=", "kmeans: `clusters` must be a whole number, not ''"),
        ("kmeans:clusters=2.5", "kmeans: `clusters` must be a whole number, not '2.5'"),
        ("kmeans:window=4", "`methods`: kmeans: `window` must be odd, not 4"),
        ("scf:mode=fsf", "'mode=fsf' is no option"),
        ("scf:fit=folder", "'fit=folder' is no option"),
        ("scf:model=kept.safetensors", "'model=kept.safetensors' is no option"),
        ("scf:mu=5", "`mu` belongs to `mode=fixed`"),
        ("scf:weights=random", "`weights` belong to a pretrained `backbone`"),
        ("scf:backbone=resnet18-fpn:weights=missing.pth", "`methods`: scf: weights missing.pth: No such file"),
        ("reference:backbone=resnet18-fpn", "reference: it is the literal loop of the cnn"),
        ("scf:precision=float16", "`precision` must be one of auto, float32, bfloat16, not 'float16'"),
        ("scf:literal=yes", "`literal` must be"),
        ("felzenszwalb:scale=0", "`scale` must be above 0"),
        ("felzenszwalb:sigma=-1", "`sigma` must be at least 0"),
        ("felzenszwalb:sigma=nan", "`sigma` must be at least 0"),
        ("felzenszwalb:min_size=-1", "`min_size` must be at least 0"),
        ("superpixel-cnn:superpixels=0", "`superpixels` must be at least 1"),
        ("iic:clusters=1", "`clusters` must be at least 2"),
        ("iic:displacement=-1", "`displacement` must be at least 0"),
    ],
)
def test_what_does_not_exist_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_variants(text)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_regions_are_an_option_of_the_methods_that_have_them() -> None:
    plain, raw, common, paper, kmeans = parse_variants("scf,fsf:regions=raw,fixed:granularity=0.4,reference,kmeans")
    assert (plain.cut, raw.cut, common.cut) == (CutConfig(), CutConfig(regions="raw"), CutConfig(granularity=0.4))
    assert paper.cut == CutConfig(regions="raw"), "the literal loop merges nothing"
    assert kmeans.cut is None
    assert raw.as_options()["regions"] == "raw"
    assert "regions" not in kmeans.as_options()
    for refused in ("reference:regions=4", "kmeans:regions=4", "scf:regions=few", "scf:regions=4:granularity=0.4"):
        with pytest.raises(UsageError, match="`methods`"):
            parse_variants(refused)


def test_methods_of_one_label_space_are_others_and_fit_a_folder() -> None:
    assert tuple(FOLDER_METHODS) == get_args(FolderMethodName)
    for name, config in FOLDER_METHODS.items():
        (variant,) = parse_variants(name, "folder")
        assert (variant.config, variant.fits_folder) == (config, True)
    assert not any(variant.fits_folder for variant in parse_variants(",".join(METHODS)))


def test_options_of_all_are_for_methods_that_have_them_and_do_not_say_themselves() -> None:
    given = {"classes": 5, "epochs": 2, "backbone": "resnet18-fpn"}
    scf, kmeans, iic = parse_variants(
        "scf:weights=random,kmeans-features:clusters=9:backbone=cnn,iic", "folder", **given
    )
    assert scf.config == dataclasses.replace(
        FOLDER_METHODS["scf"], clusters=5, epochs=2, backbone="resnet18-fpn", weights="random"
    )
    assert kmeans.config == FeatureKMeansConfig(clusters=9)
    assert iic.config == FolderIicConfig(clusters=5, epochs=2, backbone="resnet18-fpn")


def test_other_methods_are_as_published_unless_regions_are_asked_for() -> None:
    scf, picie, merged = parse_variants("scf,picie,picie:regions=4", "folder")
    assert (scf.cut, picie.cut, merged.cut) == (CutConfig(), CutConfig(regions="raw"), CutConfig(regions=4))


@pytest.mark.parametrize(
    ("fit", "text", "message"),
    [
        (
            "folder",
            "kmeans-feature",
            "there is no kmeans-feature; with `fit=folder` choose from scf, fsf, fixed, kmeans-f",
        ),
        ("folder", "kmeans", "kmeans is for `fit=image`; with `fit=folder` choose from scf"),
        ("image", "picie", "picie is for `fit=folder`; with `fit=image` choose from scf"),
        ("folder", "scf:mode=fsf", "'mode=fsf' is no option"),
        ("folder", "kmeans-features:epochs=3", "'epochs=3' is no option"),
        ("folder", "picie:batch=0", "`methods`: picie: `batch` must be at least 1"),
        ("image", "scf:epochs=3", "'epochs=3' is no option"),
    ],
)
def test_what_a_kind_of_fit_does_not_have_is_refused(fit: Fit, text: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_variants(text, fit)
    assert message in str(refusal.value)
