from __future__ import annotations

from dynaseg_cli.benchmark.markdown import markdown_table


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
