"""Channels of images that have many, against scikit-learn's principal components and a case worked by hand."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from samples import noise
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from dynaseg_cli.config import BatchConfig, Channels, channels_text, parse_channels
from dynaseg_cli.errors import DecodeError, UsageError
from dynaseg_cli.images.channels import MOST_PROJECTED, projected
from dynaseg_cli.images.decoding import decode_photo, has_channels, read_stored
from dynaseg_cli.images.deep import StoredImage
from dynaseg_cli.images.photos import read_photo
from dynaseg_cli.images.value_range import to_8_bits

LIMIT = 1_000_000
RANDOM = np.random.default_rng(0)


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **{"photometric": "minisblack", "metadata": None, **options})
    return stream.getvalue()


def bands(count: int, dtype: str = "u2") -> NDArray[Any]:
    """(20, 24, count) mixtures of three fields, and noise."""
    fields = RANDOM.normal(size=(20, 24, 3)).cumsum(axis=0)
    mixed = fields @ RANDOM.normal(size=(3, count)) + 0.1 * RANDOM.normal(size=(20, 24, count))
    most = {"u1": 255, "u2": 4000, "i2": 4000, "f4": 1.0}[dtype]
    return ((mixed - mixed.min()) / np.ptp(mixed) * most).astype(dtype)


# Chosen channels


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
@pytest.mark.parametrize("layout", ["contig", "separate"])
def test_chosen_channels_are_red_green_and_blue(dtype: str, layout: str) -> None:
    values = bands(6, dtype)
    stored = values if layout == "contig" else np.moveaxis(values, -1, 0)
    content = tiff(stored, planarconfig=layout)
    for chosen in ((6, 1, 3), (5,)):
        wanted = values[..., [number - 1 for number in chosen]]
        wanted = wanted if len(chosen) == 3 else wanted[..., 0]
        np.testing.assert_array_equal(read_stored(content, LIMIT, chosen).values, wanted)
        photo = decode_photo(content, LIMIT, "auto", chosen)
        assert (photo.channels, photo.warnings) == (chosen, ())
        if dtype == "u1":
            np.testing.assert_array_equal(photo.pixels, wanted if len(chosen) == 3 else wanted[..., None].repeat(3, 2))
        else:
            expected, used, _ = to_8_bits(StoredImage(wanted, None), "auto")
            np.testing.assert_array_equal(photo.pixels, expected)
            assert photo.range is not None
            assert (photo.range.low, photo.range.high) == (used.low, used.high)
    np.testing.assert_array_equal(read_stored(content, LIMIT, "all").values, values)


def test_opacity_is_no_channel() -> None:
    values = bands(5, "u1")
    content = tiff(values, extrasamples=["unspecified"] * 3 + ["unassalpha"], planarconfig="contig")
    stored = read_stored(content, LIMIT, (4, 3, 2))
    np.testing.assert_array_equal(stored.values, values[..., [3, 2, 1]])
    np.testing.assert_array_equal(stored.alpha, values[..., 4])
    with pytest.raises(DecodeError, match="it has 4 channels, and `channels` asks for number 5"):
        read_stored(content, LIMIT, (5,))


@pytest.mark.parametrize(
    ("content", "to_choose"),
    [
        (tiff(noise(), photometric="rgb"), False),
        (tiff(np.dstack([noise(), noise(1)[..., :1]]), photometric="rgb", extrasamples=["unassalpha"]), False),
        (tiff(np.dstack([noise(), noise(1)[..., :1]]), photometric="separated"), False),
        (tiff(noise()[..., 0]), False),
        (tiff(np.dstack([noise(), noise(1)[..., :1]]), photometric="rgb", extrasamples=["unspecified"]), True),
        (tiff(noise(), planarconfig="contig"), True),
        (tiff(noise()[..., :2], planarconfig="contig"), True),
        (b"words", False),
    ],
)
def test_pictures_of_grey_colours_or_inks_have_nothing_to_choose_from(content: bytes, to_choose: bool) -> None:
    assert has_channels(content) == to_choose
    if not to_choose and content != b"words":
        photo, same = decode_photo(content, LIMIT), decode_photo(content, LIMIT, "auto", (9,))
        np.testing.assert_array_equal(photo.pixels, same.pixels)
        assert same.channels is None


def test_channels_that_would_fill_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is small: its strips are compressed, and nothing but zeros."""
    monkeypatch.setattr("dynaseg_cli.images.tiff._SPARE_BYTES", 0)
    content = tiff(np.zeros((9, 64, 64), np.uint16), planarconfig="separate", compression="zlib")
    with pytest.raises(DecodeError, match="its 9 channels together are larger than `max_pixels=4096` allows; choose"):
        decode_photo(content, 4096, "auto", "all")
    assert decode_photo(content, 4096, "auto", (9, 5, 1)).channels == (9, 5, 1)


# All channels, projected


@pytest.mark.parametrize("count", [3, 4, 9])
def test_projection_is_that_of_scikit_learn_up_to_signs(count: int) -> None:
    values = bands(count, "f4")
    ours = projected(StoredImage(values, None, channels="all")).values
    theirs = PCA(3).fit_transform(StandardScaler().fit_transform(values.reshape(-1, count).astype(np.float64)))
    theirs = theirs.reshape(20, 24, 3)
    signs = np.sign((ours * theirs).sum(axis=(0, 1)))
    np.testing.assert_allclose(ours, theirs * signs, atol=1e-4)
    assert ours.dtype == np.float32


def test_two_channels_worked_by_hand() -> None:
    """Standardised, both are -1 or 1; the components are their sum and difference over the root of two."""
    values = np.array([[[10, 5], [10, 7]], [[30, 5], [30, 7]], [[30, 7], [10, 5]]], np.uint16)
    x, y = (values[..., 0] - 20.0) / 10, values[..., 1] - 6.0
    assert np.corrcoef(x.ravel(), y.ravel())[0, 1] > 0
    ours = projected(StoredImage(values)).values
    np.testing.assert_allclose(ours[..., 0], (x + y) / np.sqrt(2), atol=1e-6)
    np.testing.assert_allclose(ours[..., 1], (x - y) / np.sqrt(2), atol=1e-6)  # the first loading is positive
    np.testing.assert_array_equal(ours[..., 2], 0)


def test_scale_and_offset_of_a_channel_do_not_count_and_its_largest_loading_is_positive() -> None:
    values = bands(5, "f4").astype(np.float64)
    ours = projected(StoredImage(values)).values
    scaled = projected(StoredImage(values * [1, 100, 1e-3, 7, 2e5] + [0, 5, -3, 1e4, 1])).values
    np.testing.assert_allclose(scaled, ours, atol=1e-4)
    standard = (values - values.mean(axis=(0, 1))) / values.std(axis=(0, 1))
    loadings = np.linalg.lstsq(standard.reshape(-1, 5), ours.reshape(-1, 3), rcond=None)[0]
    largest = np.abs(loadings).argmax(axis=0)
    assert (loadings[largest, range(3)] > 0).all()


def test_pixels_without_data_do_not_count_and_are_black() -> None:
    values = bands(5, "f4")
    missing = values.copy()
    missing[:4, :, 2] = np.nan
    missing[4:6, :, 0] = -9999
    stored = projected(StoredImage(missing, None))
    assert np.isnan(stored.values[:6]).all()
    np.testing.assert_allclose(stored.values[6:], projected(StoredImage(values[6:], None)).values, atol=1e-5)
    pixels, _, _ = to_8_bits(stored, "auto")
    assert (pixels[:6] == 0).all()


def test_channels_of_one_value_and_images_of_one_pixel_are_projected() -> None:
    values = bands(4, "f4")
    values[..., 1] = 3
    assert np.isfinite(projected(StoredImage(values, None)).values).all()
    np.testing.assert_array_equal(projected(StoredImage(np.full((1, 1, 4), 9, np.uint16))).values, 0)
    empty = projected(StoredImage(np.full((2, 2, 4), np.nan), None))
    assert np.isnan(empty.values).all()


def test_transparent_pixels_do_not_count() -> None:
    values = bands(4, "f4")
    alpha = np.full((20, 24), 255, np.uint8)
    alpha[:5] = 0
    ours = projected(StoredImage(values, None, alpha)).values
    np.testing.assert_allclose(ours[5:], projected(StoredImage(values[5:], None)).values, atol=1e-5)


def test_all_channels_of_a_file_are_recorded_and_mapped_by_the_range() -> None:
    values = bands(7, "u1")
    photo = decode_photo(tiff(values, planarconfig="contig"), LIMIT, (-2.0, 2.0), "all")
    assert photo.channels == "all"
    assert photo.range is not None
    assert photo.range.as_entry() == {"option": "-2,2", "low": -2.0, "high": 2.0}
    components = projected(StoredImage(values)).values
    np.testing.assert_array_equal(photo.pixels, np.rint(np.clip((components + 2) / 4, 0, 1) * 255))


def test_more_channels_than_can_be_projected_are_refused() -> None:
    with pytest.raises(DecodeError, match=f"projects at most {MOST_PROJECTED}: choose one or three"):
        projected(StoredImage(np.zeros((2, 2, MOST_PROJECTED + 1), np.uint8)))


# Arrays, and the option


def test_channels_of_arrays() -> None:
    values = bands(7, "u2")
    photo = read_photo(values, channels=(7, 1, 2))
    np.testing.assert_array_equal(photo.pixels, read_photo(np.ascontiguousarray(values[..., [6, 0, 1]])).pixels)
    np.testing.assert_array_equal(
        read_photo(values, channels="all").pixels, to_8_bits(projected(StoredImage(values)), "auto")[0]
    )
    np.testing.assert_array_equal(read_photo(values, channels=(4,)).pixels, read_photo(values[..., 3]).pixels)
    np.testing.assert_array_equal(read_photo(values > 2000, channels=(1, 2, 3)).pixels, (values > 2000)[..., :3] * 255)
    with pytest.raises(ValueError, match="`channels` chooses among more"):
        read_photo(values)
    with pytest.raises(ValueError, match="it has 7 channels, and `channels` asks for number 8"):
        read_photo(values, channels=(8,))
    with pytest.raises(ValueError, match=r"those of an \(H, W, N\) array, not of \(20, 24\)"):
        read_photo(values[..., 0], channels="all")
    with pytest.raises(UsageError, match="`channels` must be one or three numbers"):
        read_photo(values, channels=(1, 2))


@pytest.mark.parametrize("channels", ["all", (1,), (3, 1, 2)])
def test_channels_are_read_as_they_are_written(channels: Channels) -> None:
    text = channels_text(channels)
    assert text is not None
    assert parse_channels(text) == channels
    assert BatchConfig(channels=channels).channels == channels
    assert channels_text(None) is None


@pytest.mark.parametrize("text", ["", "first", "1;2;3", "1.5", "-1", "1,,2", "²", "9" * 10])
def test_text_that_is_no_channels_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^`channels` must be all, or one or three numbers"):
        parse_channels(text)


@pytest.mark.parametrize("channels", [(), (1, 2), (0,), (1, 2, 3, 4), (1, -2, 3)])
def test_numbers_that_are_no_channels_are_refused(channels: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"^`channels` must be one or three numbers from 1, or all"):
        BatchConfig(channels=channels)
