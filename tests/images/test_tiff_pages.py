"""Pages of TIFF stacks as tifffile wrote them, each read alone and compared with the array that was written."""

from __future__ import annotations

import io
import struct
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from samples import encoded, noise

from dynaseg_cli.config import PixelSize
from dynaseg_cli.errors import DecodeError
from dynaseg_cli.images import tiff_pages as module
from dynaseg_cli.images.decoding import decode, decode_photo, read_stored
from dynaseg_cli.images.pages import count_pages, read_page
from dynaseg_cli.images.pixel_size import read_pixel_size
from dynaseg_cli.images.tiff_pages import tiff_pages

LIMIT = 1_000_000
STACK = np.random.default_rng(0).integers(0, 4096, (2, 3, 2, 21, 19), dtype=np.uint16)
"""T, Z, C, Y, X."""
PLANES = [np.moveaxis(STACK[t, z], 0, -1) for t, z in product(range(2), range(3))]
"""(Y, X, C) of each page, in the order of a file of TZCYX."""


def values(path: Path, page: int) -> NDArray[Any]:
    """The stored numbers of a page, all channels."""
    return read_stored(read_page(path, page, LIMIT).content, LIMIT, "all").values


def check(path: Path, expected: list[NDArray[Any]]) -> None:
    assert count_pages(path, LIMIT) == len(expected)
    for number, page in enumerate(expected, 1):
        np.testing.assert_array_equal(values(path, number), page)


@pytest.mark.parametrize("axes", ["TZCYX", "TCZYX", "CTZYX", "CZTYX", "ZTCYX"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}], ids=str)
def test_page_of_ome_tiff_has_its_channels_together(tmp_path: Path, axes: str, options: dict[str, Any]) -> None:
    order = ["TZCYX".index(axis) for axis in axes]
    stack = STACK.transpose(order)
    tifffile.imwrite(
        tmp_path / "a.ome.tif", stack, photometric="minisblack", metadata={"axes": axes}, ome=True, **options
    )
    outer = [axis for axis in axes if axis in "TZ"]
    sizes = [range(STACK.shape["TZCYX".index(axis)]) for axis in outer]
    places = [dict(zip(outer, place, strict=True)) for place in product(*sizes)]
    check(tmp_path / "a.ome.tif", [np.moveaxis(STACK[place["T"], place["Z"]], 0, -1) for place in places])


def test_page_of_imagej_hyperstack_has_its_channels_together(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": "TZCYX"})
    check(tmp_path / "a.tif", PLANES)


def test_hyperstack_with_one_directory_for_all_planes_is_read(tmp_path: Path) -> None:
    """ImageJ writes more than 4 GB so: the pixels of all planes lie behind each other, and only one is described."""
    text = b"ImageJ=1.53t\nimages=12\nchannels=2\nslices=3\nframes=2\nhyperstack=true\n\0"
    entries = {256: (4, 19), 257: (4, 21), 258: (3, 16), 259: (3, 1), 262: (3, 1), 277: (3, 1), 278: (4, 21)}
    entries |= {270: (2, 0), 273: (4, 0), 279: (4, 2 * 19 * 21)}
    start = 8 + 2 + 12 * len(entries) + 4
    entries[270], entries[273] = (2, start), (4, start + len(text))
    directory = b"".join(
        struct.pack(">HHI", tag, kind, len(text) if tag == 270 else 1)
        + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, (kind, value) in sorted(entries.items())
    )
    header = b"MM\0*" + struct.pack(">IH", 8, len(entries)) + directory + bytes(4)
    (tmp_path / "a.tif").write_bytes(header + text + STACK.astype(">u2").tobytes())
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), STACK)
    check(tmp_path / "a.tif", PLANES)


@pytest.mark.parametrize(
    ("name", "options"), [("a.ome.tif", {"ome": True}), ("a.tif", {"imagej": True}), ("b.tif", {})]
)
def test_page_of_colours_is_one_page(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    stack = np.stack([noise(seed) for seed in range(4)])
    metadata = {"axes": "ZYXS"} if options else None
    tifffile.imwrite(tmp_path / name, stack, photometric="rgb", metadata=metadata, **options)
    check(tmp_path / name, list(stack))


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}], ids=str)
@pytest.mark.parametrize("compression", [None, "lzma"])
def test_without_metadata_every_directory_is_a_page(
    tmp_path: Path, options: dict[str, Any], compression: str | None
) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif", **options) as file:
        for plane in STACK[0, :, 0]:
            file.write(plane, photometric="minisblack", metadata=None, compression=compression, predictor=False)
    check(tmp_path / "a.tif", list(STACK[0, :, 0]))


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("P", {}),
        ("1", {"compression": "group4"}),
        ("CMYK", {}),
        ("RGB", {"compression": "jpeg"}),
        ("RGBA", {"compression": "tiff_lzw"}),
    ],
    ids=str,
)
def test_page_looks_like_a_file_of_its_own(tmp_path: Path, mode: str, options: dict[str, Any]) -> None:
    """The palette, tables of JPEG and the like are copied with the strips."""
    pictures = [Image.fromarray(noise(seed)).convert(mode) for seed in range(3)]
    pictures[0].save(tmp_path / "a.tif", save_all=True, append_images=pictures[1:], **options)
    for number, picture in enumerate(pictures, 1):
        picture.save(tmp_path / "alone.tif", **options)
        page = decode(read_page(tmp_path / "a.tif", number, LIMIT).content, LIMIT)
        np.testing.assert_array_equal(page, decode((tmp_path / "alone.tif").read_bytes(), LIMIT))


def test_smaller_copies_and_masks_are_no_pages(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for seed in range(2):
            file.write(noise(seed), photometric="rgb")
            file.write(noise(seed)[::2, ::2], photometric="rgb", subfiletype=1)
    check(tmp_path / "a.tif", [noise(0), noise(1)])


def test_single_picture_has_no_pages_and_channels_in_pages_have_one(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "one.tif", noise(), photometric="rgb")
    assert count_pages(tmp_path / "one.tif", LIMIT) is None
    tifffile.imwrite(tmp_path / "c.ome.tif", STACK[0, 0], photometric="minisblack", metadata={"axes": "CYX"})
    check(tmp_path / "c.ome.tif", PLANES[:1])


def test_page_keeps_its_resolution_and_its_place_on_a_map(tmp_path: Path) -> None:
    scale, tie = (33550, 12, 3, (0.5, 0.5, 0.0)), (33922, 12, 6, (0.0, 0.0, 0.0, 7.0, 8.0, 0.0))
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for seed in range(2):
            file.write(
                noise(seed), photometric="rgb", metadata=None, resolution=(100, 50 + seed), extratags=[scale, tie]
            )
    with tifffile.TiffFile(io.BytesIO(read_page(tmp_path / "a.tif", 2, LIMIT).content)) as page:
        tags = page.pages.first.tags
        assert tags[282].value[0] / tags[282].value[1] == 100
        assert tags[283].value[0] / tags[283].value[1] == 51
        assert tags[33550].value == (0.5, 0.5, 0.0)
        assert tags[33922].value == (0.0, 0.0, 0.0, 7.0, 8.0, 0.0)


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_page_keeps_the_size_of_a_pixel(tmp_path: Path, name: str) -> None:
    """It stands in the metadata of the first page, with the number of pages, which the others must not have."""
    if name == "a.tif":
        metadata = {"axes": "TZCYX", "unit": "um"}
        tifffile.imwrite(tmp_path / name, STACK, imagej=True, resolution=(4, 2), metadata=metadata)
    else:
        units = {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
        tifffile.imwrite(tmp_path / name, STACK, photometric="minisblack", metadata={"axes": "TZCYX", **units})
    expected = read_pixel_size((tmp_path / name).read_bytes())
    assert expected == PixelSize(0.5, 0.25, "um")
    for number in (1, 6):
        assert read_pixel_size(read_page(tmp_path / name, number, LIMIT).content) == expected
    check(tmp_path / name, PLANES)


def test_page_is_identified_by_its_own_data(tmp_path: Path) -> None:
    """Whatever becomes of other pages, and wherever in the file it lies."""
    stack = np.stack([noise(seed)[..., 0] for seed in range(3)])
    changed = np.stack([noise(9)[..., 0], *stack[1:], noise(7)[..., 0]])
    for name, pages in (("a.tif", stack), ("b.tif", changed)):
        tifffile.imwrite(tmp_path / name, pages, photometric="minisblack", metadata=None)
    before, after = (
        [read_page(tmp_path / name, number, LIMIT).sha256 for number in (1, 2, 3)] for name in ("a.tif", "b.tif")
    )
    assert before[0] != after[0]
    assert before[1:] == after[1:]
    assert len(set(before)) == 3


def test_file_that_changes_is_looked_at_again(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[0, :, 0], photometric="minisblack", metadata=None)
    assert count_pages(path, LIMIT) == 3
    tifffile.imwrite(path, STACK[0, :2, 0], photometric="minisblack", metadata=None)
    assert count_pages(path, LIMIT) == 2
    with pytest.raises(DecodeError, match="it has no page 3, only 2"):
        read_page(path, 3, LIMIT)
    tifffile.imwrite(path, STACK[0, 0, 0], photometric="minisblack", metadata=None)
    with pytest.raises(DecodeError, match="it has no page 2, only 1"):
        read_page(path, 2, LIMIT)
    path.write_bytes(b"words")
    with pytest.raises(DecodeError, match="no longer has several pages"):
        read_page(path, 1, LIMIT)


def test_nothing_of_other_pages_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack of 200 pages of 2 MB in a sparse file: of 400 MB, less than two pages are read for one."""
    path, size = tmp_path / "a.tif", 1024
    stack = tifffile.memmap(path, shape=(200, size, size), dtype=np.uint16, photometric="minisblack", metadata=None)
    stack[149, :2] = 7
    stack.flush()
    assert len(tiff_pages(path)) == 200
    taken = 0
    real = module.open_file

    class Counted:
        def __init__(self, file: Any) -> None:
            self._file, self.seek, self.tell = file, file.seek, file.tell

        def read(self, count: int = -1) -> bytes:
            nonlocal taken
            content: bytes = self._file.read(count)
            taken += len(content)
            return content

    class Opened:
        def __init__(self, path: Path) -> None:
            self._context = real(path)

        def __enter__(self) -> tuple[Any, int]:
            file, length = self._context.__enter__()
            return Counted(file), length

        def __exit__(self, *error: Any) -> None:
            self._context.__exit__(*error)

    monkeypatch.setattr(module, "open_file", Opened)
    content = read_page(path, 150, 2 * size * size).content
    assert path.stat().st_size > 400_000_000
    assert 2 * size * size <= taken < 4 * size * size
    assert read_stored(content, 2 * size * size).values.sum() == 7 * 2 * size


# Damaged and hostile files


def test_file_that_is_cut_off_has_the_pages_that_are_there(tmp_path: Path) -> None:
    first, *more = (Image.fromarray(noise(seed)) for seed in range(3))
    path = tmp_path / "a.tif"
    path.write_bytes(encoded(first, "TIFF", save_all=True, append_images=more)[:-9])  # the pixels of the last page
    assert count_pages(path, LIMIT) == 3
    np.testing.assert_array_equal(values(path, 2), noise(1))
    with pytest.raises(DecodeError, match="damaged: the file is cut off, or its pixels lie beyond its end"):
        read_page(path, 3, LIMIT)


def test_page_larger_than_allowed_is_refused_before_it_is_read(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK[0, :, 0], photometric="minisblack", metadata=None)
    with pytest.raises(DecodeError, match="19 x 21 pixels are more than `max_pixels=300` allows"):
        decode(read_page(tmp_path / "a.tif", 2, 300).content, 300)


def test_strips_that_claim_the_same_bytes_again_and_again_are_refused(tmp_path: Path) -> None:
    """A thousand strips that are one and the same megabyte would be a gigabyte in memory."""
    count, size = 1000, 1 << 20
    entries = {256: 1024, 257: 1024 * count, 258: 8, 259: 1, 262: 1, 277: 1, 278: 1024, 273: 0, 279: 0}
    behind = 8 + 2 + 12 * len(entries) + 4
    entries[273], entries[279] = behind, behind + 4 * count
    directory = b"".join(
        struct.pack("<HHII", tag, 4, count if tag in (273, 279) else 1, value) for tag, value in sorted(entries.items())
    )
    data = behind + 8 * count
    second = data + size
    content = b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + struct.pack("<I", second)
    content += struct.pack(f"<{count}I", *[data] * count) + struct.pack(f"<{count}I", *[size] * count) + bytes(size)
    (tmp_path / "a.tif").write_bytes(content + struct.pack("<H", len(entries)) + directory + bytes(4))
    assert count_pages(tmp_path / "a.tif", LIMIT) == 2
    with pytest.raises(DecodeError, match="its page is larger than `max_pixels=1000000` allows"):
        read_page(tmp_path / "a.tif", 1, LIMIT)


def with_description(path: Path, old: bytes, new: bytes) -> None:
    """Change the metadata of a file, which keep their length."""
    content = path.read_bytes()
    assert content.count(old) >= 1
    assert len(old) == len(new)
    path.write_bytes(content.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'SizeT="2"', b'SizeT="9"'),
        (b'SizeT="2"', b'SizeT="x"'),
        (b"<Pixels", b"<Pixelz"),
        (b'SizeC="2"', b'SizeC="-'),
        (b'PlaneCount="12"', b'PlaneCount="99"'),
    ],
    ids=str,
)
def test_metadata_that_contradict_the_file_do_not_crash(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", metadata={"axes": "TZCYX"})
    with_description(path, old, new[: len(old)].ljust(len(old)))
    for number in range(1, (count_pages(path, LIMIT) or 0) + 1):
        try:
            assert values(path, number).shape[:2] == (21, 19)
        except DecodeError as error:
            assert "lacks this page" in str(error) or "cut off" in str(error)


@pytest.mark.parametrize(
    "claim",
    [
        b'<Pixels SizeX="19" SizeY="21" SizeC="1" SizeZ="999999999" SizeT="999999999" DimensionOrder="XYCZT" ID="1">'
        b"<Channel/><TiffData/></Pixels>",
        b'<Pixels SizeX="19" SizeY="21" SizeC="1" SizeZ="1" SizeT="2" DimensionOrder="XYCZT" ID="1"><Channel/>'
        b'<TiffData IFD="0" PlaneCount="999999999999"/></Pixels>',
        b'<Pixels SizeX="19" SizeY="21" SizeC="1" SizeZ="1" SizeT="2" DimensionOrder="XYCZT" ID="1"><Channel/>'
        + b"<TiffData/>" * 1000
        + b"</Pixels>",
    ],
)
def test_metadata_of_endless_planes_cost_nothing(tmp_path: Path, claim: bytes) -> None:
    text = b'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="1">'
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for index in range(2):
            description = text + claim + b"</Image></OME>" if not index else None
            file.write(STACK[0, index, 0], photometric="minisblack", metadata=None, description=description)
    assert count_pages(path, LIMIT) == 2
    np.testing.assert_array_equal(values(path, 2), STACK[0, 1, 0])


def test_other_files_that_metadata_name_are_not_opened(tmp_path: Path) -> None:
    """OME-TIFF may spread over files; one is read as what it holds itself."""
    tifffile.imwrite(tmp_path / "b.ome.tif", STACK[1], photometric="minisblack", metadata={"axes": "ZCYX"})
    text = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:a">'
        '<Image ID="1"><Pixels SizeX="19" SizeY="21" SizeC="1" SizeZ="4" SizeT="1" DimensionOrder="XYCZT" ID="1">'
        '<Channel/><TiffData IFD="0" FirstZ="0" PlaneCount="2"><UUID FileName="a.ome.tif">urn:uuid:a</UUID></TiffData>'
        '<TiffData IFD="0" FirstZ="2" PlaneCount="2"><UUID FileName="b.ome.tif">urn:uuid:b</UUID></TiffData>'
        "</Pixels></Image></OME>"
    )
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        for index in range(2):
            description = text if not index else None
            file.write(STACK[0, index, 0], photometric="minisblack", metadata=None, description=description)
    check(tmp_path / "a.ome.tif", [STACK[0, 0, 0], STACK[0, 1, 0]])


def test_pages_beyond_the_limit_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PAGES", 2)
    tifffile.imwrite(tmp_path / "a.tif", STACK[0, :, 0], photometric="minisblack", metadata=None)
    assert count_pages(tmp_path / "a.tif", LIMIT) == 2


def test_first_picture_stays_what_it_was_unless_pages_or_channels_are_asked_for(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, photometric="minisblack", metadata={"axes": "TZCYX"})
    photo = decode_photo((tmp_path / "a.ome.tif").read_bytes(), LIMIT, "full")
    np.testing.assert_array_equal(photo.pixels[..., 0], np.rint(STACK[0, 0, 0] / 65535 * 255))
    assert photo.warnings[0] == "first of 12 pages, 11 left out"
    chosen = decode_photo((tmp_path / "a.ome.tif").read_bytes(), LIMIT, "full", (2,))
    np.testing.assert_array_equal(chosen.pixels[..., 0], np.rint(STACK[0, 0, 1] / 65535 * 255))
    assert (chosen.frames, chosen.channels) == (6, (2,))
    assert chosen.warnings[0] == "first of 6 pages, 5 left out"
