from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from dynaseg_cli.batch.stages import work_ahead

WAIT_S = 120
"""Longest wait for another thread; a test that passes never waits so long."""


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())  # by identity: one of an earlier test may end meanwhile
    yield
    assert set(threading.enumerate()) <= before


def test_results_come_in_the_order_of_their_items(stop: threading.Event) -> None:
    def slower_first(item: int) -> int:
        time.sleep(0.002 * (10 - item))
        return item * item

    assert list(work_ahead(slower_first, range(10), 4, 5, stop)) == [item * item for item in range(10)]


@pytest.mark.parametrize(("workers", "ahead", "count"), [(1, 1, 3), (4, 2, 7), (2, 9, 4), (3, 3, 0)])
def test_every_item_is_done_once(workers: int, ahead: int, count: int, stop: threading.Event) -> None:
    assert list(work_ahead(str, range(count), workers, ahead, stop)) == [str(item) for item in range(count)]


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_items_are_taken_than_allowed(ahead: int, stop: threading.Event) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            taken.append(item)
            yield item

    for given, _ in enumerate(work_ahead(str, items(), 2, ahead, stop)):
        assert len(taken) <= given + ahead


def test_workers_run_at_the_same_time(stop: threading.Event) -> None:
    together = threading.Barrier(3, timeout=WAIT_S)
    assert len(list(work_ahead(lambda _: together.wait(), range(3), 3, 3, stop))) == 3


def test_exception_of_an_item_surfaces_in_its_turn_and_stops_the_rest(stop: threading.Event) -> None:
    def fail_at_two(item: int) -> int:
        if item == 2:
            raise RuntimeError("two")
        return item

    results = work_ahead(fail_at_two, range(10), 1, 3, stop)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(RuntimeError, match="two"):
        next(results)
    assert stop.is_set()
    assert list(results) == []


def test_exception_of_the_items_surfaces_and_stops(stop: threading.Event) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(work_ahead(str, items(), 1, 5, stop))
    assert stop.is_set()


def test_closing_early_stops_the_work_at_hand_and_waits_for_it(stop: threading.Event) -> None:
    started, ended = threading.Event(), threading.Event()

    def work_until_stopped(item: int) -> int:
        if item > 0:
            started.set()
            assert stop.wait(WAIT_S)
            ended.set()
        return item

    results = work_ahead(work_until_stopped, range(10), 1, 2, stop)
    assert next(results) == 0
    assert started.wait(WAIT_S)
    results.close()
    assert ended.is_set()


def test_items_not_begun_are_dropped_on_closing(stop: threading.Event) -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 1:
            stop.wait(WAIT_S)
        return item

    results = work_ahead(work, range(10), 1, 5, stop)
    assert next(results) == 0
    results.close()
    assert set(begun) <= {0, 1}


def test_stage_that_ends_by_itself_lets_the_next_one_finish(stop: threading.Event) -> None:
    first = work_ahead(str, range(3), 1, 3, stop)
    assert list(work_ahead(lambda item: (item, stop.is_set()), first, 1, 2, stop)) == [
        ("0", False),
        ("1", False),
        ("2", False),
    ]
