"""Which images are complete: their ``stats`` file tells with which options and from which content they were made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..config import (
    BatchConfig,
    Channels,
    Colors,
    Product,
    SegmentConfig,
    ValueRange,
    channels_text,
    parse_channels,
    range_text,
)
from ..errors import DecodeError, ImageError, UsageError
from ..fields import read_value
from ..files.output_folder import Job, OutputFolder
from ..files.reading import read_file
from ..files.tiles import Tile, part_of
from ..images.decoding import has_channels, is_deep
from ..images.pages import Source, read_job
from .report_files import ReportEntry
from .stats_shape import is_of_version_1, is_whole, parse_stats

if TYPE_CHECKING:
    from ..images.masks import Mask
    from ..images.scribbles import ScribbleFile

Stats = dict[str, Any]

PRODUCTS_NEEDING_COLORS: frozenset[Product] = frozenset(("color", "overlay", "recording"))

MOST_BYTES = 1 << 28
"""Limit on a ``stats`` document; one with 65,536 labels and as many regions is smaller."""

MOST_SAMPLED = 1000
"""Earlier results whose options are checked before a run: enough to notice another run's, and few enough not to delay
the start by minutes in a folder of a million images."""


def read_stats(job: Job, folder: OutputFolder) -> Stats | None:
    """The ``stats`` document of an image; None if there is none or dynaseg did not write it."""
    try:
        return parse_stats(read_file(folder.result(job, "stats"), MOST_BYTES, "statistics have"))
    except (OSError, DecodeError):
        return None


def read_again(job: Job, stats: Stats, max_pixels: int) -> bytes:
    """The content of the photo that was segmented; of a page, as a file of its own.

    Raises
    ------
    ImageError
        If it is not where it was, has changed since, or is no file of an image with at most `max_pixels`.
    """
    try:
        source = read_job(job, max_pixels)
    except FileNotFoundError:
        raise ImageError("the photo is not there: run this from the folder in which it was segmented") from None
    if source.sha256 != stats["source"]["sha256"]:
        raise ImageError("the photo has changed since it was segmented; segment it again")
    return source.content


def seen_as(stats: Stats) -> tuple[ValueRange, Channels]:
    """The range and the channels with which the photo was decoded.

    With a mask, and of a tile, the range is the one that was found: that of the whole photo, or of the tile alone, may
    be another.
    """
    source = stats["source"]
    found = source.get("range", {})
    value_range = read_value("range", found.get("option", "auto"), ValueRange)
    if source.keys() & {"mask", "tile"} and "low" in found and "high" in found:
        value_range = float(found["low"]), float(found["high"])
    return value_range, parse_channels(source["channels"]) if "channels" in source else None


def refuse_other_options(
    jobs: Sequence[Job],
    folder: OutputFolder,
    config: SegmentConfig,
    *,
    scribbled: bool = False,
    masked: bool = False,
    value_range: ValueRange = BatchConfig.range,
    channels: Channels = BatchConfig.channels,
) -> None:
    """Raise UsageError if a job has a result that was made with other options, and name these options.

    At most `MOST_SAMPLED` jobs are checked, evenly spaced. A result that this misses is found, and left alone, when its
    job is done.

    Parameters
    ----------
    scribbled : whether this run takes scribbles. A run that does not leaves results made with scribbles alone.
    masked : the same of masks.
    """
    if not (folder.path / "stats").is_dir():
        return
    last, steps = len(jobs) - 1, min(len(jobs), MOST_SAMPLED) - 1
    for job in (jobs[step * last // max(steps, 1)] for step in range(steps + 1)):
        stats = read_stats(job, folder)
        differing = _differing_options(stats, config, value_range, channels, scribbled=scribbled, masked=masked)
        differing += _differing_tiles(stats, job)
        if differing:
            raise UsageError(made_otherwise(folder.result(job, "stats"), differing))


def earlier_stats(
    job: Job,
    folder: OutputFolder,
    sha256: str,
    scribbles: str | None,
    config: SegmentConfig,
    value_range: ValueRange = BatchConfig.range,
    content: bytes = b"",
    *,
    channels: Channels = BatchConfig.channels,
    scribbled: bool = False,
    mask: str | None = None,
    masked: bool = False,
) -> Stats | None:
    """The ``stats`` document of an earlier run for the same content; None if there is none.

    Parameters
    ----------
    sha256 : hash of the image file's content.
    scribbles : hash of the scribble file's content; None if there is none.
    content : the content itself. Its header is read if no range or no channels were recorded, as for images that these
        do not apply to, and in results of versions without them.
    scribbled : whether this run takes scribbles.
    mask : identity of the image's mask; None if it has none.
    masked : whether this run takes masks.

    Raises
    ------
    ImageError
        If it was made with other options, so that the user has to decide.
    """
    stats = read_stats(job, folder)
    differing = _differing_options(stats, config, value_range, channels, scribbled=scribbled, masked=masked)
    differing += _differing_tiles(stats, job)
    if stats is not None and _recorded_range(stats) is None and value_range != BatchConfig.range and is_deep(content):
        differing.append(Difference("range", None, range_text(value_range)))
    if stats is not None and _recorded_channels(stats) is None and channels is not None and has_channels(content):
        differing.append(Difference("channels", None, channels_text(channels)))
    if differing:
        raise ImageError(made_otherwise(folder.result(job, "stats"), differing))
    source = _entry(stats, "source")
    same = source.get("sha256") == sha256 and _entry(source, "scribbles").get("sha256") == scribbles
    return stats if same and _identity(_entry(source, "mask")) == mask else None


def stats_to_continue(
    job: Job,
    folder: OutputFolder,
    source: Source,
    drawn: ScribbleFile | None,
    mask: Mask | None,
    config: SegmentConfig,
    batch: BatchConfig,
) -> Stats | None:
    """`earlier_stats` of a job whose photo, scribbles and mask are read."""
    return earlier_stats(
        job,
        folder,
        source.sha256,
        None if drawn is None else drawn.sha256,
        config,
        batch.range,
        source.header,
        channels=batch.channels,
        scribbled=batch.scribbles is not None,
        mask=None if mask is None else mask.identity,
        masked=batch.mask is not None,
    )


def is_complete(job: Job, folder: OutputFolder, stats: Stats, batch: BatchConfig) -> bool:
    """Whether everything requested exists beside its `stats`, with the requested cut and colours."""
    if not is_whole(stats) or is_cut_otherwise(stats, batch) or is_colored_otherwise(stats, batch):
        return False
    if "hierarchy" in batch.save and "levels" not in stats:
        return False
    if batch.report and not ReportEntry(job, folder).exists:
        return False
    return all(folder.has(job, product) for product in batch.save)


def is_cut_otherwise(stats: Stats, batch: BatchConfig) -> bool:
    """Whether the existing labels were cut differently, or by a version that could not cut labels.

    What is outside a mask may have got another label, which is changed as quickly.
    """
    mask = _entry(_entry(stats, "source"), "mask")
    if mask and mask.get("outside") != batch.outside:
        return True
    return is_of_version_1(stats) or stats.get("cut") != batch.cut.as_options()


def is_colored_otherwise(stats: Stats, batch: BatchConfig) -> bool:
    """Whether something requested needs the labels' colours, and the existing ones were chosen differently."""
    return stats.get("colors") != colors_of(stats, batch)


def colors_of(stats: Stats, batch: BatchConfig) -> Colors:
    """How the labels are to be coloured: as before, unless something requested needs their colours."""
    asked = batch.report or not PRODUCTS_NEEDING_COLORS.isdisjoint(batch.save)
    before: Colors = stats.get("colors", batch.colors)
    return batch.colors if asked else before


def _entry(document: Stats | None, name: str) -> dict[str, Any]:
    """An object within a document; empty if there is none."""
    entry = None if document is None else document.get(name)
    return entry if isinstance(entry, dict) else {}


def _identity(mask: dict[str, Any]) -> str | None:
    """`Mask.identity` of an entry in statistics; None of an empty one."""
    found = mask.get("sha256", mask.get("from"))
    return found if isinstance(found, str) else None


def _recorded_range(stats: Stats | None) -> str | None:
    option = _entry(_entry(stats, "source"), "range").get("option")
    return option if isinstance(option, str) else None


def _recorded_channels(stats: Stats | None) -> str | None:
    channels = _entry(stats, "source").get("channels")
    return channels if isinstance(channels, str) else None


def _differing_options(
    stats: Stats | None,
    config: SegmentConfig,
    value_range: ValueRange,
    channels: Channels,
    *,
    scribbled: bool,
    masked: bool,
) -> list[Difference]:
    if stats is None:
        return []
    differing = differing_options(stats["options"], config)
    drawn = _entry(_entry(stats, "source"), "scribbles").get("path")
    if drawn is not None and not scribbled:
        differing.append(Difference("scribbles", drawn, None))
    mask = _entry(_entry(stats, "source"), "mask")
    if mask and not masked:
        differing.append(Difference("mask", mask.get("path", mask.get("from")), None))
    recorded, now = _recorded_range(stats), range_text(value_range)
    if recorded is not None and recorded != now:
        differing.append(Difference("range", recorded, now))
    chosen = _recorded_channels(stats)
    if chosen is not None and chosen != channels_text(channels):
        differing.append(Difference("channels", chosen, channels_text(channels)))
    return differing


def _differing_tiles(stats: Stats | None, job: Job) -> list[Difference]:
    before, now = part_of(_entry(stats, "source")), job.page
    if isinstance(before, Tile) and isinstance(now, Tile) and before.side != now.side:
        return [Difference("tiles", before.side, now.side)]
    return []


class Difference(NamedTuple):
    """An option whose value differs from that of an earlier run."""

    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        before, now = ("none" if value is None else value for value in (self.before, self.now))
        return f"{self.name.replace('_', '-')} was {before}, now {now}"


def differing_options(before: dict[str, Any], config: SegmentConfig) -> list[Difference]:
    """The options in which an earlier run differs from `config`.

    An option that was not recorded was added after that run, and counts as its default.
    """
    defaults = SegmentConfig().as_options()
    options = config.as_options()
    return [
        Difference(name, was, options.get(name))
        for name in sorted(options.keys() | before.keys())
        if (was := before.get(name, defaults.get(name))) != options.get(name)
    ]


def made_otherwise(path: Path, differing: Sequence[Difference]) -> str:
    """The message about a file that was made with other options: which these were, and how to continue."""
    again = _options_to_continue(differing)
    return (
        f"{path} was made with other options ({'; '.join(map(str, differing))});"
        f" {f'{again} continues with it, ' if again else ''}`overwrite=True` redoes it, `output` names another folder"
    )


NOT_RESTORABLE = frozenset(
    ("blocks", "learning_rate", "momentum", "weight_decay", "literal", "model", "weights", "scribbles", "mask")
)
"""Options whose recorded value cannot be given on the command line."""


def _options_to_continue(differing: Sequence[Difference]) -> str:
    """The options that restore the earlier values; empty if not all of them can be given."""
    known = {*SegmentConfig().as_options(), "range", "channels", "tiles"}
    of_folder = ("fit", "folder") in [one[:2] for one in differing]
    words = []
    for name, before, _ in differing:
        if name == "model" and of_folder:  # found in the output folder
            continue
        if name in NOT_RESTORABLE or name not in known or before is False or (name, before) == ("range", None):
            return ""
        if before is not None:
            words.append(f"`{name}={before}`")
    return " ".join(words)
