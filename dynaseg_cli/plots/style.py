"""Shared by all pictures: one look, text that is drawn as it stands, and files that are whole or absent."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from ..errors import DynasegError, UsageError
from ..files.names import printable
from ..files.writing import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#999999")
"""Okabe and Ito's, which the colour-blind tell apart; grey in place of their yellow, which white swallows."""
BLUE, ORANGE, GREEN, PINK, SKY, VERMILION, *_ = COLORS
INK, FAINT, GRID = "#222222", "#777777", "#DDDDDD"

WIDTH, HEIGHT = 40 / 3, 7.5
"""Inches of a slide, whose text is 12 points. At `DPI` it has 2000 x 1125 pixels."""
EXAMPLES_HEIGHT = 2.5
"""Inches more, in which photos and maps are shown: 4:3 in place of 16:9."""
DPI = 150
SUFFIXES = (".png", ".svg", ".pdf")
CHARACTERS_AN_INCH = 11
"""About how many fit in a legend."""

Points = Sequence[tuple[float, float]]

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 13,
    "figure.titlesize": 14,
    "font.family": ["DejaVu Sans"],
    "font.size": 12,
    "grid.color": GRID,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "dynaseg",  # same in, same out
    "text.color": INK,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 11,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 11,
}
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": "dynaseg"},
    "svg": {"Creator": "dynaseg", "Date": None},
    "pdf": {"Creator": "dynaseg", "CreationDate": None},
}
"""Metadata by format: dynaseg as the creator, and no date, so that equal figures give equal files."""
MARKS = (
    (b"\x89PNG", b"tEXtSoftware\0dynaseg"),
    (b"<?xml", b"<dc:title>dynaseg</dc:title>"),
    (b"%PDF", b"/Creator (dynaseg)"),
)
"""The beginning of a file of each format, and a mark in it that only dynaseg writes."""


def refuse_undrawable(option: str, path: Path) -> None:
    """Raise UsageError if there is no such format, or nothing to draw with."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{option} {path}: a picture's name ends in .png, .svg or .pdf")
    if find_spec("matplotlib") is None:
        raise UsageError(f"{option} needs matplotlib: pip install 'dynaseg[plot]'")


def save_picture(path: Path, draw: Callable[[], Figure]) -> None:
    """Write what `draw` makes, in the format of the suffix; DynasegError if the file cannot be written."""
    form = path.suffix.lower().removeprefix(".")

    def write(stream: BinaryIO) -> None:
        figure.savefig(stream, format=form, dpi=DPI, metadata=METADATA[form])

    with style():
        figure = draw()
        try:
            write_atomically(path, write)
        except OSError as error:
            raise DynasegError(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def style() -> Iterator[None]:
    """The one look, whatever this person's matplotlibrc says; a character that no font has is a box, and no warning."""
    import matplotlib  # noqa: PLC0415  # an extra, and slow to import

    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)  # type: ignore[arg-type]
        yield


def plain(text: str, most: int | None = None) -> str:
    """A name as matplotlib draws it: on one line, undecodable bytes as escapes, of a long one the start and the end.

    Parameters
    ----------
    most : characters that there is room for.
    """
    text = printable(text)
    if most is not None and len(text) > most:
        head = (most - 1) // 3
        text = text[:head] + "…" + text[len(text) - (most - 1 - head) :]
    return text.replace("$", r"\$")  # between two of them would be mathematics


def folded(text: str, width: int, most: int = 3) -> str:
    """The name of a method and its options on lines of about `width` characters, at `most` so many."""
    lines = [""]
    for part in re.findall("[^:]*:|[^:]+", text):
        if lines[-1] and len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    kept = lines if len(lines) <= most else [*lines[: most - 2], "…", lines[-1]]
    return "\n".join(plain(line, width + width // 3) for line in kept)


def number(value: float) -> str:
    """A number as ticks show it: 0.05, 20 or 6,400."""
    return f"{value:,.10g}"


def use_log_axis(axes: Axes, which: Literal["x", "y"], least: float, most: float) -> None:
    """A logarithmic axis over a range, with ticks in plain numbers: 1, 2, 5, 10, or fewer over many decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # noqa: PLC0415  # as above

    axes.set(**{f"{which}scale": "log", f"{which}lim": (least, most)})
    axis = axes.xaxis if which == "x" else axes.yaxis
    subs = next((subs for span, subs in ((100, (1, 2, 5)), (2000, (1, 3))) if most / least < span), (1,))
    axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.set_minor_locator(NullLocator())


def plot_points(axes: Axes, points: Points, style: str, **options: Any) -> None:
    axes.plot([x for x, _ in points], [y for _, y in points], style, **options)


def legend_above(axes: Axes, columns: int = 1) -> None:
    """A legend above the panel, where it covers nothing; none if nothing has a label."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(ncols=columns, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def legend_columns(entries: Sequence[str], inches: float) -> int:
    """How many entries of a legend fit beside each other."""
    widest = max(map(len, entries), default=0) + 6
    return max(1, min(len(entries), int(inches * CHARACTERS_AN_INCH) // widest))
