from __future__ import annotations

import numpy as np

from dynaseg_cli.evaluation.pooling import PooledMean, Spool


def test_mean_pools_groups_by_their_numbers() -> None:
    mean = PooledMean()
    assert mean.value is None
    mean.add(3.0, 2)
    mean.add(1.0, 6)
    assert mean.value == 0.5


def test_mean_includes_all_of_another() -> None:
    mean, other = PooledMean(1.0, 4), PooledMean(3.0, 4)
    mean.include(other)
    assert (mean.value, other.value) == (0.5, 0.75)


def test_spool_gives_back_what_it_got_in_order_and_again() -> None:
    spool: Spool[object] = Spool()
    assert list(spool) == []
    for record in ("a", {"b": 1.5}, None):
        spool.append(record)
    assert list(spool) == list(spool) == ["a", {"b": 1.5}, None]


def test_spool_grows_while_it_is_read() -> None:
    spool: Spool[int] = Spool()
    spool.append(1)
    reader = iter(spool)
    assert next(reader) == 1
    spool.append(2)
    assert list(reader) == [2]
    assert list(spool) == [1, 2]


def test_spool_keeps_arrays_apart() -> None:
    spool: Spool[np.ndarray] = Spool()
    array = np.zeros(3)
    spool.append(array)
    array[:] = 1
    spool.append(array)
    assert [one.sum() for one in spool] == [0, 3]
