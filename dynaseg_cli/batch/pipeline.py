"""The one mechanism of the stream: a stage that works ahead in the background, in order and within bounds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def work_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int, stop: threading.Event
) -> Generator[Result, None, None]:
    """Yield `function(item)` for all items in their order, computed by `workers` threads.

    At most `ahead` items are taken from `items` before their results are asked for: memory stays bounded, and the
    stage waits for whoever takes its results. A result that is ready does not wait for an item that is not: `items` may
    block. Where the iteration is broken off, `stop` is set, so that a `function`, and `items`, that look at it return
    soon. However it ends, the threads are waited for.
    """
    executor = ThreadPoolExecutor(workers)
    futures: SimpleQueue[Future[Result] | None] = SimpleQueue()
    room = threading.Semaphore(ahead)

    def feed() -> None:
        try:
            remaining = iter(items)
            while room.acquire() and not stop.is_set():
                futures.put(executor.submit(function, next(remaining)))
        except StopIteration:
            pass
        except BaseException as error:
            failed: Future[Result] = Future()
            failed.set_exception(error)
            futures.put(failed)
        finally:
            futures.put(None)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        while (future := futures.get()) is not None:
            result = future.result()
            room.release()
            yield result
    except BaseException:
        stop.set()
        raise
    finally:
        room.release()
        executor.shutdown(wait=True, cancel_futures=True)
        feeder.join()
