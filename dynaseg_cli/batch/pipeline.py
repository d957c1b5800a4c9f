"""The one mechanism of the stream: a stage that works ahead in the background, in order and within bounds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def work_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int, stop: threading.Event
) -> Generator[Result, None, None]:
    """Yield `function(item)` for all items in their order, computed by `workers` threads.

    At most `ahead` items are taken from `items` before their results are asked for: memory stays bounded, and the
    stage waits for whoever takes its results. Where the iteration is broken off, `stop` is set, so that a `function`
    that looks at it returns soon. However it ends, the threads are waited for.
    """
    executor = ThreadPoolExecutor(workers)
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(executor.submit(function, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BaseException:
        stop.set()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
