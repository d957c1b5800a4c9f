"""Fields that are declared once: types, choices and ranges are checked, texts are read, docstrings follow."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from dynaseg_cli.config import BatchConfig, CutConfig, EvaluateConfig, SegmentConfig, ValueRange, WorkersConfig
from dynaseg_cli.errors import UsageError
from dynaseg_cli.fields import check_fields, described, documented, option, options_of, read_value, written


@documented
@dataclass(frozen=True)
class Example:
    """A summary.

    More of it.
    """

    side: int = option(5, "Side in pixels.", least=3, zero="none")
    share: float | None = option(None, "Share of `side`.", least=0, below=1, default_text="half")
    kind: Literal["a", "b"] = option("a", "Kind.")
    names: tuple[Literal["x", "y"], ...] = option((), "Names.")
    pair: tuple[int, int] | Literal["auto"] = option("auto", "Pair.")
    place: Path | None = option(None, "Place.")
    switch: bool = option(False, "Switch.")
    plain: int = 7

    def __post_init__(self) -> None:
        check_fields(self)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"side": "5"}, "`side` must be a whole number, not '5'"),
        ({"side": 5.0}, "`side` must be a whole number, not 5.0"),
        ({"side": None}, "`side` must be a whole number, not None"),
        ({"side": 2}, "`side` must be 0 for none, or at least 3, not 2"),
        ({"side": 2**31}, "`side` must be at most 2147483647, not 2147483648"),
        ({"share": float("nan")}, "`share` must be at least 0, not nan"),
        ({"share": 1.0}, "`share` must be below 1, not 1"),
        ({"kind": "c"}, "`kind` must be one of a, b, not 'c'"),
        ({"kind": None}, "`kind` must be one of a, b, not None"),
        ({"names": ("x", "z")}, "`names` must be one or more of x, y, not 'z'"),
        ({"names": "x"}, "`names` must be one or more of x, y, not 'x'"),
        ({"pair": (1, 2, 3)}, "`pair` must be auto or two whole numbers, not (1, 2, 3)"),
        ({"pair": (1, 2.5)}, "`pair` must be auto or two whole numbers, not (1, 2.5)"),
        ({"place": 5}, "`place` must be a path, not 5"),
        ({"switch": "yes"}, "`switch` must be true or false, not 'yes'"),
        ({"kind": "c" * 5000}, f"`kind` must be one of a, b, not '{'c' * 100}…'"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Example(**values)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    "values",
    [
        {"side": 0},
        {"side": 3},
        {"share": 0},
        {"names": ["x", "y", "x"]},
        {"pair": [1, 2]},
        {"place": "a"},
        {"plain": "x"},
    ],
    ids=str,
)
def test_what_fits_is_kept_as_it_is(values: dict[str, Any]) -> None:
    assert {name: getattr(Example(**values), name) for name in values} == values


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, "-3", -3),
        (int | None, "3", 3),
        (int | Literal["auto"], "auto", "auto"),
        (float, "1e-3", 0.001),
        (bool, "true", True),
        (str | None, "a,b", "a,b"),
        (Path | None, "a/b", Path("a/b")),
        (tuple[str, ...], " b,a ,,b", ("b", "a")),
        (Literal["a", "b"], "b", "b"),
        (ValueRange, "full", "full"),
        (ValueRange, "0.0, 4095.", (0.0, 4095.0)),
    ],
    ids=str,
)
def test_text_is_read_as_the_type_says(kind: Any, text: str, value: object) -> None:
    assert read_value("x", text, kind) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "2.5"),
        (int | Literal["auto"], "few"),
        (float, ""),
        (bool, "1"),
        (Literal["a", "b"], "c"),
        (tuple[str, ...], ","),
        (ValueRange, "1"),
        (ValueRange, "1,b"),
        (ValueRange, "1,2,3"),
    ],
    ids=str,
)
def test_text_of_another_type_is_refused(kind: Any, text: str) -> None:
    with pytest.raises(UsageError, match=f"`x` must be {described(kind)}, not "):
        read_value("x", text, kind)


@pytest.mark.parametrize("config", [SegmentConfig, CutConfig, BatchConfig, WorkersConfig, EvaluateConfig])
def test_defaults_are_read_as_they_are_written(config: type) -> None:
    for one in options_of(config):
        if isinstance(one.default, int | float | str | tuple) and one.default != ():
            assert read_value(one.name, written(one.default), one.kind) == one.default


def test_docstring_has_a_section_of_parameters() -> None:
    assert inspect.getdoc(Example) == (
        "A summary.\n\nMore of it.\n\nParameters\n----------\n"
        "side : a whole number, default 5\n    Side in pixels.\n"
        "share : a number, default half\n    Share of `side`.\n"
        "kind : one of a, b, default a\n    Kind.\n"
        "names : one or more of x, y, default none\n    Names.\n"
        "pair : auto or two whole numbers, default auto\n    Pair.\n"
        "place : a path, default none\n    Place.\n"
        "switch : true or false, default false\n    Switch.\n\n"
        "Raises\n------\nUsageError\n    If a value is out of its range, or options contradict each other."
    )


def test_field_without_a_default_must_be_given() -> None:
    @dataclass
    class Needed:
        place: str = option(MISSING, "Place.")

    with pytest.raises(TypeError, match="missing 1 required"):
        Needed()


@pytest.mark.parametrize("config", [SegmentConfig, CutConfig, BatchConfig, WorkersConfig, EvaluateConfig])
def test_every_field_of_a_config_is_declared_with_help(config: type) -> None:
    declared = {one.name: one for one in options_of(config)}
    assert declared.keys() == config.__dataclass_fields__.keys()  # type: ignore[attr-defined]
    assert all(one.help.endswith(".") for one in declared.values())
