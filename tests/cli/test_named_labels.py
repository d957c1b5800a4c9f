"""Names of labels, and what exports leave out, as a person asks for them on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from refusal import refused
from samples import TINY, files_below, photo_folder
from test_segment import dynaseg, segment

import dynaseg_cli
from dynaseg_cli.config import BatchConfig, ExportConfig, WorkersConfig
from dynaseg_cli.errors import UsageError

OUT = Path("photos-dynaseg")
FOLDER = ("--fit", "folder", "--classes", "5", "--epochs", "1")
NOTE = "names mean little here"


@pytest.fixture
def photos(here: Path) -> Path:
    photo_folder(here / "photos", "a.png", "b.bmp", "sub/c.png")
    (here / "names.txt").write_text("sky\n\nsea\n")
    return Path("photos")


def categories() -> list[str]:
    document = json.loads((OUT / "export/coco-rle.json").read_text())
    return [category["name"] for category in document["categories"]]


def on_the_page(page: Path = OUT / "report.html") -> Any:
    """The names that the page knows."""
    return json.loads(page.read_text().partition('id="run">')[2].partition("</script>")[0]).get("names")


def test_names_go_to_exports_and_page_and_are_kept_for_later_commands(photos: Path) -> None:
    result = segment(photos, *FOLDER, "--names", "names.txt", "--report", "--export", "coco-rle,voc")
    assert result.exit_code == 0, result.stderr
    assert NOTE not in result.stderr
    assert "names.json" in result.stderr
    expected = categories()
    assert expected[:3] == ["sky", "label 1", "sea"]
    assert on_the_page() == {"0": "sky", "2": "sea"}
    assert "sky:128,0,0::\nlabel 1:" in (OUT / "export/voc/labelmap.txt").read_text()
    shutil.rmtree(OUT / "export")
    (OUT / "report.html").unlink()
    Path("names.txt").unlink()
    assert dynaseg("export", OUT, "--format", "coco-rle").exit_code == 0
    assert categories() == expected
    assert dynaseg("report", OUT).exit_code == 0
    assert on_the_page() == {"0": "sky", "2": "sea"}
    again = segment(photos, *FOLDER, "--report")
    assert (again.exit_code, on_the_page()) == (0, {"0": "sky", "2": "sea"})


def test_export_and_report_take_names_and_keep_the_last_ones(photos: Path) -> None:
    assert segment(photos, *FOLDER).exit_code == 0
    before = files_below(OUT).keys()
    assert dynaseg("export", OUT, "--format", "coco-rle", "--names", "names.txt").exit_code == 0
    assert categories()[0] == "sky"
    assert files_below(OUT).keys() - before == {"names.json", "export/coco-rle.json"}
    Path("others.csv").write_text("label,name\n4,fog\n")
    assert dynaseg("report", OUT, "--names", "others.csv").exit_code == 0
    assert on_the_page() == {"4": "fog"}
    assert dynaseg("export", OUT, "--format", "coco-rle").exit_code == 0
    assert categories()[0] == "label 0"
    kept = json.loads((OUT / "names.json").read_text())
    assert kept["names"] == {"4": "fog"}
    other = segment(photos, "-o", "other", "--load-model", OUT / "model.safetensors", "--names", OUT / "names.json")
    assert other.exit_code == 0
    assert json.loads(Path("other/names.json").read_text()) == kept


def test_names_of_labels_of_another_network_are_not_used(photos: Path) -> None:
    assert segment(photos, *FOLDER, "--names", "names.txt").exit_code == 0
    result = segment(photos, *FOLDER, "--seed", "3", "--overwrite", "--report")
    assert result.exit_code == 0
    assert "the names in photos-dynaseg/names.json are those of another network's labels" in result.stderr
    assert on_the_page() is None
    result = dynaseg("export", OUT, "--format", "coco-rle")
    assert "are those of another network's labels, and are not used" in result.stderr
    assert categories()[0] == "label 0"
    assert refused(dynaseg("export", OUT, "--format", "coco-rle", "--only-labels", "sky")).startswith("--only-labels:")


def test_names_of_labels_that_mean_little_are_taken_with_a_note(photos: Path, here: Path) -> None:
    result = segment(photos, "--names", "names.txt", "--export", "coco-rle")
    assert result.exit_code == 0
    assert sum(NOTE in line for line in result.stderr.splitlines()) == 1
    assert categories()[:3] == ["sky", "label 1", "sea"]
    assert NOTE in dynaseg("report", OUT, "--names", "names.txt").stderr
    assert NOTE not in dynaseg("report", OUT, "--names", "names.txt", "-q").stderr
    assert NOTE not in dynaseg("report", OUT).stderr, "said once, where they are given"


def test_a_comparison_names_the_labels_of_the_first_folder(photos: Path) -> None:
    segment(photos)
    segment(photos, "-o", "other", "--regions", "3")
    assert dynaseg("report", "other", OUT, "--names", "names.txt").exit_code == 0
    assert on_the_page(Path("other/comparison.html")) == {"0": "sky", "2": "sea"}
    assert Path("other/names.json").is_file()
    assert not (OUT / "names.json").exists()


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("sky\nsky\n", (), "--names names.txt: labels 0 and 1 are both called 'sky'"),
        ("sky\n" + "\n" * 98 + "sea\n", (), "--names names.txt names label 99, 'sea', and labels are 0 to 63"),
        ("a:b\n", ("voc",), "--names calls label 0 'a:b', and a label map of VOC or CVAT cannot hold a name with"),
        ("#1\n", ("cvat",), "cannot hold a name with a colon or with # in front"),
        ("\nbackground\n", ("coco-rle,voc",), "--names calls label 1 'background', which in VOC and CVAT is where"),
        ("x" * 65, ("cvat",), "the name of label 0 has 65 characters, and CVAT keeps 64"),
    ],
)
def test_names_that_are_unusable_are_refused_before_any_work(
    photos: Path, content: str, options: tuple[str, ...], message: str
) -> None:
    Path("names.txt").write_text(content)
    export = ("--export", *options) if options else ()
    assert message in refused(segment(photos, "--names", "names.txt", *export))
    assert not OUT.exists()
    segment(photos)
    before = files_below(OUT)
    command = ("export", OUT, "--format", *options) if options else ("report", OUT)
    assert message in refused(dynaseg(*command, "--names", "names.txt"))
    assert files_below(OUT) == before


def test_names_that_one_format_cannot_hold_another_one_can(photos: Path) -> None:
    Path("names.txt").write_text("animal: dog\nbackground\n" + "x" * 65)
    assert segment(photos, "--names", "names.txt", "--export", "coco-rle,coco-panoptic").exit_code == 0
    assert categories()[:3] == ["animal: dog", "background", "x" * 65]
    message = "'animal: dog', and a label map of VOC or CVAT cannot hold"
    assert message in refused(dynaseg("export", OUT, "--format", "voc")), "kept names are checked as well"


def test_a_file_of_the_user_is_not_replaced_by_names(photos: Path) -> None:
    OUT.mkdir()
    (OUT / "names.json").write_text('{"0": "mine"}')
    assert "was not written by dynaseg" in refused(segment(photos, "--names", "names.txt"))
    segment(photos, "--report")
    assert on_the_page() is None
    assert "was not written by dynaseg" in refused(dynaseg("report", OUT, "--names", "names.txt"))
    assert (OUT / "names.json").read_text() == '{"0": "mine"}'


# What is left out


def labels_in_the_export() -> set[int]:
    document = json.loads((OUT / "export/coco-rle.json").read_text())
    return {entry["category_id"] - 1 for entry in document["annotations"]}


def test_labels_are_chosen_by_number_and_name(photos: Path) -> None:
    segment(photos, "--names", "names.txt")
    for only, expected in (("0", {0}), ("sea, 1", {1, 2}), ("sky,0", {0})):
        assert dynaseg("export", OUT, "--format", "coco-rle", "--only-labels", only).exit_code == 0
        assert labels_in_the_export() == expected
    assert dynaseg("export", OUT, "--format", "coco-rle").exit_code == 0
    assert labels_in_the_export() >= {0, 1, 2, 3}


def test_images_of_which_nothing_is_left_are_counted(photos: Path) -> None:
    result = segment(photos, "--export", "coco-rle,voc,cvat,coco-panoptic", "--min-area", "1000000")
    assert result.exit_code == 0
    assert "of 3 of 3 images no segment was left to export" in result.stderr
    assert len(json.loads((OUT / "export/coco-rle.json").read_text())["images"]) == 3
    assert "no segment was left" not in dynaseg("export", OUT, "--format", "coco-rle").stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--only-labels", "sky"), "--only-labels: 'sky' is neither the number of a label nor one of the --names"),
        (("--only-labels", "64"), "--only-labels: there is no label 64; labels are 0 to 63"),
        (("--only-labels", ","), "--only-labels must be a list, not ','"),
        (("--min-area", "-1"), "--min-area must be at least 0, not -1"),
        (("--min-area", "many"), "--min-area must be a whole number, not 'many'"),
    ],
)
def test_selections_that_are_unusable_are_refused(photos: Path, options: tuple[str, str], message: str) -> None:
    assert message in refused(segment(photos, "--export", "voc", *options))
    assert not OUT.exists()
    segment(photos)
    assert message in refused(dynaseg("export", OUT, "--format", "voc", *options))
    assert not (OUT / "export").exists()


def test_what_exports_hold_is_said_with_an_export(photos: Path) -> None:
    assert refused(segment(photos, "--drop-largest")) == "--drop-largest says what exports hold: add --export"
    with pytest.raises(UsageError, match=r"^`min_area` says what exports hold: add `export`"):
        BatchConfig(export_config=ExportConfig(min_area=3))


def test_names_and_selections_from_python(photos: Path) -> None:
    batch = dynaseg_cli.BatchConfig(
        export=("coco-rle",),
        export_config=dynaseg_cli.ExportConfig(only_labels=("sea", 1), drop_largest=True),
        names=Path("names.txt"),
    )
    run = dynaseg_cli.segment_folder(photos, OUT, TINY, batch, WorkersConfig(device="cpu", workers=0))
    assert run.run().done == 3
    assert OUT / "names.json" in run.paths
    assert categories()[:3] == ["sky", "label 1", "sea"]
    assert labels_in_the_export() <= {1, 2}
