from __future__ import annotations

import io
import os

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from report_entries import details_of, entry_files, stats_of, unpacked
from samples import noise

from dynaseg_cli.pictures.overlay import OPACITY
from dynaseg_cli.pictures.palette import label_palette
from dynaseg_cli.regions.hierarchy import build_hierarchy
from dynaseg_cli.report.entry import report_entry
from dynaseg_cli.report.page import ENTRY_FILES
from dynaseg_cli.report.thumbnail import shrunk_map


def pixels(content: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def halves(width: int = 40, height: int = 30) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A photo, dark on the left and bright on the right, and the labels 1 and 0 of the two."""
    labels = np.zeros((height, width), dtype=np.uint8)
    labels[:, : width // 3] = 1
    photo = np.where(labels[..., None] == 1, [30, 60, 40], [220, 200, 180]).astype(np.uint8)
    return photo, labels


def test_files_come_in_their_order() -> None:
    photo, labels = halves()
    assert tuple(entry_files("k", photo, labels)[0]) == ENTRY_FILES


def test_labels_and_regions_are_painted_exactly() -> None:
    photo, labels = halves()
    files, _, _ = entry_files("k", photo, labels)
    np.testing.assert_array_equal(pixels(files["-labels.webp"]), label_palette()[labels])
    np.testing.assert_array_equal(pixels(files["-regions.webp"]), photo)
    assert abs(pixels(files["-photo.webp"]).astype(int) - photo).mean() < 4


def test_the_overlay_is_tinted_with_the_labels_colour() -> None:
    photo, labels = halves()
    seen = pixels(entry_files("k", photo, labels)[0]["-overlay.webp"]).astype(int)
    for column, label in ((3, 1), (35, 0)):
        expected = (1 - OPACITY) * photo[15, column] + OPACITY * label_palette()[label]
        assert abs(seen[10:20, column].mean(0) - expected).max() < 12
    assert seen[10:20, 40 // 3].mean() > seen[10:20, 3].mean() + 60  # the line between


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 1), (9000, 1), (1, 9000), (1300, 700)])
def test_photos_of_any_shape_have_thumbnails_of_one_size(width: int, height: int) -> None:
    photo = noise(0, width, height)
    labels = (np.indices((height, width)).sum(0) // 40 % 3).astype(np.uint8)
    files, _, _ = entry_files("k", photo, labels)
    sizes = {pixels(files[suffix]).shape for suffix in ENTRY_FILES[:-1]}
    assert len(sizes) == 1
    assert max(sizes.pop()[:2]) == min(640, max(width, height))


def test_labels_of_16_bits_and_with_gaps_are_painted() -> None:
    photo, labels = halves()
    wide = np.where(labels == 1, 700, 3).astype(np.uint16)
    hierarchy = build_hierarchy(wide, photo)
    colors = np.random.default_rng(0).integers(0, 256, (701, 3), dtype=np.uint8)
    stats = stats_of(photo, wide, hierarchy)
    files = dict(report_entry("k", photo, wide, colors, hierarchy.cut(), None, stats, {}, None))
    np.testing.assert_array_equal(pixels(files["-labels.webp"]), colors[wide])


def test_details_hold_what_the_page_shows_of_the_fit_and_the_clusters() -> None:
    photo, labels = halves()
    files, stats, _ = entry_files("3fa9", photo, labels)
    key, details = details_of(files["-details.js"])
    assert key == "3fa9"
    assert details["source"] == stats["source"]
    fit, said = stats["fit"], details["fit"]
    for name in ("labels_per_iteration", "levels", "threshold", "stop_reason", "seconds", "precision", "iterations"):
        assert said[name] == fit[name]
    for name in ("loss", "similarity_loss", "continuity_loss"):
        np.testing.assert_allclose(said[name], fit[name], rtol=1e-4)
        assert all(len(f"{value:g}") <= 7 for value in said[name])
    assert said["silhouette"] == {"k": 3, "score": 0.5}
    assert details["raw_labels"] == stats["raw_labels"]
    assert [cluster["label"] for cluster in details["clusters"]] == [0, 1]
    assert details["clusters"][1]["mean_rgb"] == [30, 60, 40]
    assert details["clusters"][1]["color"] == label_palette()[1].tolist()
    assert sum(cluster["pixels"] for cluster in details["clusters"]) == labels.size
    assert sum(cluster["fraction"] for cluster in details["clusters"]) == pytest.approx(1, abs=1e-3)


def test_details_hold_the_labels_of_the_thumbnail() -> None:
    photo, labels = halves(1300, 700)
    wide = np.where(labels == 1, 700, 3).astype(np.uint16)
    hierarchy = build_hierarchy(wide, photo)
    colors = np.zeros((701, 3), dtype=np.uint8)
    stats = stats_of(photo, wide, hierarchy)
    script = dict(report_entry("k", photo, wide, colors, hierarchy.cut(), None, stats, {}, None))["-details.js"]
    entry = details_of(script)[1]["map"]
    seen = np.repeat(unpacked(entry["labels"], "<u2"), unpacked(entry["runs"], "<u2"))
    np.testing.assert_array_equal(seen.reshape(entry["height"], entry["width"]), shrunk_map(wide))


def test_details_say_where_the_files_and_the_photo_are() -> None:
    photo, labels = halves()
    found = entry_files("k", photo, labels, files={"labels": "labels/a.png"}, photo_url="../a.jpg")[0]
    details = details_of(found["-details.js"])[1]
    assert (details["files"], details["photo"]) == ({"labels": "labels/a.png"}, "../a.jpg")


def test_an_image_that_was_not_fitted_has_details() -> None:
    photo, labels = halves()
    none = {"levels": [], "iterations": 0, "stop_reason": "model", "silhouette": None}
    none |= {name: [] for name in ("labels_per_iteration", "loss", "similarity_loss", "continuity_loss")}
    fit = details_of(entry_files("k", photo, labels, **none)[0]["-details.js"])[1]["fit"]
    assert fit["silhouette"] is None
    assert fit["loss"] == []


def test_an_image_of_one_colour_has_no_silhouette_score() -> None:
    photo, labels = halves()
    fit = details_of(entry_files("k", photo, labels, silhouette={"k": 1, "scores": {}})[0]["-details.js"])[1]["fit"]
    assert fit["silhouette"] == {"k": 1, "score": None}


def test_only_a_hierarchy_makes_the_slider() -> None:
    photo, labels = halves()
    with_one, without = (
        details_of(entry_files("k", photo, labels, hierarchical=there)[0]["-details.js"])[1] for there in (True, False)
    )
    assert with_one.pop("granularity")["regions"][-1] == 2
    assert with_one == without


def test_a_script_is_ascii_whatever_the_path_holds() -> None:
    photo, labels = halves()
    hierarchy = build_hierarchy(labels, photo)
    stats = stats_of(photo, labels, hierarchy)
    stats["source"]["path"] = os.fsdecode(b"caf\xe9/\xe2\x80\xa8</script>.jpg")
    script = dict(report_entry("k", photo, labels, label_palette(), hierarchy.cut(), None, stats, {}, None))[
        "-details.js"
    ]
    assert details_of(script)[1]["source"]["path"] == "caf\\xe9/\\u2028</script>.jpg"
