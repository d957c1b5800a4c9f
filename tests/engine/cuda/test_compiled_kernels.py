"""What Triton's compiler makes of the kernels for an H100, looked at without one."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton", reason="no Triton for this platform: the kernels are not compiled")

from test_kernels import DTYPES, INTERPRETED  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.runtime.driver import driver  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402

from dynaseg_cli.config import Mode, SegmentConfig  # noqa: E402
from dynaseg_cli.engine.cuda import fused_step  # noqa: E402
from dynaseg_cli.engine.iteration import Trajectory  # noqa: E402
from dynaseg_cli.method.network import SegmentationNetwork  # noqa: E402

# Slow ones stay together: what they compile is then compiled in one process alone.
pytestmark = [pytest.mark.slow, pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")]

SIZES = [(32, 48), (33, 48), (48, 33), (16, 16), (1, 9), (9, 1), (1, 16), (2, 1)]


class H100:
    """The device properties that Triton reads before it compiles."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 9000  # no machine has so many: what is compiled here is not launched on one

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def compiling(cache: Path) -> Iterator[set[Any]]:
    """Kernels are compiled instead of launched, and collected."""
    found: set[Any] = set()
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        found.add(run(self, *args, grid=grid, warmup=True, **options))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JITFunction, "run", compile_only)
        patch.setattr(driver, "_active", H100())
        patch.setenv("TRITON_CACHE_DIR", str(cache))
        yield found


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[Any]]:
    """Kernels that iterations launch, compiled; none is launched. Convolutions take what happens to be in memory."""
    weight_gradient = fused_step.weight_gradient
    with pytest.MonkeyPatch.context() as patch, compiling(tmp_path_factory.mktemp("triton")) as found:
        # On CUDA it is float32 whatever the maps are.
        patch.setattr(fused_step, "weight_gradient", lambda *maps: weight_gradient(*maps).float())
        for dtype in DTYPES:
            iterate((33, 48), dtype)
        iterate((33, 48), torch.bfloat16, "fsf")
        iterate((33, 48), torch.bfloat16, "fixed")
        yield found


def iterate(size: tuple[int, int], dtype: torch.dtype, mode: Mode = "scf") -> None:
    config = SegmentConfig(mode=mode, features=104, clusters=100)
    network = SegmentationNetwork(2, config.features, config.clusters).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trajectory = Trajectory(*size, config, torch.device("cpu"))
    momenta = [torch.zeros_like(parameter) for parameter in network.parameters()]
    step = fused_step.FusedStep(network, momenta, trajectory, config, dtype)
    step.load(torch.zeros(1, 3, *size))
    step.evaluate()
    step.descend()


def resources(kernel: Any) -> tuple[int, int]:
    """Registers of a thread of a compiled kernel, and bytes of what it could not keep in them."""
    cuobjdump = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not cuobjdump.exists():
        pytest.skip("this Triton comes without cuobjdump: registers and spills of the kernels are not tested")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [str(cuobjdump), "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    return found["REG"], found["STACK"] + found["LOCAL"]


def test_every_kernel_keeps_to_its_registers(compiled: set[Any]) -> None:
    assert len({kernel.name for kernel in compiled}) == 12
    for kernel in compiled:
        registers, spilled = resources(kernel)
        assert spilled == 0, kernel.name
        # Kernels with many programs run four of them on a multiprocessor, which has 65,536 registers.
        assert "finish" in kernel.name or 4 * registers * 32 * kernel.metadata.num_warps <= 65536, kernel.name


def test_maps_are_read_and_written_16_bytes_at_a_time(compiled: set[Any]) -> None:
    wide = re.compile(r"(ld|st)\.global[.\w:]*\.v4\.b32")
    narrow = re.compile(r"(ld|st)\.global[.\w:]*\.v2\.b(16|32)|(ld|st)\.global[.\w:]*\.b16")
    of_maps = [kernel for kernel in compiled if not re.search("finish|descend|pack", kernel.name)]
    assert len({kernel.name for kernel in of_maps}) == 6
    for kernel in of_maps:
        assert wide.search(kernel.asm["ptx"]) and not narrow.search(kernel.asm["ptx"]), kernel.name


def test_photos_of_all_sizes_share_what_is_compiled(compiled: set[Any]) -> None:
    before = set(compiled)
    for size in SIZES:
        iterate(size, torch.bfloat16)
    assert compiled == before
