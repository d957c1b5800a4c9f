from __future__ import annotations

import pytest
import torch

from dynaseg_cli.config import Mode
from dynaseg_cli.method.losses import continuity_weight

# eq. 9: 50 / 20; eq. 8: 30 / 15; eq. 7: constant
BY_HAND = [("scf", 50.0, 20, 2.5), ("fsf", 15.0, 30, 2.0), ("fixed", 5.0, 20, 5.0), ("fixed", 5.0, 90, 5.0)]


@pytest.mark.parametrize(("mode", "weight", "labels", "mu"), BY_HAND)
def test_weight_of_a_number(mode: Mode, weight: float, labels: int, mu: float) -> None:
    assert continuity_weight(mode, weight, float(labels)) == mu


@pytest.mark.parametrize(("mode", "weight", "labels", "mu"), BY_HAND)
def test_weight_of_a_tensor_needs_no_transfer_to_the_host(mode: Mode, weight: float, labels: int, mu: float) -> None:
    result = continuity_weight(mode, weight, torch.tensor(float(labels)))
    assert isinstance(result, torch.Tensor) or mode == "fixed"
    assert float(result) == mu
