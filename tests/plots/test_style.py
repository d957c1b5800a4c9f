from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from dynaseg_cli.errors import DynasegError, UsageError
from dynaseg_cli.plots import style as figures
from dynaseg_cli.plots.style import (
    SUFFIXES,
    folded,
    legend_columns,
    number,
    plain,
    refuse_undrawable,
    save_picture,
    style,
    use_log_axis,
)

MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
HOSTILE = ["a$b$c", r"$\frac{$", "one$", r"back\$slash$", "under_score^2", "two\nlines", "caf\udce9", "日本 語", "%{}"]


def drawn(text: str) -> Figure:
    figure = Figure(figsize=(3, 2))
    figure.text(0.1, 0.5, text)
    return figure


def test_whole_names_the_formats_and_says_what_to_do() -> None:
    for name in ("scores.jpg", "scores", "scores.png.gz", ".png"):
        with pytest.raises(UsageError, match=r"--plot .* ends in \.png, \.svg or \.pdf$"):
            refuse_undrawable("--plot", Path(name))
    for name in ("scores.png", "a.b.SVG", "sub/scores.Pdf"):
        refuse_undrawable("--plot", Path(name))


def test_without_matplotlib_nothing_can_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"^--plot needs matplotlib: pip install 'dynaseg\[plot\]'$"):
        refuse_undrawable("--plot", Path("scores.png"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file_is_of_the_format_of_its_suffix_and_the_same_each_time(tmp_path: Path, suffix: str) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in ("first", "second")]
    for path in paths:
        save_picture(path, lambda: drawn("text"))
    assert paths[0].read_bytes().startswith(MAGIC[suffix])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == paths


def test_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    save_picture(tmp_path / "x.SVG", lambda: drawn("text"))
    assert (tmp_path / "x.SVG").read_bytes().startswith(MAGIC[".svg"])


def test_full_disk_is_said_and_leaves_the_older_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "x.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DynasegError, match=r"x\.png cannot be written: No space left on device"):
        save_picture(path, lambda: drawn("text"))
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_name_is_drawn_as_it_stands(tmp_path: Path, name: str, suffix: str) -> None:
    save_picture(tmp_path / f"x{suffix}", lambda: drawn(plain(name)))
    assert not matplotlib.cbook.is_math_text(plain(name))


def test_name_keeps_what_can_be_printed_and_escapes_the_rest() -> None:
    assert plain("a_b (1) 日本") == "a_b (1) 日本"
    assert plain("two\nlines\tcaf\udce9") == r"two\nlines\tcaf\udce9"
    assert plain("$x$") == r"\$x\$"


def test_long_name_keeps_its_start_and_its_end() -> None:
    name = "photos/of/a/journey/to/the/sea/0042"
    assert plain(name, 100) == plain(name, len(name)) == name
    short = plain(name, 16)
    assert (len(short), short.partition("…")[::2]) == (16, (name[:5], name[-10:]))
    assert plain("$" * 40, 10).count(r"\$") == 9


def test_method_is_folded_at_its_options() -> None:
    assert folded("scf", 20) == "scf"
    assert folded("kmeans:clusters=8:window=7", 20) == "kmeans:clusters=8:\nwindow=7"
    lines = folded("scf:iterations=2:min_labels=3:max_size=16:features=8:clusters=8:alpha=5", 17).split("\n")
    assert lines == ["scf:iterations=2:", "…", "alpha=5"]
    assert max(map(len, folded("scf:weights=" + "x" * 90, 20).split("\n"))) <= 26


def test_style_is_ours_whatever_the_settings_and_leaves_them() -> None:
    with matplotlib.rc_context({"font.size": 3, "text.usetex": True, "axes.facecolor": "black"}):
        with style():
            settings = (matplotlib.rcParams[name] for name in ("font.size", "text.usetex", "axes.facecolor"))
            assert tuple(settings) == (12, False, "white")
        assert (matplotlib.rcParams["font.size"], matplotlib.rcParams["text.usetex"]) == (3, True)


def test_other_warnings_than_of_missing_characters_come_through() -> None:
    with pytest.warns(UserWarning, match="something else"), style():
        warnings.warn("something else", UserWarning, stacklevel=1)


@pytest.mark.parametrize(
    ("ends", "ticks"),
    [
        ((0.9, 30), ["1", "2", "5", "10", "20"]),
        ((0.009, 11), ["0.01", "0.03", "0.1", "0.3", "1", "3", "10"]),
        ((0.5, 20_000), ["1", "10", "100", "1,000", "10,000"]),
    ],
)
def test_logarithmic_axis_has_plain_numbers(ends: tuple[float, float], ticks: list[str]) -> None:
    axes = Figure().subplots()
    use_log_axis(axes, "y", *ends)
    low, high = axes.get_ylim()
    shown = [
        label.get_text()
        for label, place in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
        if low <= place <= high
    ]
    assert (shown, axes.get_yscale(), axes.get_xscale()) == (ticks, "log", "linear")


def test_numbers_as_ticks_say_them() -> None:
    assert [number(value) for value in (0.05, 3, 14.5, 6400)] == ["0.05", "3", "14.5", "6,400"]


def test_legend_has_as_many_columns_as_there_is_space_for() -> None:
    assert legend_columns(["scf", "fsf"], 6) == 2
    assert legend_columns(["x" * 30, "fsf", "scf"], 6) == 1
    assert legend_columns(["x" * 30, "fsf", "scf"], 60) == 3
    assert legend_columns([], 6) == 1
