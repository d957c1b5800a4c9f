"""The reader of MATLAB 5 files, beside scipy's; it must survive what scipy's does not."""

from __future__ import annotations

import contextlib
import io
import math
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
import scipy.io
from label_samples import bsds500, matlab
from numpy.typing import NDArray

from dynaseg_cli.errors import DecodeError
from dynaseg_cli.images import matlab as module
from dynaseg_cli.images.matlab import DAMAGE, MATLAB_MEMBERS, Matrix, read_matlab

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x100) + b"IM"
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64", "bool")


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def array(kind: int, shape: tuple[int, ...], name: bytes, *elements: bytes) -> bytes:
    """An array of MATLAB's class `kind`."""
    flags = element(6, struct.pack("<II", kind, 0))
    sizes = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, flags + sizes + element(1, name) + b"".join(elements))


def compressed(content: bytes) -> bytes:
    packed = zlib.compress(content)
    return struct.pack("<II", 15, len(packed)) + packed


DOUBLES = element(9, struct.pack("<4d", 1, 2, 3, 4))


@pytest.mark.parametrize("do_compression", [False, True])
@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (1, 3), (4, 1), (0, 0), (0, 3), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", TYPES)
def test_numbers_are_those_that_scipy_reads(dtype: str, shape: tuple[int, ...], do_compression: bool) -> None:
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    content = matlab({"a": values}, do_compression=do_compression)
    read = read_matlab(content)["a"].numbers()
    np.testing.assert_array_equal(read, values)
    np.testing.assert_array_equal(read, scipy.io.loadmat(io.BytesIO(content))["a"])


def test_cells_and_fields_are_those_that_were_written() -> None:
    maps = [np.arange(6, dtype=np.uint16).reshape(2, 3), np.ones((2, 3), np.uint16)]
    cells = list(read_matlab(bsds500(*maps))["groundTruth"].cells())
    for cell, labels in zip(cells, maps, strict=True):
        np.testing.assert_array_equal(cell.field("Segmentation").numbers(), labels)
        assert cell.field("Boundaries").shape == (2, 2)
        with pytest.raises(KeyError):
            cell.field("segmentation")


def test_other_byte_order_is_read() -> None:
    def swapped(kind: int, content: bytes) -> bytes:
        return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)

    fields = (
        swapped(6, struct.pack(">II", 11, 0)) + swapped(5, struct.pack(">ii", 1, 3)) + struct.pack(">HH4s", 1, 1, b"a")
    )
    content = HEADER[:124] + b"\1\0MI" + swapped(14, fields + swapped(4, struct.pack(">3H", 1, 2, 300)))
    assert scipy.io.loadmat(io.BytesIO(content))["a"].tolist() == [[1, 2, 300]]
    assert read_matlab(content)["a"].numbers().tolist() == [[1, 2, 300]]


def test_what_is_neither_numbers_nor_cells_is_named_and_no_more() -> None:
    strange = {"text": "words", "complex": np.array([[1j, 2]]), "sparse": scipy.sparse.csc_array(np.eye(3))}
    variables = read_matlab(matlab(strange))
    assert set(variables) == set(strange)
    for variable in variables.values():
        assert not variable.is_numeric
        for look in (variable.numbers, lambda one=variable: next(one.cells()), lambda one=variable: one.field("a")):
            with pytest.raises(ValueError, match="not a"):
                look()


def test_data_that_matlab_keeps_for_itself_is_no_variable() -> None:
    content = (
        HEADER + array(9, (2, 2), b"", element(2, b"\1\2\3\4")) + element(14, element(6, struct.pack("<II", 17, 0)))
    )
    assert read_matlab(content) == {}


def test_last_of_two_variables_of_one_name_counts() -> None:
    content = HEADER + array(6, (2, 2), b"a", DOUBLES) + array(6, (1, 4), b"a", DOUBLES)
    assert read_matlab(content)["a"].numbers().tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("reserved", [0, 8, 10, 11, 15, 19])
def test_number_type_that_does_not_exist_is_damage(reserved: int) -> None:
    """scipy's reader crashes the process on some of these."""
    variable = read_matlab(HEADER + array(6, (2, 2), b"a", element(reserved, bytes(32))))["a"]
    with pytest.raises(DAMAGE):
        variable.numbers()


@pytest.mark.parametrize("shape", [(3, 2), (2, 1), (-1, 4), (-2, -2), (2**31 - 1, 2**31 - 1), (), (1,) * 100], ids=str)
def test_size_that_the_data_does_not_have_is_damage(shape: tuple[int, ...]) -> None:
    with pytest.raises((DecodeError, *DAMAGE)):
        read_matlab(HEADER + array(6, shape, b"a", DOUBLES))["a"].numbers()


@pytest.mark.parametrize("number", [1, 3])
def test_other_number_of_cells_than_said_is_damage(number: int) -> None:
    cells = read_matlab(HEADER + array(1, (1, 2), b"a", *[array(6, (2, 2), b"", DOUBLES)] * number))["a"].cells()
    with pytest.raises(DAMAGE):
        list(cells)


def test_cells_nested_deeper_than_any_stack_are_not_descended_into() -> None:
    """scipy's reader crashes the process."""
    depth = 200_000
    header = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<ii", 1, 1)) + element(1, b"a")
    sizes = [len(header)]
    for _ in range(depth):
        sizes.append(sizes[-1] + 8 + len(header))
    nested = b"".join(struct.pack("<II", 14, size) + header for size in reversed(sizes))
    (member,) = read_matlab(HEADER + compressed(nested))["a"].cells()
    assert member.name == "a"


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "MATLAB_BYTES", 1 << 20)
    return 1 << 20


@pytest.mark.parametrize(
    ("said", "message"),
    [(30_000_000, "would decompress to more than 1 MiB"), (500_000, "damaged")],
    ids=["true", "lie"],
)
def test_bomb_is_refused_without_growing(said: int, message: str, small_limit: int) -> None:
    bomb = HEADER + compressed(struct.pack("<II", 14, said) + bytes(30_000_000))
    assert len(bomb) < 50_000
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match=message):
            read_matlab(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2 * small_limit
    finally:
        tracemalloc.stop()


def test_limit_is_on_all_variables_together(small_limit: int) -> None:
    side = math.isqrt(small_limit * 2 // 3)
    one, two = ((compressed(array(9, (side, side), name, element(2, bytes(side**2))))) for name in (b"a", b"b"))
    assert read_matlab(HEADER + one)["a"].numbers().shape == (side, side)
    with pytest.raises(DecodeError, match="more than 1 MiB"):
        read_matlab(HEADER + one + two)


def test_what_a_header_takes_counts_too(small_limit: int) -> None:
    def named(name: bytes) -> bytes:
        return compressed(array(6, (2, 2), name, DOUBLES))

    content = HEADER + named(b"a" * (small_limit * 2 // 3))
    assert len(read_matlab(content)) == 1
    with pytest.raises(DecodeError, match="more than 1 MiB"):
        read_matlab(content + named(b"b" * (small_limit * 2 // 3)))


@pytest.mark.parametrize("named", [True, False])
def test_file_of_endlessly_many_variables_is_refused(named: bool) -> None:
    variables = [array(6, (2, 2), b"a%d" % index if named else b"", DOUBLES) for index in range(MATLAB_MEMBERS + 1)]
    assert len(read_matlab(HEADER + b"".join(variables[:-1]))) == named * MATLAB_MEMBERS
    with pytest.raises(DecodeError, match="more than 1000 variables; save what is to be read by itself"):
        read_matlab(HEADER + b"".join(variables))


def test_endlessly_many_cells_are_damage() -> None:
    def cells(number: int) -> Matrix:
        return read_matlab(HEADER + array(1, (1, number), b"a", element(14, b"") * number))["a"]

    assert len(list(cells(MATLAB_MEMBERS).cells())) == MATLAB_MEMBERS
    with pytest.raises(DAMAGE, match="too many cells"):
        next(cells(MATLAB_MEMBERS + 1).cells())


def test_endlessly_many_fields_are_damage() -> None:
    def structure(number: int) -> Matrix:
        names = b"".join(b"%04d" % index for index in range(number))
        fields = element(5, struct.pack("<i", 4)) + element(1, names) + element(14, b"") * number
        return read_matlab(HEADER + array(2, (1, 1), b"a", fields))["a"]

    assert structure(MATLAB_MEMBERS).field("0999").shape == (0, 0)
    with pytest.raises(DAMAGE, match="too many fields"):
        structure(MATLAB_MEMBERS + 1).field("0000")


@pytest.mark.parametrize(
    "header",
    [
        element(5, bytes(20_000_000)) + element(1, b"a"),
        element(5, struct.pack("<2i", 1, 1)) + element(1, b"a" * 20_000_000),
    ],
    ids=["dimensions", "name"],
)
def test_header_that_is_a_bomb_takes_no_more_than_it_decompresses_to(header: bytes) -> None:
    bomb = HEADER + compressed(element(14, element(6, struct.pack("<II", 6, 0)) + header))
    del header
    tracemalloc.start()
    try:
        with contextlib.suppress(DecodeError):
            read_matlab(bomb)
        assert tracemalloc.get_traced_memory()[1] < 45_000_000
    finally:
        tracemalloc.stop()


def test_elements_that_overlap_by_a_lying_tag_do_not_hide_a_bomb(small_limit: int) -> None:
    """A small element claims four bytes, so that the next may start within what a reader takes for its content."""
    bomb = compressed(struct.pack("<II", 14, 30_000_000) + bytes(30_000_000))
    for tag in (struct.pack("<HHI", 14, 4, 0xFFFFFF00), struct.pack("<HHI", 15, 4, 0xFFFFFF00)):
        with pytest.raises(DecodeError):
            read_matlab(HEADER + tag + bomb)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 200,
        HEADER[:126] + b"XX" + array(6, (2, 2), b"a", DOUBLES),
        matlab({"a": np.eye(3)}, format="4"),
        HEADER + b"\x0e\0\0",
        HEADER + struct.pack("<II", 14, 4_000_000_000) + bytes(100),
        HEADER + element(9, bytes(8)),
        HEADER + compressed(array(6, (2, 2), b"a", DOUBLES))[:-4],
        HEADER + compressed(array(6, (2, 2), b"a", DOUBLES)[:-8]),
        HEADER + compressed(compressed(array(6, (2, 2), b"a", DOUBLES))),
        HEADER + struct.pack("<II", 15, 4) + b"zlib",
    ],
    ids=[
        *("empty", "zeros", "byte order", "MATLAB 4", "half a tag", "beyond the end", "no array", "checksum lost"),
        *("compressed half", "compressed twice", "not compressed"),
    ],
)
def test_what_is_no_sound_file_is_refused(content: bytes) -> None:
    with pytest.raises(DecodeError, match="not a MATLAB 5 file"):
        read_matlab(content)


def test_every_prefix_of_a_file_is_refused() -> None:
    content = bsds500(np.arange(30, dtype=np.uint16).reshape(5, 6))
    for end in range(129, len(content)):
        with pytest.raises(DecodeError):
            read_matlab(content[:end])
    assert set(read_matlab(content)) == {"groundTruth"}


def test_arrays_are_of_the_types_that_were_written() -> None:
    content = matlab({"a": np.array([[1, 2]], np.uint16), "b": np.array([[1.5]])})

    def types(variables: Any) -> dict[str, NDArray[Any]]:
        return {name: variables[name].dtype for name in ("a", "b")}

    ours = {name: variable.numbers() for name, variable in read_matlab(content).items()}
    assert types(ours) == types(scipy.io.loadmat(io.BytesIO(content)))
