from __future__ import annotations

import pytest

from dynaseg_cli.benchmark.measurement import FolderFitCosts, Run
from dynaseg_cli.benchmark.results import MethodResults, markdown_table
from dynaseg_cli.benchmark.variants import parse_variants
from dynaseg_cli.evaluation.headings import written


def results(method: str, *runs: Run) -> MethodResults:
    (variant,) = parse_variants(method)
    return MethodResults(variant, runs=list(runs))


def run(image: str, repeat: int, iterations: int | None, fit: float, **stages: float) -> Run:
    return Run(
        image,
        30,
        20,
        repeat,
        iterations,
        {"fit": fit, **stages},
        0.25,
        0.75,
        host_bytes=repeat * 100,
        device_bytes=None,
    )


def test_ratios_are_of_the_same_image_and_repeat() -> None:
    reference = results("reference", run("a", 0, 10, 40.0), run("a", 1, 10, 60.0), run("b", 0, 10, 1000.0))
    engine = results(
        "scf", run("a", 0, 5, 1.0, label=1.0), run("a", 1, 5, 2.0, label=1.0), run("c", 0, 1, 1.0, label=1.0)
    )
    ratios = engine.document(reference)["ratio_to_reference"]
    assert ratios["ms_per_iteration"] == pytest.approx({"median": 17.5, "least": 15, "most": 20})  # 4000/200, 6000/400
    assert ratios["seconds"] == pytest.approx({"median": 20, "least": 20, "most": 20})  # 40/2, 60/3
    assert engine.row(reference)["reference_ratio"] == pytest.approx(17.5)


def test_figures_worked_by_hand() -> None:
    document = results(
        "scf", run("a", 0, 4, 2.0, label=1.0), run("a", 1, 4, 6.0, label=1.0), run("b", 0, 8, 4.0, label=2.0)
    )
    figures = document.document(None)
    assert figures["images"] == 2
    assert figures["seconds"] == {"median": 6, "least": 3, "most": 7, "total": 16}
    assert (figures["images_per_second"], figures["stream"]) == (None, None)  # that is for the stream to measure
    assert figures["ms_per_iteration"] == {"median": 500, "least": 500, "most": 1500}
    assert figures["stages"] == {"decode": 0.25, "fit": 4, "label": 1, "write": 0.75}
    assert figures["peak_bytes"] == {"host": 100, "device": None}


def test_method_without_iterations_has_no_time_for_one() -> None:
    kmeans = results("kmeans", run("a", 0, None, 2.0))
    assert kmeans.document(None)["ms_per_iteration"]["median"] is None
    assert kmeans.row(results("reference", run("a", 0, 10, 40.0)))["reference_ratio"] is None


def test_cost_is_given_for_each_size_of_image() -> None:
    wide, small = (
        Run("wide", 30, 20, 0, 4, {"fit": 4.0}, 0.25, 0.75, host_bytes=900, device_bytes=70),
        Run("small", 9, 9, 0, 2, {"fit": 1.0}, 0.25, 0.25, host_bytes=500, device_bytes=None),
    )
    again = Run("wide", 30, 20, 1, 4, {"fit": 8.0}, 0.25, 0.25, host_bytes=700, device_bytes=80)
    first, second = results("scf", wide, small, again).document(None)["sizes"]
    assert first == {
        "width": 9,
        "height": 9,
        "images": 1,
        "seconds": {"median": 1, "least": 1, "most": 1},
        "iterations": 2,
        "stages": {"decode": 0.25, "fit": 1, "write": 0.25},
        "peak_bytes": {"host": 500, "device": None},
    }
    assert (second["width"], second["height"], second["images"]) == (30, 20, 1)
    assert second["seconds"] == {"median": 6, "least": 4, "most": 8}
    assert second["peak_bytes"] == {"host": 900, "device": 80}


def test_costs_are_stages_memory_and_the_spread_of_the_ratio() -> None:
    reference = results("reference", run("a", 0, 10, 40.0), run("a", 1, 10, 60.0))
    engine = results("scf", run("a", 0, 5, 1.0, label=1.0), run("a", 1, 5, 2.0, label=3.0))
    assert engine.costs(reference) == {
        "decode_seconds": 0.25,
        "fit_seconds": 1.5,
        "label_seconds": 2,
        "write_seconds": 0.75,
        "host_gigabytes": 1e-7,
        "device_gigabytes": None,
        "least_reference_ratio": pytest.approx(15),
        "most_reference_ratio": pytest.approx(20),
    }


def test_method_of_one_label_space_has_the_cost_of_its_fit() -> None:
    (variant,) = parse_variants("picie", "folder")
    runs = [
        Run(name, 30, 20, 0, None, {"label": seconds}, 0.25, 0.75, 900, None)
        for name, seconds in zip("ab", (1, 3), strict=True)
    ]
    picie = MethodResults(variant, fit=FolderFitCosts(7, 60.0, 2 * 10**9, None), runs=runs)
    speed, costs, document = picie.speed(None), picie.costs(None), picie.document(None)
    assert (speed["folder_fit_seconds"], speed["labelled_per_second"], speed["seconds"]) == (60, 0.5, 2)
    assert (costs["folder_fit_host_gigabytes"], costs["folder_fit_device_gigabytes"]) == (2, None)
    assert document["folder_fit"] == {"images": 7, "seconds": 60, "host_bytes": 2 * 10**9, "device_bytes": None}
    assert document["labelled_per_second"] == 0.5
    assert list(markdown_table([("picie", speed)]).splitlines()[0].split(" | ")) == [
        "| method",
        "fit s",
        "photos/s",
        "s/image |",
    ]


def test_seconds_of_a_fast_method_are_not_rounded_to_nothing() -> None:
    assert [written("seconds", seconds) for seconds in (0.004, 0.46, 7.8)] == ["0.004", "0.46", "7.80"]


def test_table_has_a_line_for_each_method_and_only_columns_with_figures() -> None:
    rows = [
        ("scf", {"seconds": 7.8, "iterations": 44, "miou": 0.317, "covering": 0.344, "voi": 4.306, "segments": 1880.4}),
        ("kmeans:clusters=8", {"seconds": 0.456, "iterations": None, "miou": 0.2, "miou_things": None}),
    ]
    assert markdown_table(rows) == (
        "| method | s/image | iter. | mIoU | covering | VoI | segments |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| `scf` | 7.80 | 44 | 0.317 | 0.344 | 4.31 | 1,880 |\n"
        "| `kmeans:clusters=8` | 0.46 |  | 0.200 |  |  |  |\n"
    )
