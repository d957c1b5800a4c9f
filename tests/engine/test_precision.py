"""The settings of torch's libraries during a fit, and that a caller's own come back."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dynaseg_cli.config import SegmentConfig
from dynaseg_cli.engine.engine import Engine
from dynaseg_cli.engine.precision import exact_arithmetic

QUICK = SegmentConfig(iterations=2, patience=0, blocks=1, features=8, clusters=8, min_labels=2)


def settings() -> tuple[object, ...]:
    cudnn, mkldnn = torch.backends.cudnn, torch.backends.mkldnn
    return (
        *(
            operation.fp32_precision
            for operation in (cudnn.conv, torch.backends.cuda.matmul, mkldnn.conv, mkldnn.matmul)
        ),
        torch.get_float32_matmul_precision(),
        cudnn.deterministic,
        cudnn.benchmark,
    )


EXACT = ("ieee", "ieee", "ieee", "ieee", "highest", True, False)


def test_a_fit_is_exact_and_repeatable_and_leaves_the_settings_as_they_were(photo: NDArray[np.uint8]) -> None:
    before, seen = settings(), []
    Engine(QUICK, "cpu").segment(photo, on_iteration=lambda iteration, labels: seen.append(settings()))
    assert set(seen) == {EXACT}
    assert settings() == before != EXACT


def test_they_come_back_after_an_error() -> None:
    before = settings()
    with pytest.raises(InterruptedError), exact_arithmetic():
        raise InterruptedError
    assert settings() == before


def test_threads_do_not_undo_each_others() -> None:
    before = settings()
    inside, first_is_out = threading.Barrier(2, timeout=300), threading.Event()
    seen: list[tuple[object, ...]] = []

    def first() -> None:
        with exact_arithmetic():
            inside.wait()
        first_is_out.set()

    def second() -> None:
        with exact_arithmetic():
            inside.wait()
            assert first_is_out.wait(300)
            seen.append(settings())

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [EXACT]
    assert settings() == before


def test_whatever_a_caller_has_set() -> None:
    """Runs in a process of its own, because torch remembers through which of its settings a value was set."""
    script = """
import torch
from dynaseg_cli.engine.precision import exact_arithmetic

cudnn, mkldnn, matmul = torch.backends.cudnn, torch.backends.mkldnn, torch.backends.cuda.matmul

def settings():
    operations = (cudnn.conv, matmul, mkldnn.conv, mkldnn.matmul)
    return [operation.fp32_precision for operation in operations] + [cudnn.deterministic, cudnn.benchmark]

def check():
    before = settings()
    with exact_arithmetic():
        assert settings() == 4 * ["ieee"] + [True, False], settings()
        weight = torch.ones(4, 3, 3, 3, requires_grad=True)
        torch.nn.functional.conv2d(torch.ones(1, 3, 8, 8), weight).sum().backward()
    assert settings() == before, (settings(), before)

cudnn.benchmark = True
check()
for precision in ("high", "medium"):
    torch.set_float32_matmul_precision(precision)
    check()
    assert torch.get_float32_matmul_precision() == precision
cudnn.allow_tf32 = matmul.allow_tf32 = True
check()
assert cudnn.allow_tf32 and matmul.allow_tf32
cudnn.conv.fp32_precision = "ieee"
check()
torch.backends.fp32_precision = "tf32"
check()
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
