from __future__ import annotations

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import encoded, noise

from dynaseg_cli.errors import DecodeError
from dynaseg_cli.files import reading as images
from dynaseg_cli.files.reading import PHOTO_SUFFIXES, UNREADABLE_SUFFIXES
from dynaseg_cli.images.decoding import decode
from dynaseg_cli.images.headers import foreign_kind


def of_iso_family(brand: bytes, *compatible: bytes) -> bytes:
    brands = brand + bytes(4) + b"".join(compatible)
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(200)


def archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("cat.jpg", b"pixels")
    return stream.getvalue()


def tiff(*tags: tuple[int, int, int, object, bool]) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, noise()[..., 0], extratags=tags)
    return stream.getvalue()


def preview() -> bytes:
    """A TIFF that keeps its picture in a directory below, as NEF and ARW do."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        file.write(noise()[..., 0], subifds=1, subfiletype=1)
        file.write(noise()[..., 0].astype(np.uint16))
    return stream.getvalue()


FOREIGN = {
    "HEIC": (of_iso_family(b"heic", b"mif1", b"heic"), "an HEIC image"),
    "HEIC of any codec": (of_iso_family(b"mif1", b"mif1", b"heic"), "an HEIC image"),
    "CR3": (of_iso_family(b"crx "), "a camera raw file"),
    "MP4": (of_iso_family(b"isom", b"mp42"), "a video"),
    "QuickTime": (of_iso_family(b"qt  "), "a video"),
    "CR2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(100), "a camera raw file"),
    "DNG": (tiff((50706, 1, 4, (1, 4, 0, 0), True)), "a camera raw file"),
    "NEF": (preview(), "a camera raw file"),
    "RAF": (b"FUJIFILMCCD-RAW 0201" + bytes(100), "a camera raw file"),
    "ORF": (b"IIRO\x08\0\0\0" + bytes(100), "a camera raw file"),
    "RW2": (b"IIU\0\x18\0\0\0" + bytes(100), "a camera raw file"),
    "Photoshop": (b"8BPS\0\1" + bytes(100), "a Photoshop file"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
    "SVG with a prolog": (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a -->\n<svg/>", "an SVG drawing"),
    "web page": (b"\n<!DOCTYPE html>\n<html>", "a web page"),
    "text": (b"Dear diary, this is no photo.\n" * 20, "it is text"),
    "text in UTF-8": ("Größe 写真 🐈\n".encode() * 200, "it is text"),
    "text that starts as PPM": (b"P 6 reasons why this is no photo, but text\n", "it is text"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "OpenEXR": (b"\x76\x2f\x31\x01\2\0\0\0" + bytes(100), "an OpenEXR image"),
    "Radiance": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n", "a Radiance HDR image"),
    "JPEG XL": (b"\xff\x0a" + bytes(100), "a JPEG XL image"),
    "JPEG XL in a box": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100), "a JPEG XL image"),
    "DICOM": (bytes(128) + b"DICM" + bytes(100), "a DICOM file"),
    "FITS": (b"SIMPLE  =                    T" + b" " * 2850, "a FITS file"),
    "NIfTI": (struct.pack("<I", 348) + bytes(340) + b"n+1\0", "a NIfTI volume"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
    "NumPy": (b"\x93NUMPY\1\0" + bytes(100), "a NumPy array"),
    "gzip": (gzip.compress(b"pixels"), "a gzip archive"),
    "zip": (archive(), "a zip archive"),
    "Matroska": (b"\x1aE\xdf\xa3" + bytes(100), "a video"),
    "icon": (encoded(noise(), "ICO"), "a Windows icon"),
}


@pytest.fixture(autouse=True)
def without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEIF_INSTALLED", "DICOM_INSTALLED"):
        monkeypatch.setattr(f"dynaseg_cli.images.headers.{name}", False)


@pytest.mark.parametrize("name", FOREIGN)
def test_file_of_another_kind_is_named_with_what_to_do(name: str) -> None:
    content, kind = FOREIGN[name]
    with pytest.raises(DecodeError, match=kind) as raised:
        decode(content, 1_000_000)
    assert ": " in str(raised.value)
    assert "damaged" not in str(raised.value)


@pytest.mark.parametrize(("name", "extra"), [("HEIC", "heif"), ("DICOM", "dicom")])
def test_what_an_extra_reads_says_which_one(name: str, extra: str) -> None:
    with pytest.raises(DecodeError, match=rf"pip install 'dynaseg\[{extra}\]'"):
        decode(FOREIGN[name][0], 1_000_000)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000"])
def test_photos_are_none_of_these(file_format: str) -> None:
    for seed in range(20):
        assert foreign_kind(encoded(noise(seed), file_format), avif=True) is None
    assert foreign_kind(encoded(Image.new("1", (5, 5)), "PPM"), avif=True) is None
    assert foreign_kind(b"P3\n# words\n1 1 255\n1 2 3\n", avif=True) is None


def test_avif_is_told_from_heic() -> None:
    for content in (of_iso_family(b"avif", b"mif1", b"miaf"), of_iso_family(b"mif1", b"avif", b"miaf")):
        assert foreign_kind(content, avif=True) is None
        assert "an AVIF image" in str(foreign_kind(content, avif=False))


def test_complex_numbers_and_compressions_are_named() -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, noise()[..., 0].astype(np.complex64))
    with pytest.raises(DecodeError, match="complex numbers is not read: save its magnitude as a float32 TIFF"):
        decode(stream.getvalue(), 1_000_000)
    content = bytearray(encoded(noise()[..., 0].astype(np.uint16), "TIFF"))
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", content, entry) == (259,):
            struct.pack_into("<I", content, entry + 8, 34887)
    with pytest.raises(DecodeError, match="16 bits in LERC is not read: convert it to an uncompressed or deflate TIFF"):
        decode(bytes(content), 1_000_000)


def test_no_suffix_is_both_of_photos_and_of_what_is_not_read() -> None:
    assert not set(PHOTO_SUFFIXES) & set(UNREADABLE_SUFFIXES)
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in UNREADABLE_SUFFIXES)
    assert (".heic" in PHOTO_SUFFIXES) == images.HEIF_INSTALLED != (".heic" in UNREADABLE_SUFFIXES)
    assert (".dcm" in PHOTO_SUFFIXES) == images.DICOM_INSTALLED != (".dcm" in UNREADABLE_SUFFIXES)
