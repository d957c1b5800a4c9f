"""DICOM, with files that pydicom writes and some of its own test files, read back by pydicom."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from samples import encoded, noise

pydicom = pytest.importorskip("pydicom", reason="the extra dicom is not installed")
from pydicom import Dataset  # noqa: E402
from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.dataset import FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels.processing import apply_modality_lut  # noqa: E402
from pydicom.pixels.utils import pixel_array  # noqa: E402
from pydicom.uid import (  # noqa: E402
    MPEG2MPML,
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from dynaseg_cli.errors import DecodeError  # noqa: E402
from dynaseg_cli.images.decoding import decode, decode_photo, is_deep, read_stored  # noqa: E402
from dynaseg_cli.images.pages import count_pages, read_page  # noqa: E402

LIMIT = 1_000_000
RAMP = np.arange(480, dtype=np.uint16).reshape(20, 24) * 8


def dicom(pixels: NDArray[Any] | bytes, syntax: UID = ExplicitVRLittleEndian, **attributes: Any) -> bytes:
    """A file; attributes replace those that follow from an array."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    if not isinstance(pixels, bytes):
        colors = pixels.ndim > 2 and pixels.shape[-1] == 3
        height, width = pixels.shape[-3:-1] if colors else pixels.shape[-2:]
        data.Rows, data.Columns, data.SamplesPerPixel = height, width, 3 if colors else 1
        data.PhotometricInterpretation = "RGB" if colors else "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
        data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
        if colors:
            data.PlanarConfiguration = 0
        if pixels.ndim > 2 + colors:
            data.NumberOfFrames = len(pixels)
        pixels = pixels.tobytes()
        pixels += bytes(len(pixels) % 2)
    data.PixelData = pixels
    data["PixelData"].VR = "OW" if not syntax.is_encapsulated and attributes.get("BitsAllocated", 16) > 8 else "OB"
    for name, value in attributes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def from_pydicom(name: str) -> bytes:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"this pydicom has no {name}")
    return Path(path).read_bytes()


# Numbers


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4"])
def test_numbers_are_read_as_they_are_stored(dtype: str) -> None:
    values = (RAMP // 8 % 120).astype(dtype)
    stored = read_stored(dicom(values), LIMIT)
    np.testing.assert_array_equal(stored.values, values)
    assert is_deep(dicom(values)) == stored.is_deep == (dtype != "u1")


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"), [(1, -1024, np.int32), (2, 0, np.int32), (0.25, -3.5, np.float32)]
)
def test_slope_and_intercept_give_real_numbers(slope: float, intercept: float, dtype: Any) -> None:
    content = dicom(RAMP, RescaleSlope=slope, RescaleIntercept=intercept, BitsStored=12)
    stored = read_stored(content, LIMIT)
    np.testing.assert_array_equal(stored.values, RAMP.astype(np.float64) * slope + intercept)
    assert stored.values.dtype == dtype
    assert stored.full == (intercept, 4095 * slope + intercept)
    photo = decode_photo(content, LIMIT, "full")
    assert photo.range is not None
    assert (photo.range.low, photo.range.high) == stored.full


def test_numbers_of_8_bits_with_a_slope_are_mapped_by_the_range() -> None:
    content = dicom((RAMP // 16).astype(np.uint8), RescaleSlope=0.5, RescaleIntercept=0)
    photo = decode_photo(content, LIMIT, (0.0, 60.0))
    assert is_deep(content)
    np.testing.assert_array_equal(photo.pixels[..., 0], np.rint(np.clip((RAMP // 16) * 0.5 / 60, 0, 1) * 255))


@pytest.mark.parametrize(
    ("function", "ends"), [(None, (990.0, 1089.0)), ("LINEAR", (990.0, 1089.0)), ("LINEAR_EXACT", (990.0, 1090.0))]
)
def test_window_of_the_file_is_the_range_auto(function: str | None, ends: tuple[float, float]) -> None:
    """A window of width 100 at 1040 reaches from 990 to 1089, by PS3.3, C.11.2.1.2."""
    options = {} if function is None else {"VOILUTFunction": function}
    content = dicom(RAMP, WindowCenter=[1040, 7], WindowWidth=[100, 9], **options)
    photo = decode_photo(content, LIMIT)
    assert photo.range is not None
    assert (photo.range.low, photo.range.high) == ends
    low, high = ends
    np.testing.assert_array_equal(photo.pixels[..., 0], np.rint(np.clip((RAMP - low) / (high - low), 0, 1) * 255))
    full = decode_photo(content, LIMIT, "full").range
    assert full is not None
    assert (full.low, full.high) == (0, 65535)
    given = decode_photo(content, LIMIT, (0.0, 50.0)).range
    assert given is not None
    assert (given.low, given.high) == (0, 50)


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 5}, {"WindowCenter": 5, "WindowWidth": 1}])
def test_without_a_window_the_range_auto_is_that_of_other_images(window: dict[str, Any]) -> None:
    photo = decode_photo(dicom(RAMP, **window), LIMIT)
    assert photo.range is not None
    assert (photo.range.low, photo.range.high) == (0, 3832)


def test_window_that_shows_nothing_is_pointed_out() -> None:
    photo = decode_photo(dicom(RAMP, WindowCenter=-9000, WindowWidth=100), LIMIT)
    assert photo.warnings == (
        "nearly all of it is of one grey: its numbers lie in 0..3832, and its own window is -9050..-8951",
    )


def test_monochrome1_is_black_where_numbers_are_large() -> None:
    content = dicom(RAMP, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(decode(content, LIMIT, "full"), 255 - decode(dicom(RAMP), LIMIT, "full"))


def test_padding_means_no_data() -> None:
    values = RAMP.astype(np.int16)
    values[:3] = -2000
    content = dicom(values, PixelPaddingValue=-2000, RescaleSlope=1, RescaleIntercept=-24)
    photo = decode_photo(content, LIMIT)
    assert photo.range is not None
    assert (photo.range.nodata, photo.range.low) == (-2024, values[3:].min() - 24)
    assert (photo.pixels[:3] == 0).all()


def test_table_of_modality_is_looked_up() -> None:
    table = Dataset()
    table.LUTDescriptor = [480, 0, 16]
    table.LUTData = (np.arange(480, dtype="<u2") ** 2 // 9).tobytes()
    table.ModalityLUTType = "US"
    content = dicom(RAMP // 8, ModalityLUTSequence=[table])
    np.testing.assert_array_equal(read_stored(content, LIMIT).values, (RAMP // 8).astype(int) ** 2 % 65536 // 9)


def test_mask_of_one_bit_is_black_and_white() -> None:
    mask = RAMP > 2000
    bits = np.packbits(mask, bitorder="little").tobytes()
    content = dicom(
        bits,
        **{"Rows": 20, "Columns": 24, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"},
        **{"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelRepresentation": 0},
    )
    np.testing.assert_array_equal(decode(content, LIMIT)[..., 0], mask * 255)


def test_values_of_functional_groups_count() -> None:
    """An enhanced image has slope and window for each frame, or for all."""
    shared, frames = Dataset(), []
    transformation = Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept = 1, -1000
    shared.PixelValueTransformationSequence = [transformation]
    for index in range(3):
        window, frame = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = 100 * (index + 1), 50
        frame.FrameVOILUTSequence = [window]
        frames.append(frame)
    content = dicom(
        np.stack([RAMP, RAMP + 1, RAMP + 2]),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
    )
    photo = decode_photo(content, LIMIT)
    assert photo.range is not None
    assert (photo.range.low, photo.range.high) == (75, 124)
    assert read_stored(content, LIMIT).values[0, 0] == -1000


# Colours


def test_colours_are_rgb() -> None:
    np.testing.assert_array_equal(decode(dicom(noise(), BitsAllocated=8), LIMIT), noise())
    planes = np.moveaxis(noise(), -1, 0).tobytes()
    np.testing.assert_array_equal(decode(dicom(noise(), PlanarConfiguration=1, PixelData=planes), LIMIT), noise())


@pytest.mark.parametrize("entries", [8, 16])
def test_palette_is_looked_up(entries: int) -> None:
    indices, colors = (RAMP // 8 % 64).astype(np.uint8), noise()[:8, :8].reshape(64, 3)
    tables = {}
    for name, column in zip(("Red", "Green", "Blue"), colors.T, strict=True):
        data = column.tobytes() if entries == 8 else (column.astype("<u2") * 257).tobytes()
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [64, 0, entries]
        tables[f"{name}PaletteColorLookupTableData"] = data
    content = dicom(indices, PhotometricInterpretation="PALETTE COLOR", **tables)
    np.testing.assert_array_equal(decode(content, LIMIT), colors[indices])
    assert not is_deep(content)


def test_ybr_becomes_rgb() -> None:
    """By the formulas of JPEG (ITU-T T.871)."""
    ybr = noise().astype(np.float64)
    y, cb, cr = ybr[..., 0], ybr[..., 1] - 128, ybr[..., 2] - 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=2)
    read = decode(dicom(noise(), PhotometricInterpretation="YBR_FULL"), LIMIT)
    assert np.abs(read - np.clip(rgb, 0, 255)).max() <= 1


# Compressions: pydicom's own files, and its own reading of them


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "rtdose_rle_1frame.dcm",
        "SC_rgb_rle_16bit.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "examples_jpeg2k.dcm",
    ],
)
def test_real_files_have_the_numbers_that_pydicom_reads(name: str) -> None:
    if "jpeg_ls" in name or name == "SC_rgb_jpeg_gdcm.dcm":
        pytest.importorskip("libjpeg", reason="pylibjpeg-libjpeg is not installed")
    content = from_pydicom(name)
    header = pydicom.dcmread(io.BytesIO(content))
    expected = pixel_array(io.BytesIO(content), index=0)
    if header.SamplesPerPixel == 1:
        expected = apply_modality_lut(expected, header)
    np.testing.assert_array_equal(read_stored(content, LIMIT).values, expected)


@pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"])
def test_compression_and_byte_order_do_not_change_a_picture(name: str) -> None:
    np.testing.assert_array_equal(decode(from_pydicom(name), LIMIT), decode(from_pydicom("MR_small.dcm"), LIMIT))


# Frames


@pytest.mark.parametrize("name", ["rtdose.dcm", "rtdose_expb.dcm", "rtdose_rle.dcm", "SC_rgb_rle_2frame.dcm"])
def test_frames_are_pages(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(from_pydicom(name))
    count = count_pages(path, LIMIT)
    assert count == pydicom.dcmread(path).NumberOfFrames > 1
    hashes = set()
    for number in (1, 2, count):
        source = read_page(path, number, LIMIT)
        expected = pixel_array(path, index=number - 1)
        np.testing.assert_array_equal(read_stored(source.content, LIMIT).values, expected)
        alone = pydicom.dcmread(io.BytesIO(source.content))
        np.testing.assert_array_equal(alone.pixel_array, expected)
        hashes.add(source.sha256)
    assert len(hashes) == len({1, 2, count})
    photo = decode_photo(path.read_bytes(), LIMIT)
    assert (photo.frames, photo.warnings[0]) == (count, f"first of {count} frames, {count - 1} left out")
    with pytest.raises(DecodeError, match=f"it has no frame {count + 1}, only {count}"):
        read_page(path, count + 1, LIMIT)


def test_frame_takes_its_own_window_along(tmp_path: Path) -> None:
    frames = []
    for index in range(3):
        window, frame = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = 1000 * (index + 1), 50
        frame.FrameVOILUTSequence = [window]
        frames.append(frame)
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(np.stack([RAMP, RAMP + 1, RAMP + 2]), PerFrameFunctionalGroupsSequence=frames))
    photo = decode_photo(read_page(path, 3, LIMIT).content, LIMIT)
    assert photo.range is not None
    assert (photo.range.low, photo.range.high) == (2975, 3024)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_frames_of_odd_sizes_and_types_are_cut_out(tmp_path: Path, dtype: str) -> None:
    stack, path = np.random.default_rng(0).integers(0, 200, (3, 5, 7)).astype(dtype), tmp_path / "a.dcm"
    if dtype == "f4":
        attributes = {"PixelData": None, "FloatPixelData": stack.tobytes(), "PixelRepresentation": None}
        path.write_bytes(dicom(stack, **attributes, BitsStored=None, HighBit=None))
    else:
        path.write_bytes(dicom(stack))
    for number in (1, 2, 3):
        np.testing.assert_array_equal(
            read_stored(read_page(path, number, LIMIT).content, LIMIT).values, stack[number - 1]
        )


# What is not read, and hostile files


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (dicom(RAMP, Rows=60000, Columns=60000), "60000 x 60000 pixels are more than `max_pixels=1000000` allows"),
        (dicom(RAMP, Rows=0), "the image has no pixels"),
        (dicom(RAMP, Rows=21), "damaged: the file is cut off"),
        (dicom(RAMP)[:-300], "damaged: the file is cut off"),
        (dicom(RAMP, PixelData=None), "a DICOM file without an image"),
        (dicom(RAMP)[:200], "damaged: its header cannot be read|a DICOM file without an image"),
        (bytes(128) + b"DICM" + bytes(500), "damaged: its header cannot be read"),
        (bytes(128) + b"DICM", "damaged: its header cannot be read"),
        (dicom(RAMP, RescaleSlope=0), "damaged: its rescale slope is 0"),
        (dicom(RAMP, PhotometricInterpretation="HSV"), "a DICOM file of 1 samples in HSV is not read"),
        (dicom(RAMP, SamplesPerPixel=4), "a DICOM file of 4 samples in MONOCHROME2 is not read"),
        (dicom(RAMP, PhotometricInterpretation="PALETTE COLOR"), "damaged or not supported: No suitable Palette"),
        (dicom(encapsulate([b"\0" * 100]), MPEG2MPML, Rows=20, Columns=24, SamplesPerPixel=1,
               PhotometricInterpretation="MONOCHROME2", BitsAllocated=8), "in MPEG2 .* is not read"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_not_read_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason) as raised:
        decode(content, LIMIT)
    assert "\n" not in str(raised.value)


def test_deflated_file_is_refused_before_it_is_inflated() -> None:
    with pytest.raises(DecodeError, match="a deflated DICOM file is not read: save it uncompressed"):
        decode(from_pydicom("image_dfl.dcm"), LIMIT)
    assert DeflatedExplicitVRLittleEndian in from_pydicom("image_dfl.dcm").decode("latin-1")


@pytest.mark.parametrize(
    ("syntax", "file_format"), [(JPEGBaseline8Bit, "JPEG"), (JPEG2000Lossless, "JPEG2000")], ids=["JPEG", "JPEG 2000"]
)
def test_stream_of_another_size_than_the_header_is_refused(syntax: UID, file_format: str) -> None:
    """The header has few pixels; the stream in it would be decoded to its own size."""
    options = {"no_jp2": True} if file_format == "JPEG2000" else {}
    stream = encoded(noise(0, 300, 200)[..., 0], file_format, **options)
    sized = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0, "SamplesPerPixel": 1}
    sized |= {"PhotometricInterpretation": "MONOCHROME2"}
    content = dicom(encapsulate([stream]), syntax, Rows=20, Columns=24, **sized)
    with pytest.raises(DecodeError, match="damaged: its compressed image has another size than its header says"):
        decode(content, 10_000)
    sound = dicom(encapsulate([stream]), syntax, Rows=200, Columns=300, **sized)
    assert np.abs(decode(sound, LIMIT)[..., 0].astype(int) - noise(0, 300, 200)[..., 0]).mean() < 20


def test_stream_without_sense_is_refused() -> None:
    sized = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0, "SamplesPerPixel": 1}
    sized |= {"PhotometricInterpretation": "MONOCHROME2", "Rows": 20, "Columns": 24}
    with pytest.raises(DecodeError, match="damaged, or a kind of RLE Lossless that is not read"):
        decode(dicom(encapsulate([b"\xff" * 90]), RLELossless, **sized), LIMIT)


def test_compression_without_its_package_says_which_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.pixels.decoders import JPEGLSLosslessDecoder  # noqa: PLC0415

    content = from_pydicom("MR_small_jpeg_ls_lossless.dcm")
    monkeypatch.setattr(JPEGLSLosslessDecoder, "_available", {})
    monkeypatch.setattr(
        JPEGLSLosslessDecoder, "_unavailable", {"pylibjpeg": ("pylibjpeg>=2.0", "pylibjpeg-libjpeg>=2")}
    )
    with pytest.raises(DecodeError, match="Compression needs pylibjpeg and pylibjpeg-libjpeg: install these, too"):
        decode(content, LIMIT)
