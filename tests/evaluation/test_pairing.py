from __future__ import annotations

import os
from pathlib import Path

import pytest
from label_samples import save_labels

from dynaseg_cli.config import Use
from dynaseg_cli.errors import UsageError
from dynaseg_cli.evaluation.pairing import pair_files, scorable


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a current folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: str, *names: str) -> Path:
    """A folder of files; pairing looks at their names alone."""
    for name in names:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Path(folder)


def paired(*listed: str, prediction: str = "pred", truth: str = "gt") -> dict[str, tuple[str, str]]:
    """The files of each pair; every file must have found its partner, unless a list was given."""
    pairing = pair_files(Path(prediction), Path(truth), listed or None)
    if not listed:
        assert (pairing.predictions_alone, pairing.truths_alone) == ([], [])
    assert [pair.name for pair in pairing.pairs] == sorted(pair.name for pair in pairing.pairs)
    return {pair.name: (str(pair.prediction), str(pair.truth)) for pair in pairing.pairs}


def refused(*listed: str, prediction: str = "pred", truth: str = "gt") -> str:
    with pytest.raises(UsageError) as caught:
        pair_files(Path(prediction), Path(truth), listed or None)
    return str(caught.value)


def test_files_pair_by_their_path_without_extension() -> None:
    files("pred", "b.png", "sub/a.TIF", "sub/deep/a.npy")
    files("gt", "b.mat", "sub/a.png", "sub/deep/a.bmp")
    assert paired() == {
        "b": ("pred/b.png", "gt/b.mat"),
        "sub/a": ("pred/sub/a.TIF", "gt/sub/a.png"),
        "sub/deep/a": ("pred/sub/deep/a.npy", "gt/sub/deep/a.bmp"),
    }


def test_files_without_a_partner_are_named_on_both_sides() -> None:
    files("pred", "both.png", "x/mine.png", "only.png")
    files("gt", "both.mat", "y/mine.mat", "other.mat")
    pairing = pair_files(Path("pred"), Path("gt"))
    assert [pair.name for pair in pairing.pairs] == ["both"]
    assert pairing.predictions_alone == [Path("pred/only.png"), Path("pred/x/mine.png")]
    assert pairing.truths_alone == [Path("gt/other.mat"), Path("gt/y/mine.mat")]


def test_output_of_segment_stands_for_its_labels() -> None:
    files("pred", "labels/a.png", "labels/labels/b.png", "color/a.png", "color/c.png", "stats/a.json")
    files("gt", "a.mat", "labels/b.mat")
    expected = {"a": ("pred/labels/a.png", "gt/a.mat"), "labels/b": ("pred/labels/labels/b.png", "gt/labels/b.mat")}
    assert paired() == expected


@pytest.mark.parametrize("prediction", ["out", "out/regions", "link"])
def test_output_of_segment_stands_for_the_maps_to_use(here: Path, prediction: str) -> None:
    files("out", "labels/a.png", "labels/c.png", "regions/a.png", "regions/stats/b.tif", "stats/a.json")
    files("gt", "a.mat", "stats/b.mat")
    (here / "link").symlink_to("out/regions")
    pairing = pair_files(Path(prediction), Path("gt"), use="regions")
    found = {pair.name: pair.prediction.resolve() for pair in pairing.pairs}
    assert found == {"a": here / "out/regions/a.png", "stats/b": here / "out/regions/stats/b.tif"}
    assert pairing.predictions_alone == []


@pytest.mark.parametrize("written", ["labels/a.png", "stats/a.json"])
@pytest.mark.parametrize("use", ["regions", "hierarchy"])
def test_output_of_segment_without_the_maps_to_use_is_refused_saying_how_to_get_them(use: Use, written: str) -> None:
    files("out", written, "a.png")
    files("gt", "a.mat")
    with pytest.raises(UsageError) as caught:
        pair_files(Path("out"), Path("gt"), use=use)
    assert str(caught.value) == f"out has no {use}/, which segment writes with --save labels,color,stats,{use}"


def test_any_folder_of_maps_is_taken_whatever_maps_to_use() -> None:
    files("pred", "a.png", "sub/b.png", "regions.png")
    files("gt", "a.mat", "sub/b.mat")
    assert [pair.name for pair in pair_files(Path("pred"), Path("gt"), use="regions").pairs] == ["a", "sub/b"]


def test_ground_truth_is_taken_as_it_is() -> None:
    files("pred", "labels/a.png")
    files("gt", "labels/a.png", "a.png")
    assert pair_files(Path("pred"), Path("gt")).pairs[0].truth == Path("gt/a.png")


def test_extension_that_segment_kept_is_not_part_of_the_name() -> None:
    files("pred", "a.jpg.png", "sub/b.JPEG.png", "c.d.webp.png", "e.v2.png", "f.jpg.png")
    files("gt", "a.mat", "sub/b.mat", "c.d.mat", "e.v2.mat", "f.jpg.mat")
    assert {name: prediction for name, (prediction, _) in paired().items()} == {
        "a": "pred/a.jpg.png",
        "c.d": "pred/c.d.webp.png",
        "e.v2": "pred/e.v2.png",
        "f.jpg": "pred/f.jpg.png",
        "sub/b": "pred/sub/b.JPEG.png",
    }


def test_extension_of_no_photo_is_part_of_the_name() -> None:
    files("pred", "a.v2.png", "b.png")
    files("gt", "a.mat", "b.mat")
    assert pair_files(Path("pred"), Path("gt")).predictions_alone == [Path("pred/a.v2.png")]


@pytest.mark.parametrize(
    ("predictions", "truths", "both"),
    [
        (("a.png", "a.npy"), ("a.mat",), ("pred/a.npy", "pred/a.png")),
        (("a.png",), ("a.mat", "a.png"), ("gt/a.mat", "gt/a.png")),
        (("a.png", "a.PNG"), ("a.mat",), ("pred/a.PNG", "pred/a.png")),
        (("a.jpg.png", "a.png.png"), ("a.mat",), ("pred/a.jpg.png", "pred/a.png.png", "gt/a.mat")),
        (("a.png", "a.jpg.png"), ("a.mat",), ("pred/a.png", "pred/a.jpg.png", "gt/a.mat")),
    ],
    ids=["predictions", "ground truths", "case of the suffix", "extensions kept", "extension kept once"],
)
def test_two_files_of_one_image_are_refused_naming_both(
    predictions: tuple[str, ...], truths: tuple[str, ...], both: tuple[str, ...]
) -> None:
    files("pred", *predictions)
    files("gt", *truths)
    said = refused()
    assert all(name in said for name in both)
    assert "keep one of them" in said


def test_hidden_files_and_folders_and_other_files_are_left_out() -> None:
    files("pred", "a.png", ".b.png", "._a.png", ".ipynb_checkpoints/a-checkpoint.png", "notes.txt", "c.jpg", "png")
    files("gt", "a.png", ".b.png", ".cache/d.png", "Thumbs.db")
    assert paired() == {"a": ("pred/a.png", "gt/a.png")}


@pytest.mark.parametrize("name", ["two\nlines", "日本 語", "[bold]a", "caf\udce9", " trailing ", "a*b?", "dot.ted"])
def test_any_name_pairs(name: str) -> None:
    files("pred", f"{name}.png", f"{name}/{name}.png")
    files("gt", f"{name}.mat", f"{name}/{name}.mat")
    assert set(paired()) == {name, f"{name}/{name}"}
    assert set(paired(f"{name}/{name}")) == {f"{name}/{name}"}


def test_two_files_are_a_pair_whatever_their_names() -> None:
    files("pred", "mine.png")
    files("gt", "theirs.mat")
    assert paired(prediction="pred/mine.png", truth="gt/theirs.mat") == {"mine": ("pred/mine.png", "gt/theirs.mat")}
    assert "`image_list` chooses among" in refused("mine", prediction="pred/mine.png", truth="gt/theirs.mat")


def test_links_to_files_and_to_the_folder_itself_are_followed(here: Path) -> None:
    files("elsewhere", "a.png")
    files("gt", "a.png")
    (here / "pred").mkdir()
    (here / "pred/a.png").symlink_to(here / "elsewhere/a.png")
    (here / "link").symlink_to(here / "gt")
    (here / "gt/loop").symlink_to(here / "gt")
    assert paired(truth="link") == {"a": ("pred/a.png", "link/a.png")}


def test_links_to_folders_are_followed_as_far_as_they_lead_on(here: Path) -> None:
    files("elsewhere", "deep/a.png", "b.png")
    files("pred", "far/deep/a.png", "far/b.png", "near/deep/a.png", "near/b.png")
    (here / "gt").mkdir()
    for name in ("far", "near"):
        (here / "gt" / name).symlink_to(here / "elsewhere")
    (here / "elsewhere/deep/up").symlink_to(here / "gt")
    assert paired()["far/deep/a"] == ("pred/far/deep/a.png", "gt/far/deep/a.png")
    assert len(paired()) == 4


def test_accents_stored_apart_and_together_are_one_name() -> None:
    files("pred", "cafe\u0301/e\u0301te\u0301.png")
    files("gt", "caf\u00e9/\u00e9t\u00e9.png")
    for listed in ((), ("e\u0301te\u0301.jpg",), ("\u00e9t\u00e9",)):
        assert set(paired(*listed)) == {"caf\u00e9/\u00e9t\u00e9"}


# What cannot be paired


def test_wrong_paths_are_refused_by_name(here: Path) -> None:
    files("pred", "a.png", "b.png")
    files("gt", "c.png")
    files("photos", "a.jpg")
    (here / "empty").mkdir()
    long = "x" * 300
    for prediction, truth, said in (
        ("gone", "gt", "gone does not exist"),
        ("pred", "gone", "gone does not exist"),
        ("pred/a.png", "gone.png", "gone.png does not exist"),
        ("pred/a.png", "gt", "pred/a.png is a file and the other a folder"),
        ("pred", "gt/c.png", "gt/c.png is a file and the other a folder"),
        ("empty", "gt", "no label files in empty: looked for names ending in .png"),
        ("pred", "photos", "no label files in photos"),
        ("pred", "gt", "no file of pred has the name of one of gt"),
        ("pred/a.png/b", "gt", "pred/a.png/b cannot be read: Not a directory"),
        (long, "gt", f"{long} cannot be read: File name too long"),
    ):
        assert refused(prediction=prediction, truth=truth).startswith(said)


def test_names_are_shown_where_none_pairs() -> None:
    files("pred", "val/a.png", "val/b.png")
    files("gt", "a.mat")
    assert "('val/a' here, 'a' there)" in refused()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_folder_without_permission_is_refused_by_name(here: Path) -> None:
    files("pred", "a.png", "locked/b.png")
    files("gt", "a.png")
    (here / "pred/locked").chmod(0)
    try:
        assert refused() == "pred/locked cannot be listed: Permission denied"
    finally:
        (here / "pred/locked").chmod(0o755)


# Only the images of a list


@pytest.fixture
def tree() -> None:
    for folder, suffix in (("pred", ".png"), ("gt", ".mat")):
        files(folder, *(f"{name}{suffix}" for name in ("a", "b/c", "b/d", "e/d", "f.1", "f")))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        *(("a", "a"), ("a.jpg", "a"), ("./a.png", "a"), ("/data/images/a.jpg", "a")),
        *(("b/c", "b/c"), ("c", "b/c"), ("c.png", "b/c"), ("val/b/c.jpg", "b/c"), ("x/c", "b/c")),
        *(("b/d", "b/d"), ("e/d.png", "e/d"), ("/data/e/d.jpg", "e/d")),
        *(("f.1", "f.1"), ("f.1.png", "f.1"), ("f", "f"), ("f.png", "f")),
    ],
)
@pytest.mark.usefixtures("tree")
def test_line_of_a_list_means_the_image_it_names(line: str, name: str) -> None:
    assert set(paired(line)) == {name}


@pytest.mark.usefixtures("tree")
def test_list_may_repeat_itself() -> None:
    assert set(paired("a", "a.jpg", "b/c", "a")) == {"a", "b/c"}


@pytest.mark.parametrize("line", ["d", "d.jpg", "x/d"])
@pytest.mark.usefixtures("tree")
def test_line_that_may_mean_two_images_is_refused_naming_both(line: str) -> None:
    assert refused(line) == f"{line} of the list may be b/d or e/d; give more of its path"


@pytest.mark.parametrize("line", ["gone", "a/b/gone.png", ".", "/", "b", "f.2.1"])
@pytest.mark.usefixtures("tree")
def test_line_without_a_ground_truth_is_refused(line: str) -> None:
    assert refused("a", line, "gone too") == f"2 images of the list have no ground truth, the first is {line}"


def test_listed_image_without_a_prediction_is_not_forgotten() -> None:
    files("pred", "a.png", "c.png")
    files("gt", "a.png", "b.png", "d.png")
    pairing = pair_files(Path("pred"), Path("gt"), ["a", "b"])
    assert (pairing.predictions_alone, pairing.truths_alone) == ([], [Path("gt/b.png")])


def test_list_knows_images_whose_extension_was_kept() -> None:
    files("pred", "a.jpg.png", "b.jpg.png")
    files("gt", "a.mat", "b.mat")
    assert paired("a.jpg") == {"a": ("pred/a.jpg.png", "gt/a.mat")}


# Names of data sets


CITYSCAPES = ("labelIds", "labelTrainIds", "instanceIds", "color")


def test_cityscapes_pairs_with_one_kind_and_says_which() -> None:
    for city in ("aachen", "bochum"):
        files("pred", f"val/{city}/{city}_0_leftImg8bit.png")
        files("gt", *(f"val/{city}/{city}_0_gtFine_{kind}.png" for kind in CITYSCAPES))
        files("gt", f"val/{city}/{city}_0_gtCoarse_labelTrainIds.png", f"val/{city}/{city}_0_gtFine_polygons.json")
    assert paired() == {
        f"val/{city}/{city}_0_leftImg8bit": (
            f"pred/val/{city}/{city}_0_leftImg8bit.png",
            f"gt/val/{city}/{city}_0_gtFine_labelTrainIds.png",
        )
        for city in ("aachen", "bochum")
    }
    assert pair_files(Path("pred"), Path("gt")).notes == [
        "Names pair without what data sets add to them, _gtFine_labelTrainIds:"
        " aachen_0_gtFine_labelTrainIds.png is that of aachen_0_leftImg8bit.",
        "Other ground truths of the same images are passed over:"
        " 2 _gtCoarse_labelTrainIds, 2 _gtFine_color, 2 _gtFine_instanceIds, 2 _gtFine_labelIds.",
    ]


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [
        (("_gtFine_color", "_gtFine_instanceIds", "_gtFine_labelIds"), "_gtFine_labelIds"),
        (("_gtFine_color", "_gtFine_instanceIds"), "_gtFine_instanceIds"),
        (("_gtCoarse_labelIds", "_gtFine_labelIds"), "_gtFine_labelIds"),
        (("_gt_labelIds", "_gt_color"), "_gt_labelIds"),
        (("_gtFine_color",), "_gtFine_color"),
    ],
    ids=str,
)
def test_map_that_is_scored_first_is_the_one_of_labels(kinds: tuple[str, ...], chosen: str) -> None:
    files("pred", "x_leftImg8bit.png")
    files("gt", *(f"x{kind}.png" for kind in kinds))
    assert paired() == {"x_leftImg8bit": ("pred/x_leftImg8bit.png", f"gt/x{chosen}.png")}


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [
        ("000000000139", "000000000139_pixelmaps"),
        ("ADE_val_00000001", "ADE_val_00000001_seg"),
        ("0001TP_006690", "0001TP_006690_L"),
        ("0016E5_00000", "0016E5_00000_P"),
        *(("a", f"a{suffix}") for suffix in ("_mask", "_masks", "_label", "_labels", "_gt", "_GT", "-mask", ".mask")),
        *(("a", f"a{suffix}") for suffix in ("_segmentation", "_groundtruth", "_ground_truth", "_annotation", "_Mask")),
        ("5_sat", "5_mask"),
        ("GP010376_frame_000054_rgb_anon", "GP010376_frame_000054_gt_labelTrainIds"),
        ("a_leftImg8bit", "a"),
        ("a_leftImg8bit.png", "a_gtFine_labelIds"),
        ("a.jpg", "a_mask"),
        ("sub/a", "sub/a_mask"),
    ],
)
def test_suffix_of_a_data_set_is_not_part_of_the_name(prediction: str, truth: str) -> None:
    files("pred", f"{prediction}.png")
    files("gt", f"{truth}.png")
    assert paired() == {prediction: (f"pred/{prediction}.png", f"gt/{truth}.png")}
    assert len(pair_files(Path("pred"), Path("gt")).notes) == 1
    for line in (f"images/{prediction}.png", f"{truth}.png"):
        assert set(paired(line)) == {prediction}
    assert scorable([prediction], Path("gt")) == {prediction}


def test_exact_names_win() -> None:
    files("pred", "a.png", "b_mask.png", "c.png")
    files("gt", "a.png", "a_mask.png", "b_mask.png", "c_mask.png", "_mask.png")
    pairing = pair_files(Path("pred"), Path("gt"))
    assert {pair.name: pair.truth.name for pair in pairing.pairs} == {
        "a": "a.png",
        "b_mask": "b_mask.png",
        "c": "c_mask.png",
    }
    assert pairing.truths_alone == [Path("gt/_mask.png"), Path("gt/a_mask.png")]
    assert scorable(["a", "b", "c", "d"], Path("gt")) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("predictions", "truths", "both"),
    [
        (("a.png",), ("a_gt.png", "a_mask.png"), ("gt/a_gt.png", "gt/a_mask.png")),
        (("a_img.png", "a_leftImg8bit.png"), ("a_mask.png",), ("a_img", "a_leftImg8bit")),
        (("a.png", "a_rgb.png"), ("a_gtFine_labelIds.png",), ("a", "a_rgb")),
    ],
)
def test_two_files_of_one_image_by_their_suffixes_are_refused_naming_both(
    predictions: tuple[str, ...], truths: tuple[str, ...], both: tuple[str, ...]
) -> None:
    files("pred", *predictions)
    files("gt", *truths)
    assert all(name in refused() for name in both)
    assert "keep one of them" in refused()


def test_ground_truth_alone_keeps_its_name_and_a_list_knows_it_without_its_suffix() -> None:
    files("pred", "a_leftImg8bit.png")
    files("gt", "a_gtFine_labelIds.png", "b_gtFine_labelIds.png", "b_gtFine_color.png")
    pairing = pair_files(Path("pred"), Path("gt"), ["a_leftImg8bit.png", "b_leftImg8bit.png"])
    assert [pair.name for pair in pairing.pairs] == ["a_leftImg8bit"]
    assert pairing.truths_alone == [Path("gt/b_gtFine_labelIds.png")]


# What dynaseg wrote, and what is no file of the user's


def output(folder: str, *names: str, mark: bool = True) -> Path:
    """What `segment` leaves, of photos of these names."""
    for name in names or ("a",):
        files(
            folder,
            *(f"{product}/{name}.png" for product in ("labels", "color", "regions", "hierarchy")),
            f"overlay/{name}.jpg",
            f"stats/{name}.json",
        )
    if mark:
        files(folder, ".dynaseg")
    return Path(folder)


def test_what_is_no_file_of_the_users_is_passed_over_and_counted() -> None:
    files("pred", "a.png", "._a.png", "__MACOSX/a.png", ".thumbs/a.png", ".DS_Store")
    files("gt", "a.png", ".b.png", "._c.png", "@eaDir/a.png")
    output("pred/runs/scf")
    output("gt/old", "a", "b")
    assert paired() == {"a": ("pred/a.png", "gt/a.png")}
    assert pair_files(Path("pred"), Path("gt")).notes == [
        "Passed over: 2 hidden files or folders (pred/.thumbs first), 2 sidecars (pred/._a.png first),"
        " 2 system folders (pred/__MACOSX first), 2 folders that dynaseg wrote (pred/runs/scf first)."
    ]


@pytest.mark.parametrize("mark", [".dynaseg", "run.json", "outcomes.jsonl"])
def test_folder_of_results_alone_is_refused_with_the_command_that_takes_them(mark: str) -> None:
    output("runs/scf", mark=False)
    content = {"run.json": '{"versions": {"dynaseg": "1"}}', "outcomes.jsonl": '{"path": "a", "status": "done"}\n'}
    Path("runs/scf", mark).write_text(content.get(mark, ""))
    files("gt", "a.mat")
    said = refused(prediction="runs")
    assert "passed over: 1 folder that dynaseg wrote (runs/scf)" in said
    assert said.endswith("; to take one of them: dynaseg evaluate runs/scf gt")
    assert paired(prediction="runs/scf") == {"a": ("runs/scf/labels/a.png", "gt/a.mat")}


@pytest.mark.parametrize(
    ("prediction", "truth", "hint"),
    [
        ("gt", "out", "did you mean: dynaseg evaluate out gt"),
        ("mats", "out", "did you mean: dynaseg evaluate out mats"),
        ("mats", "out/labels", "did you mean: dynaseg evaluate out/labels mats"),
        ("mats", "gt", "did you mean: dynaseg evaluate gt mats"),
        ("out", "out 2", "to compare with its labels: dynaseg evaluate out 'out 2/labels'"),
        ("out/labels", "out 2", "to compare with its labels: dynaseg evaluate out/labels 'out 2/labels'"),
        ("out/hierarchy", "gt", "did you mean: dynaseg evaluate out gt `use=hierarchy`"),
        ("out/overlay", "gt", "did you mean: dynaseg evaluate out gt"),
        ("out/stats", "gt", "did you mean: dynaseg evaluate out gt"),
        ("photos", "gt", "it holds photos such as photos/a.jpg, and label maps are needed: dynaseg segment photos"),
        ("out", "photos", "; it holds photos such as photos/a.jpg"),
        ("val", "gt", "did you mean: dynaseg evaluate val/deep gt"),
        ("gt", "val", "did you mean: dynaseg evaluate gt val/deep"),
        ("val", "city", "did you mean: dynaseg evaluate val/deep city/fine"),
        ("out", "data", "did you mean: dynaseg evaluate out/labels data/masks"),
        ("out", "plain", "did you mean: dynaseg evaluate out/labels plain/labels"),
        ("no labels", "gt", "no labels has no labels/, which segment writes with --save labels,color,stats"),
        ("out", "other", "('a' here, 'z' there)"),
    ],
)
def test_wrong_folder_is_refused_with_the_command_that_would_work(prediction: str, truth: str, hint: str) -> None:
    output("out")
    output("out 2")
    output("plain", mark=False)
    files("no labels", "color/a.png", ".dynaseg")
    files("gt", "a.png")
    files("photos", "a.jpg")
    files("val", "deep/a.png")
    files("city", "fine/a_gtFine_labelIds.png")
    files("other", "z.png")
    files("data", "images/a.png", "masks/a.png")
    save_labels(Path("mats/a.mat"), [[0, 1]], [[0, 0]])
    assert refused(prediction=prediction, truth=truth).endswith(hint)


def test_colours_and_swapped_labels_are_scored_with_a_doubt() -> None:
    output("out")
    files("gt", "a.png")
    assert pair_files(Path("out/color"), Path("gt")).notes == [
        "out/color holds the labels' colours; the labels themselves: dynaseg evaluate out gt"
    ]
    assert pair_files(Path("gt"), Path("out/labels")).notes == [
        "out/labels is taken for the ground truth, and dynaseg wrote it; or: dynaseg evaluate out gt"
    ]
    output("out2")
    assert pair_files(Path("out2"), Path("out/labels")).notes == []


def test_maps_beside_what_dynaseg_wrote_are_a_ground_truth() -> None:
    output("out")
    output("data", mark=True)
    files("data", "a.png", "more/b.png")
    pairing = pair_files(Path("out"), Path("data"))
    assert ([pair.truth for pair in pairing.pairs], pairing.truths_alone) == (
        [Path("data/a.png")],
        [Path("data/more/b.png")],
    )


def test_pipe_among_the_maps_is_not_waited_for() -> None:
    files("pred", "sub/a.png")
    files("gt", "sub/a.png")
    for name in ("run.json", "outcomes.jsonl"):
        os.mkfifo(f"pred/sub/{name}")
    assert set(paired()) == {"sub/a"}
