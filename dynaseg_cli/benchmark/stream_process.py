"""What runs in the process that `Stream` times: the batch as `segment` runs it, a line on stdout for each outcome."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from ..batch.job import Job
from ..batch.stages import run_stream
from ..config import BatchConfig, SegmentConfig, WeightsFile
from ..engine.engine import Engine
from .memory import peak_bytes_of_process


def main() -> None:
    """Read a request as JSON from stdin, run it, and write after each image when that was and the memory so far."""
    # Ctrl-C is sent to both processes; the one that waits for this one decides, and ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as lines:
        # What a library prints must not come between the lines.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        request = json.load(sys.stdin)
        jobs = [Job(path, name) for path, name in request["jobs"]]
        options = request["options"]
        if isinstance(options["weights"], dict):
            options["weights"] = WeightsFile(**options["weights"])
        engine = Engine(SegmentConfig(**options), request["device"])
        for _, outcome in run_stream(jobs, Path(request["output"]), BatchConfig(), engine):
            finished = time.monotonic()
            host, device = peak_bytes_of_process(engine.device)
            assert outcome is not None, "nobody else works in a temporary folder"
            line = {"finished": finished, "reason": outcome.reason, "host_bytes": host, "device_bytes": device}
            print(json.dumps(line), file=lines, flush=True)
