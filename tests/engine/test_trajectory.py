"""The stop rules as tensors, against the rules as one would write them down."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dynaseg_cli.config import PATIENCE, SCRIBBLE_PATIENCE, SegmentConfig
from dynaseg_cli.engine.iteration import Trajectory, read_status
from dynaseg_cli.engine.training_step import Objective

CLUSTERS = 20


def new_trajectory(iterations: int = 10, patience: int = 3) -> Trajectory:
    config = SegmentConfig(iterations=iterations, patience=patience, clusters=CLUSTERS)
    return Trajectory(2, 3, config, torch.device("cpu"))


def found(present: int, loss: float = 1.0, label: int = 0) -> Objective:
    scalar = torch.tensor(loss)
    labels = torch.full((2, 3), label)
    return Objective(scalar, scalar / 2, scalar / 4, torch.tensor(present), labels)


def by_the_rules(
    counts: list[int], losses: list[float], threshold: int, patience: int, limit: int
) -> tuple[str, int] | None:
    """Why and after how many iterations it ends."""
    fewest, since = CLUSTERS + 1, 0
    for number, (present, loss) in enumerate(zip(counts, losses, strict=True), start=1):
        if not math.isfinite(loss):
            return "diverged", number
        fewest, since = (present, 0) if present < fewest else (fewest, since + 1)
        if present <= threshold:
            return "threshold", number
        if patience and since >= patience:
            return "converged", number
        if number == limit:
            return "iterations", number
    return None


@given(
    counts=st.lists(st.integers(1, CLUSTERS), min_size=1, max_size=12),
    bad=st.integers(0, 40),
    threshold=st.integers(1, 5),
    patience=st.integers(0, 4),
    limit=st.integers(1, 10),
)
def test_it_ends_as_the_rules_say(counts: list[int], bad: int, threshold: int, patience: int, limit: int) -> None:
    losses = [float("nan") if number == bad else 1.5 for number in range(len(counts))]
    trajectory = new_trajectory(patience=patience)
    trajectory.begin(threshold, limit)
    for present, loss in zip(counts, losses, strict=True):
        trajectory.take(found(present, loss))
    status = read_status(trajectory.status())
    expected = by_the_rules(counts, losses, threshold, patience, limit)
    assert (status.end, status.iterations) == (expected or (None, len(counts)))
    assert trajectory.ended.item() == (expected is not None)
    assert status.present == counts[status.iterations - 1]
    assert [row[0] for row in trajectory.records()] == counts[: status.iterations]


def test_nothing_changes_after_the_end() -> None:
    trajectory = new_trajectory()
    trajectory.begin(threshold=4, limit=10)
    for present, label in ((9, 1), (4, 2), (3, 3), (12, 4)):
        trajectory.take(found(present, label, label))
    assert read_status(trajectory.status()) == ("threshold", 2, 4)
    assert trajectory.records() == [[9, 1, 0.5, 0.25, 1], [4, 2, 1, 0.5, 1]]
    assert (trajectory.labels == 2).all()


@pytest.mark.parametrize(("scribbled", "patience"), [(False, PATIENCE), (True, SCRIBBLE_PATIENCE)])
def test_a_fit_has_more_patience_where_something_is_drawn(scribbled: bool, patience: int) -> None:
    config = SegmentConfig(iterations=20, clusters=CLUSTERS)
    trajectory = Trajectory(2, 3, config, torch.device("cpu"), scribbled=scribbled)
    trajectory.begin(threshold=1, limit=20)
    for _ in range(20):
        trajectory.take(found(5))
    assert read_status(trajectory.status()) == ("converged", 1 + patience, 5)


def test_what_is_recorded_after_the_last_possible_iteration_has_a_row_of_its_own() -> None:
    trajectory = new_trajectory(iterations=3, patience=0)
    trajectory.begin(threshold=1, limit=3)
    for present in (9, 8, 7, 6, 5):
        trajectory.take(found(present))
    assert [row[0] for row in trajectory.records()] == [9, 8, 7]


@pytest.mark.parametrize("ended_by", ["threshold", "halt"])
def test_it_begins_anew(ended_by: str) -> None:
    trajectory = new_trajectory()
    trajectory.begin(threshold=9, limit=10)
    if ended_by == "halt":
        trajectory.halt()
    trajectory.take(found(9))
    assert trajectory.ended.item() == 1
    assert len(trajectory.records()) == (ended_by == "threshold")
    trajectory.begin(threshold=2, limit=5)
    assert read_status(trajectory.status()).end is None
    for present in (8, 7, 7):
        trajectory.take(found(present))
    assert read_status(trajectory.status()) == (None, 3, 7)
    assert trajectory.records() == [[8, 1, 0.5, 0.25, 1], [7, 1, 0.5, 0.25, 0], [7, 1, 0.5, 0.25, 0]]


def test_changed_is_the_fraction_of_labels() -> None:
    trajectory = new_trajectory()
    trajectory.begin(threshold=1, limit=10)
    trajectory.take(found(3, label=1))
    objective = found(3, label=1)
    objective.labels[0] = 2
    trajectory.take(objective)
    assert [row[4] for row in trajectory.records()] == [1, 0.5]
