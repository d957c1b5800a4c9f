"""Triton kernels for stochastic gradient descent, over all parameters of a network at once.

They also write the weights as the convolutions take them: in the dtype of the maps, and padded.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...config import SegmentConfig

BLOCK = 1024
"""Values in a program."""


class Weight(NamedTuple):
    """A parameter with all that a step reads and writes beside it, each dense and in the same order in memory.

    Gradient and packed copy may have more rows and longer ones; a row is what lies at one index of the first axis.
    """

    parameter: Tensor
    """float32."""
    momentum: Tensor
    """float32, of the same shape."""
    gradient: Tensor
    """Of any floating type."""
    packed: Tensor | None
    """Of any floating type, with rows as long as those of the gradient. Its padding is left as it is."""


def descend(weights: Sequence[Weight], ended: Tensor, config: SegmentConfig) -> None:
    """A step of `torch.optim.SGD` with momentum and weight decay; nothing if `ended`, float32 of shape (), is not 0."""
    parameters, momenta, gradients, packed = zip(*weights, strict=True)
    layout = [_layout(*pair) for pair in zip(parameters, gradients, strict=True)]
    assert all(copy is None or _row(copy) == _row(gradient) for _, _, gradient, copy in weights)
    assert all(map(_same_order, parameters, momenta))
    rates = map(float, (config.learning_rate, config.momentum, config.weight_decay))
    _descend[(_programs(parameters)[-1],)](
        parameters, momenta, gradients, packed, ended, *rates, _programs(parameters), *zip(*layout, strict=True), BLOCK,
    )  # fmt: skip


def pack(parameters: Sequence[Tensor], packed: Sequence[Tensor]) -> None:
    """Copy parameters to where `descend` copies them."""
    layout = [_layout(*pair) for pair in zip(parameters, packed, strict=True)]
    _pack[(_programs(parameters)[-1],)](
        tuple(parameters), tuple(packed), _programs(parameters), *zip(*layout, strict=True), BLOCK
    )


def _programs(parameters: Sequence[Tensor]) -> tuple[int, ...]:
    """The first program of each parameter, and the number of all."""
    counts = (triton.cdiv(parameter.numel(), BLOCK) for parameter in parameters)
    return tuple(itertools.accumulate(counts, initial=0))


def _layout(parameter: Tensor, other: Tensor) -> tuple[int, int, int]:
    """The number of a parameter's values, and the length of a row in it and in the other tensor."""
    assert _same_order(parameter, other) and len(other) >= len(parameter) and _row(other) >= _row(parameter)
    return parameter.numel(), _row(parameter), _row(other)


def _row(values: Tensor) -> int:
    return values[0].numel()


def _same_order(parameter: Tensor, other: Tensor) -> bool:
    """Whether both are dense, kernels of more than a pixel with their channels last, as the network keeps them."""
    return all(
        values.is_contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values.is_contiguous()
        for values in (parameter, other)
    )


@triton.jit
def _descend(
    parameters, momenta, gradients, packed, ended, rate, momentum, decay, firsts: tl.constexpr, sizes: tl.constexpr,
    rows: tl.constexpr, padded_rows: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    if tl.load(ended) == 0:
        program = tl.program_id(0)
        for i in tl.static_range(len(sizes)):
            if (program >= firsts[i]) & (program < firsts[i + 1]):
                at = (program - firsts[i]) * block + tl.arange(0, block)
                there = at < sizes[i]
                padded_at = _padded(at, rows[i], padded_rows[i])
                value = tl.load(parameters[i] + at, mask=there, other=0.0)
                gradient = tl.load(gradients[i] + padded_at, mask=there, other=0.0).to(tl.float32)
                velocity = tl.load(momenta[i] + at, mask=there, other=0.0)
                velocity = momentum * velocity + (gradient + decay * value)
                value -= rate * velocity
                tl.store(momenta[i] + at, velocity, mask=there)
                tl.store(parameters[i] + at, value, mask=there)
                if packed[i] is not None:
                    tl.store(packed[i] + padded_at, value, mask=there)


@triton.jit
def _pack(
    parameters, packed, firsts: tl.constexpr, sizes: tl.constexpr, rows: tl.constexpr, padded_rows: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    for i in tl.static_range(len(sizes)):
        if (program >= firsts[i]) & (program < firsts[i + 1]):
            at = (program - firsts[i]) * block + tl.arange(0, block)
            there = at < sizes[i]
            value = tl.load(parameters[i] + at, mask=there, other=0.0)
            tl.store(packed[i] + _padded(at, rows[i], padded_rows[i]), value, mask=there)


@triton.jit
def _padded(at, row: tl.constexpr, padded_row: tl.constexpr):
    """Where values lie if rows are longer."""
    return at if row == padded_row else at // row * padded_row + at % row
