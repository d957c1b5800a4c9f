from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dynaseg_cli.config import SegmentConfig
from dynaseg_cli.engine.banded_step import BandedStep
from dynaseg_cli.engine.fitting import Fit, Fitter, Watch
from dynaseg_cli.engine.labelling import to_input
from dynaseg_cli.engine.training_step import Objective
from dynaseg_cli.errors import DivergedError
from dynaseg_cli.method.network import SegmentationNetwork

CONFIG = SegmentConfig(mode="scf", iterations=6, patience=0, blocks=2, features=24, clusters=24)
STANDING_STILL = dataclasses.replace(CONFIG, learning_rate=1e-12)


def new_network(config: SegmentConfig) -> SegmentationNetwork:
    network = SegmentationNetwork(config.blocks, config.features, config.clusters)
    network.initialise(config.seed)
    return network


def ignore(iteration: int, present: int, labels: torch.Tensor) -> None:
    pass


def fit(image: NDArray[np.uint8], config: SegmentConfig, threshold: int = 1, watch: Watch = ignore) -> Fit:
    x = to_input(image, torch.device("cpu"))
    return Fitter(new_network(config), config, torch.float32).fit([x], threshold, watch)


def level_iterations(result: Fit) -> list[int]:
    return [level.iterations for level in result.record.levels]


def lengths(result: Fit) -> set[int]:
    records = (
        result.record.labels_per_iteration,
        result.record.loss,
        result.record.similarity_loss,
        result.record.continuity_loss,
        result.record.changed_fraction,
    )
    return {len(record) for record in records}


def test_fit_stops_after_the_last_iteration(photo: NDArray[np.uint8]) -> None:
    result = fit(photo, CONFIG)
    assert result.record.stop_reason == "iterations"
    assert lengths(result) == {6}


def test_fit_stops_at_the_threshold(photo: NDArray[np.uint8]) -> None:
    present = fit(photo, CONFIG).record.labels_per_iteration
    threshold = present[0] - 1
    result = fit(photo, CONFIG, threshold)
    assert result.record.stop_reason == "threshold"
    assert lengths(result) == {len(result.record.labels_per_iteration)}
    assert result.record.labels_per_iteration[-1] <= threshold < min(result.record.labels_per_iteration[:-1])


def test_fit_that_begins_at_the_threshold_takes_one_iteration(photo: NDArray[np.uint8]) -> None:
    result = fit(photo, CONFIG, threshold=24)
    assert result.record.stop_reason == "threshold"
    assert lengths(result) == {1}


def test_fit_stops_once_patience_has_seen_no_fewer_labels(photo: NDArray[np.uint8]) -> None:
    result = fit(photo, dataclasses.replace(STANDING_STILL, patience=3))
    assert result.record.stop_reason == "converged"
    assert len(set(result.record.labels_per_iteration)) == 1
    assert lengths(result) == {4}


def test_only_a_new_low_renews_the_patience(monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]) -> None:
    counts = [9, 7, 8, 7, 6, 9, 8, 6, 5, 4]
    script = iter(counts)

    evaluate = BandedStep.evaluate

    def follow_script(step: BandedStep, threshold: torch.Tensor) -> Objective:
        return dataclasses.replace(evaluate(step, threshold), present=torch.tensor(next(script)))

    monkeypatch.setattr(BandedStep, "evaluate", follow_script)
    result = fit(photo, dataclasses.replace(CONFIG, iterations=10, patience=3))
    assert result.record.stop_reason == "converged"
    assert result.record.labels_per_iteration == counts[:8]


def test_no_patience_never_stops_early(photo: NDArray[np.uint8]) -> None:
    result = fit(photo, STANDING_STILL)
    assert result.record.stop_reason == "iterations"
    assert result.record.changed_fraction == [1, 0, 0, 0, 0, 0]


def test_levels_are_fitted_one_after_another(photo: NDArray[np.uint8]) -> None:
    levels = [to_input(image, torch.device("cpu")) for image in (photo[::2, ::2], photo)]
    result = Fitter(new_network(CONFIG), CONFIG, torch.float32).fit(levels, 1)
    assert level_iterations(result) == [3, 3]
    assert lengths(result) == {6}
    assert result.labels.shape == photo.shape[:2]
    assert [result.record.changed_fraction[0], result.record.changed_fraction[3]] == [1, 1]
    alone = Fitter(new_network(CONFIG), CONFIG, torch.float32).fit(levels[:1], 1)
    assert result.record.loss[:3] == alone.record.loss[:3]


def test_a_stop_ends_a_level_and_the_last_one_says_why(photo: NDArray[np.uint8]) -> None:
    levels = [to_input(image, torch.device("cpu")) for image in (photo[::2, ::2], photo)]
    config = dataclasses.replace(STANDING_STILL, iterations=40, patience=3)
    result = Fitter(new_network(config), config, torch.float32).fit(levels, 1)
    assert level_iterations(result) == [4, 4]
    assert result.record.stop_reason == "converged"


def test_one_iteration_is_spent_on_the_first_level(photo: NDArray[np.uint8]) -> None:
    levels = [to_input(image, torch.device("cpu")) for image in (photo[::2, ::2], photo)]
    config = dataclasses.replace(CONFIG, iterations=1)
    result = Fitter(new_network(config), config, torch.float32).fit(levels, 1)
    assert level_iterations(result) == [0, 1]


def test_records_obey_the_equations(photo: NDArray[np.uint8]) -> None:
    result = fit(photo, CONFIG, threshold=2)
    expected = [
        similarity + 50 / max(present, 2) * continuity
        for similarity, continuity, present in zip(
            result.record.similarity_loss,
            result.record.continuity_loss,
            result.record.labels_per_iteration,
            strict=True,
        )
    ]
    np.testing.assert_allclose(result.record.loss, expected, rtol=1e-5)
    assert result.record.labels_per_iteration[-1] == len(result.labels.unique())
    assert result.record.loss[-1] < result.record.loss[0]


def test_changed_is_the_fraction_of_pixels_that_moved(photo: NDArray[np.uint8]) -> None:
    before, after = (fit(photo, dataclasses.replace(CONFIG, iterations=n)) for n in (3, 4))
    assert after.record.changed_fraction[:3] == before.record.changed_fraction
    assert after.record.changed_fraction[3] == pytest.approx((before.labels != after.labels).double().mean().item())
    assert 0 < after.record.changed_fraction[3] < 1


def test_network_is_left_as_the_last_iteration_saw_it(photo: NDArray[np.uint8]) -> None:
    network = new_network(CONFIG)
    x = to_input(photo, torch.device("cpu"))
    result = Fitter(network, CONFIG, torch.float32).fit([x], 1)
    with torch.no_grad():
        assert torch.equal(network.train()(x).argmax(1)[0], result.labels)


def test_loss_that_is_not_a_number_ends_the_fit(photo: NDArray[np.uint8]) -> None:
    x = to_input(photo, torch.device("cpu"))
    x[0, 0, 0, 0] = float("nan")
    with pytest.raises(DivergedError, match="loss became nan in iteration 1"):
        Fitter(new_network(CONFIG), CONFIG, torch.float32).fit([x], 1)


def test_learning_rate_that_overflows_ends_the_fit(photo: NDArray[np.uint8]) -> None:
    with pytest.raises(DivergedError, match="iteration 2"):
        fit(photo, dataclasses.replace(CONFIG, learning_rate=1e38))


def test_caller_hears_of_every_iteration(photo: NDArray[np.uint8]) -> None:
    heard: list[tuple[int, int]] = []
    result = fit(photo, CONFIG, watch=lambda iteration, present, labels: heard.append((iteration, present)))
    assert heard == list(enumerate(result.record.labels_per_iteration, start=1))


def test_caller_who_wants_the_labels_has_those_of_every_iteration(photo: NDArray[np.uint8]) -> None:
    heard: list[torch.Tensor] = []
    x = to_input(photo, torch.device("cpu"))
    result = Fitter(new_network(CONFIG), CONFIG, torch.float32).fit(
        [x], 1, lambda iteration, present, labels: heard.append(labels.clone()), every=True
    )
    assert [len(labels.unique()) for labels in heard] == result.record.labels_per_iteration
    moved = [(one != other).double().mean().item() for one, other in itertools.pairwise(heard)]
    assert moved == pytest.approx(result.record.changed_fraction[1:])
    assert torch.equal(heard[-1], result.labels)


def test_what_the_caller_raises_ends_the_fit(photo: NDArray[np.uint8]) -> None:
    heard: list[int] = []

    def stop_at_two(iteration: int, present: int, labels: torch.Tensor) -> None:
        heard.append(iteration)
        if iteration == 2:
            raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        fit(photo, CONFIG, watch=stop_at_two)
    assert heard == [1, 2]
