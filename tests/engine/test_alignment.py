from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dynaseg_cli.config import SegmentConfig
from dynaseg_cli.engine.fitting import Fitter
from dynaseg_cli.engine.labelling import to_input
from dynaseg_cli.engine.networks import align_features
from dynaseg_cli.method.network import SegmentationNetwork

CONFIG = SegmentConfig(iterations=5, patience=0, features=13, clusters=9)


def new_network() -> SegmentationNetwork:
    network = SegmentationNetwork(CONFIG.blocks, CONFIG.features, CONFIG.clusters)
    network.initialise(CONFIG.seed)
    return network


@pytest.mark.parametrize(("multiple", "features"), [(8, 16), (13, 13), (1, 13), (64, 64)])
def test_features_are_rounded_up(multiple: int, features: int) -> None:
    aligned = align_features(new_network(), multiple)
    assert aligned.classifier.in_channels == features
    assert {convolution.out_channels for convolution in aligned.feature_convolutions} == {features}
    assert aligned.feature_convolutions[0].in_channels == 3
    assert aligned.classifier.out_channels == CONFIG.clusters


def test_the_fit_is_the_same_and_what_was_added_stays_zero(photo: NDArray[np.uint8]) -> None:
    x = to_input(photo, torch.device("cpu"))
    network = new_network()
    aligned = align_features(network, 8)
    expected = Fitter(network, CONFIG, torch.float32).fit([x], 1)
    fit = Fitter(aligned, CONFIG, torch.float32).fit([x], 1)
    np.testing.assert_allclose(fit.record.loss, expected.record.loss, rtol=1e-4)
    assert (fit.labels == expected.labels).double().mean() > 0.99
    for convolution in aligned.feature_convolutions:
        assert convolution.weight[13:].abs().max() == 0
        assert convolution.bias is not None
        assert convolution.bias[13:].abs().max() == 0
    assert aligned.classifier.weight[:, 13:].abs().max() == 0
    assert all(norm.bias[13:].abs().max() == 0 for norm in aligned.feature_norms)


def test_what_was_added_is_not_labelled_by(photo: NDArray[np.uint8]) -> None:
    """After a fit, in evaluation mode, where an unused channel has a variance of 0."""
    config = dataclasses.replace(CONFIG, iterations=2)
    x = to_input(photo, torch.device("cpu"))
    network = new_network()
    aligned = align_features(network, 8)
    for model in (network, aligned):
        Fitter(model, config, torch.float32).fit([x], 1)
    with torch.no_grad():
        torch.testing.assert_close(aligned.eval()(x), network.eval()(x), atol=1e-3, rtol=1e-3)
