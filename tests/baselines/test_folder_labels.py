from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from dynaseg_cli.baselines.folder import labels
from dynaseg_cli.baselines.folder.labels import interpolation, labels_of, response_to_centres


def some_response(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("coarse", "fine"), [((3, 5), (17, 40)), ((6, 4), (6, 4)), ((1, 1), (5, 7)), ((1, 4), (9, 1)), ((8, 9), (5, 6))]
)
def test_labels_are_those_of_the_response_interpolated(coarse: tuple[int, int], fine: tuple[int, int]) -> None:
    response = some_response(5, *coarse)
    # Without antialiasing, whether larger or smaller.
    expected = functional.interpolate(response[None].double(), fine, mode="bilinear", align_corners=False)[0]
    found = labels_of(response, *fine)
    assert found.dtype == np.int32
    assert found.shape == fine
    most, second = expected.topk(2, dim=0).values
    clear = (most - second > 1e-5).numpy()
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found[clear], expected.argmax(0).numpy()[clear])


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_bands_make_no_difference(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    response = some_response(4, 5, 6)
    expected = labels_of(response, 100, 30)
    monkeypatch.setattr(labels, "BAND_ROWS", rows)
    np.testing.assert_array_equal(labels_of(response, 100, 30), expected)


def test_response_is_greatest_for_the_nearest_centre() -> None:
    vectors, centres = some_response(8, 6, 7), some_response(5, 8) * torch.arange(1, 6)[:, None]
    distance = torch.cdist(vectors.flatten(1).T.double(), centres.double())
    response = response_to_centres(vectors, centres)
    assert response.shape == (5, 6, 7)
    assert torch.equal(response.argmax(0).flatten(), distance.argmin(1))
    lacking = (vectors**2).sum(0).flatten() - 2 * response.flatten(1)
    torch.testing.assert_close(lacking, distance.T.float() ** 2, rtol=1e-4, atol=1e-4)


def test_interpolation_is_worked_by_hand() -> None:
    expected = torch.tensor([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    torch.testing.assert_close(interpolation(2, 4), expected)
    # The right half of a line of four pixels: centres at 2.25, 2.75, 3.25 and 3.75, from the left border.
    part = torch.tensor([[0, 0.25, 0.75, 0], [0, 0, 0.75, 0.25], [0, 0, 0.25, 0.75], [0, 0, 0, 1]])
    torch.testing.assert_close(interpolation(4, 4, 0.5, 0.5), part)
