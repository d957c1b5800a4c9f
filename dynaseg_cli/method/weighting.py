"""The weight mu of the continuity loss (eq. 7), and how it follows the number of labels (eq. 8 and 9)."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from ..config import Mode

Count = TypeVar("Count", float, Tensor)


def continuity_weight(mode: Mode, weight: float, labels: Count) -> Count | float:
    """mu of L = L_sim + mu L_con (eq. 7).

    Parameters
    ----------
    mode : "scf": mu = alpha / q' (eq. 9); "fsf": mu = q' / alpha (eq. 8); "fixed": mu is constant.
    weight : alpha of scf and fsf, mu of fixed.
    labels : q', the number of labels present, floored at the stop threshold so that eq. 9 cannot blow up.
    """
    if mode == "scf":
        return weight / labels
    if mode == "fsf":
        return labels / weight
    return weight
