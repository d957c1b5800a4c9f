"""Which part of a batch is this process's: as written, or from a Slurm array's variables."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import UsageError

_SLURM = tuple(f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "STEP", "COUNT"))


def parse_shard(text: str, environment: Mapping[str, str]) -> tuple[int, int]:
    """(I, N) from ``I/N``, or from the environment for ``auto``; `BatchConfig` checks their range.

    Raises
    ------
    UsageError
        If the text is neither, or ``auto`` does not find an array without gaps.
    """
    if text == "auto":
        return _of_slurm_array(environment)
    numbers = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if numbers is None:
        raise UsageError(f"--shard must be I/N, such as 2/8, or auto, not {text}")
    return int(numbers[1]), int(numbers[2])


def _of_slurm_array(environment: Mapping[str, str]) -> tuple[int, int]:
    try:
        task, first, last, step, count = (int(environment[name]) for name in _SLURM)
    except (KeyError, ValueError):
        raise UsageError(
            f"--shard auto needs a task of a Slurm array, with numbers in {', '.join(_SLURM)}; elsewhere give I/N,"
            " such as --shard 2/8"
        ) from None
    if step < 1 or (task - first) % step or count != (last - first) // step + 1:
        raise UsageError(
            f"--shard auto needs a Slurm array without gaps, and this one has {count} tasks from {first} to {last} in"
            f" steps of {step}; give I/N, such as --shard 2/{count}"
        )
    return (task - first) // step + 1, count
