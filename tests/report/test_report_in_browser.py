"""The report as people use it: opened from disk in a real Chromium, with mouse, keys and fingers."""

from __future__ import annotations

import base64
import io
import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from report_entries import details_of, entry_files, unpacked

from dynaseg_cli.regions.hierarchy import Hierarchy
from dynaseg_cli.report.page import ENTRY_FILES, Row, page_row, report_page

api = pytest.importorskip("playwright.sync_api")
expect = api.expect

pytestmark = pytest.mark.requires_chromium

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
RUN: dict[str, Any] = {
    "output": "/data/photos-dynaseg",
    "images": 5,
    "done": 5,
    "skipped": 0,
    "failed": 0,
    "interrupted": False,
    "shard": "1/1",
    "seconds": 12.5,
    "options": {"mode": "scf", "iterations": 1000, "mu": None, "literal": False},
    "cut": {"regions": "auto", "granularity": None},
    "versions": {"dynaseg": "0.1.0", "torch": "2.14"},
    "device": "cpu",
}
OF_ROWS = [
    {"name": "b/cat 2.jpg", "labels": 12, "seconds": 3.25, "stop_reason": "converged", "iterations": 30, "regions": 8},
    {"name": "b/cat 10.jpg", "labels": 4, "seconds": 0.5, "stop_reason": "threshold", "iterations": 90, "regions": 30},
    {"name": "a/dog.jpg", "labels": 30, "seconds": 20.0, "stop_reason": "converged", "iterations": 60, "regions": 2},
    {"name": "c/horse.jpg", "labels": 7, "seconds": 1.0, "stop_reason": "iterations", "iterations": 1000, "regions": 9},
    {"name": "c/model.jpg", "labels": 8, "seconds": 0.01, "stop_reason": "model", "iterations": 0, "regions": 7},
]
BY_NAME = ["a/dog.jpg", "b/cat 2.jpg", "b/cat 10.jpg", "c/horse.jpg", "c/model.jpg"]
NOT_FITTED: dict[str, Any] = {
    "levels": [],
    "iterations": 0,
    "stop_reason": "model",
    **{name: [] for name in ("labels_per_iteration", "loss", "similarity_loss", "continuity_loss")},
}

FILES = {"labels": "labels/a%20dog.png", "recording": "recording/dog.webp", "stats": "stats/dog.json"}
ONE_COLOUR = {"silhouette": {"k": 1, "scores": {}}}


def painted(seed: int, width: int = 96, height: int = 64) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A photo of plain discs and a few noisy pixels, and labels of it."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    labels = np.zeros((height, width), dtype=np.uint8)
    for label in range(1, 7):
        y, x, radius = random.uniform(0, height), random.uniform(0, width), random.uniform(6, 22)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = label
    labels[random.random(labels.shape) < 0.004] = 7
    photo = random.integers(0, 256, (8, 3))[labels] + random.normal(0, 6, (height, width, 3))
    return photo.clip(0, 255).astype(np.uint8), labels


@dataclass
class Report:
    """A folder with a report, and the hierarchy of each of its images that has one, by name."""

    folder: Path
    hierarchies: dict[str, Hierarchy]
    details: dict[str, dict[str, Any]]
    stats: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Five images: "c/horse.jpg" has no hierarchy and no clusters to compare, "c/model.jpg" was not fitted."""
    made = Report(tmp_path_factory.mktemp("report"), {}, {}, {})
    rows = []
    for seed, changed in enumerate(OF_ROWS):
        name, key = changed["name"], f"{seed:016x}"
        fit: dict[str, Any] = {"c/model.jpg": NOT_FITTED, "c/horse.jpg": ONE_COLOUR}.get(name, {})
        products = FILES if name == "a/dog.jpg" else {}
        files, stats, hierarchy = entry_files(
            key, *painted(seed), hierarchical=name != "c/horse.jpg", files=products, **fit
        )
        write_entry(made.folder / "report" / key, files)
        made.hierarchies[name] = hierarchy
        made.stats[name] = stats
        made.details[name] = details_of(files["-details.js"])[1]
        rows.append(replace(page_row(name, f"report/{key}", stats), **changed))
    (made.folder / "recording").mkdir()
    Image.new("RGB", (40, 20)).save(made.folder / FILES["recording"])
    write_page(made.folder, rows)
    return made


def write_entry(prefix: Path, files: dict[str, bytes]) -> None:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    for suffix, content in files.items():
        Path(f"{prefix}{suffix}").write_bytes(content)


def write_page(
    folder: Path,
    rows: list[Row],
    failures: list[dict[str, str]] | None = None,
    called: str = "report.html",
    **run: Any,
) -> Path:
    path = folder / called
    path.write_bytes(b"".join(report_page(rows, failures or [], RUN | run)))
    return path


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


Opened = Callable[..., Any]


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    """Opens a page from disk; the test fails if the browser has anything to complain of but what is `missing`."""
    contexts, complaints = [], []

    def not_found(request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page itself went on before its picture had come
            complaints.append(f"{request.failure}: {request.url}")

    def open_page(path: Path, *, missing: bool = False, at: str = "", **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
        context.set_default_timeout(5000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        if not missing:
            page.on("console", lambda message: complaints.append(f"console: {message.text}"))
            page.on("requestfailed", not_found)
        page.on(
            "request",
            lambda request: complaints.append(request.url) if not request.url.startswith(("file:", "data:")) else None,
        )
        page.goto(path.as_uri() + at)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(opened: Opened, report: Report) -> Any:
    return opened(report.folder / "report.html")


def names(page: Any) -> list[str]:
    return page.locator(".card .name").all_text_contents()


def card(page: Any, name: str) -> Any:
    return page.locator(".card", has=page.get_by_role("link", name=name, exact=True))


def detail(page: Any, name: str) -> Any:
    card(page, name).locator(".name").click()
    expect(page.locator("#detail")).to_be_visible()
    expect(page.locator("#clusters tbody tr").first).to_be_visible()
    return page.locator("#detail")


def technical(page: Any, name: str) -> Any:
    """The details of an image, with what is folded away."""
    dialog = detail(page, name)
    dialog.get_by_text("How it was fitted").click()
    return dialog


def filters(page: Any) -> None:
    """Shows the filters."""
    page.get_by_role("button", name="Filter", exact=True).click()


def clip(view: Any) -> str:
    """What of the layer is cut off on the left."""
    return str(view.locator(".over").first.evaluate("each => getComputedStyle(each).clipPath"))


def test_it_says_what_was_run(page: Any) -> None:
    expect(page).to_have_title("photos-dynaseg · dynaseg report")
    expect(page.locator("#summary")).to_have_text("8 labels and 8 regions in the median; the run took 12.5 s")
    expect(page.locator("#about")).to_be_hidden()
    page.get_by_role("button", name="About this run").click()
    assert re.sub(r"\s+", " ", page.locator("#totals").inner_text()) == (
        "Images 5 Done 5 Failed 0 Labels 8 median, 4 to 30 Regions 8 median, 2 to 30 Time 12.5 s Device cpu"
    )
    expect(page.locator("#failures")).to_be_hidden()
    expect(page.locator("#interrupted")).to_be_hidden()
    told = page.locator("#about").inner_text()
    for expected in ("mode\nscf", "iterations\n1000", "mu\n-", "literal\nno", "torch\n2.14", "/data/photos-dynaseg"):
        assert expected in told


def test_cards_show_their_images(page: Any) -> None:
    assert names(page) == BY_NAME
    assert card(page, "b/cat 10.jpg").locator(".told").inner_text().split("\n") == [
        "4 labels",
        "30 regions",
        "0.50 s",
        "threshold",
    ]
    page.wait_for_function("[...document.querySelectorAll('.card img')].every((each) => each.naturalWidth === 96)")
    assert page.locator(".card img").count() == 10


@pytest.mark.parametrize(
    ("size", "highest"), [((1440, 900), 150), ((820, 1180), 170), ((390, 844), 220), ((360, 740), 230)]
)
def test_the_first_photo_is_near_the_top(opened: Opened, report: Report, size: tuple[int, int], highest: int) -> None:
    page = opened(report.folder / "report.html", viewport=dict(zip(("width", "height"), size, strict=True)))
    assert page.locator(".card .frame").first.bounding_box()["y"] <= highest


def test_filters_are_behind_a_button(page: Any) -> None:
    button = page.get_by_role("button", name="Filter", exact=True)
    expect(page.get_by_label("Stopped")).to_be_hidden()
    expect(button).to_have_attribute("aria-expanded", "false")
    button.click()
    expect(page.get_by_label("Stopped")).to_be_visible()
    expect(button).to_have_attribute("aria-expanded", "true")
    button.click()
    expect(page.get_by_label("Stopped")).to_be_hidden()


def test_on_a_phone_sorting_is_behind_that_button_too(opened: Opened, report: Report) -> None:
    page = opened(report.folder / "report.html", viewport={"width": 390, "height": 844})
    expect(page.get_by_role("combobox", name="Sort by")).to_be_hidden()
    page.get_by_role("button", name="Filter and sort").click()
    page.get_by_role("combobox", name="Sort by").select_option("labels")
    assert names(page)[0] == "b/cat 10.jpg"


def test_on_a_phone_the_picture_stays_above_its_table(opened: Opened, report: Report) -> None:
    page = opened(report.folder / "report.html", viewport={"width": 390, "height": 844})
    card(page, "a/dog.jpg").locator(".frame").click()
    page.locator("#technical summary").click()
    expect(page.locator("#charts svg").first).to_be_visible()
    page.locator("#detail .body").evaluate("body => body.scrollTo(0, body.scrollHeight)")
    picture, lowest = page.locator("#detail-view .frame").bounding_box(), page.locator("#detail .bar").bounding_box()
    assert picture["y"] == pytest.approx(lowest["y"] + lowest["height"], abs=30)
    assert picture["y"] + picture["height"] < 844 / 2 + 100


def test_what_all_images_share_is_no_filter_and_no_order(opened: Opened, tmp_path: Path) -> None:
    rows = [Row(f"{labels}.jpg", f"report/{labels}", 96, 64, labels, 5, "converged", 1.0, 30) for labels in (4, 9)]
    page = opened(write_page(tmp_path, rows), missing=True)
    filters(page)
    expect(page.get_by_label("Labels, at least")).to_be_visible()
    expect(page.get_by_label("Stopped")).to_be_hidden()
    expect(page.get_by_label("Seconds, at least")).to_be_hidden()
    assert page.locator("#sort option").all_text_contents() == ["Name", "Labels"]
    alike = [replace(row, labels=4) for row in rows]
    page = opened(write_page(tmp_path, alike), missing=True)
    expect(page.get_by_role("button", name="Filter")).to_be_hidden()
    assert names(page) == ["4.jpg", "9.jpg"]
    assert names(opened(write_page(tmp_path, alike[:1]), missing=True)) == ["4.jpg"]


def test_names_filter(page: Any) -> None:
    page.get_by_label("Name", exact=True).fill("CAT")
    assert names(page) == ["b/cat 2.jpg", "b/cat 10.jpg"]
    expect(page.get_by_role("status").filter(has_text="2 of 5 images")).to_be_visible()


def test_stop_reasons_filter(page: Any) -> None:
    filters(page)
    choices = page.get_by_label("Stopped")
    expected = ["All reasons", "converged (2)", "iterations (1)", "model (1)", "threshold (1)"]
    assert choices.locator("option").all_text_contents() == expected
    choices.select_option("converged")
    assert names(page) == ["a/dog.jpg", "b/cat 2.jpg"]


def test_numbers_of_labels_filter_and_filters_are_cleared(page: Any) -> None:
    filters(page)
    clear = page.get_by_role("button", name="Clear the filters")
    expect(clear).to_be_hidden()
    page.get_by_label("Labels, at least").fill("7")
    assert names(page) == ["a/dog.jpg", "b/cat 2.jpg", "c/horse.jpg", "c/model.jpg"]
    page.get_by_label("Labels, at most").fill("12")
    assert names(page) == ["b/cat 2.jpg", "c/horse.jpg", "c/model.jpg"]
    page.get_by_label("Labels, at most").fill("6")
    assert names(page) == []
    expect(page.locator("#none")).to_contain_text("No images match.")
    clear.click()
    assert names(page) == BY_NAME
    expect(clear).to_be_hidden()
    expect(page.locator("#none")).to_be_hidden()


def test_seconds_filter_and_are_cleared(page: Any) -> None:
    filters(page)
    page.get_by_label("Seconds, at least").fill("0.5")
    assert names(page) == ["a/dog.jpg", "b/cat 2.jpg", "b/cat 10.jpg", "c/horse.jpg"]
    page.get_by_label("Seconds, at most").fill("3.25")
    assert names(page) == ["b/cat 2.jpg", "b/cat 10.jpg", "c/horse.jpg"]
    page.get_by_label("Labels, at least").fill("5")
    assert names(page) == ["b/cat 2.jpg", "c/horse.jpg"]
    page.get_by_label("Seconds, at most").fill("0.75")
    page.get_by_role("button", name="Clear the filters").click()
    assert names(page) == BY_NAME


def test_a_median_of_two_lies_between_them(opened: Opened, tmp_path: Path) -> None:
    rows = [Row(f"{labels}.jpg", f"report/{labels}", 96, 64, labels, 5, "converged", 1.0, 30) for labels in (4, 9)]
    totals = opened(write_page(tmp_path, rows), missing=True).locator("#totals")
    expect(totals).to_contain_text("6.5 median, 4 to 9")
    expect(totals).to_contain_text("5 in each image")


@pytest.mark.parametrize("field", ["name", "labels", "regions", "seconds", "iterations", "stop_reason"])
def test_sorting(page: Any, field: str) -> None:
    if field == "name":
        expected = BY_NAME
    else:
        expected = [row["name"] for row in sorted(OF_ROWS, key=lambda row: (row[field], BY_NAME.index(row["name"])))]
    page.get_by_role("combobox", name="Sort by").select_option(field)
    assert names(page) == expected
    page.get_by_role("button", name="Descending").click()
    turned = names(page)
    expect(page.get_by_role("button", name="Descending")).to_have_attribute("aria-pressed", "true")
    if field != "stop_reason":
        assert turned == expected[::-1]
    else:  # of equal ones the names still rise
        assert turned == ["b/cat 10.jpg", "c/model.jpg", "c/horse.jpg", "a/dog.jpg", "b/cat 2.jpg"]


@pytest.mark.parametrize("layer", ["regions", "overlay", "labels"])
def test_what_lies_over_the_photo_is_chosen_for_all(page: Any, layer: str) -> None:
    page.get_by_label("Overlay").first.check()
    page.get_by_label(layer.capitalize(), exact=True).first.check()
    for source in page.locator(".card img.layer").evaluate_all("all => all.map((each) => each.src)"):
        assert source.endswith(f"-{layer}.webp")
    page.wait_for_function(
        "[...document.querySelectorAll('.card img.layer')].every((each) => each.naturalWidth === 96)"
    )


@pytest.mark.parametrize(("key", "layer"), [("1", "regions"), ("2", "labels"), ("3", "overlay")])
def test_digits_choose_the_layer(page: Any, key: str, layer: str) -> None:
    page.keyboard.press("2" if key == "1" else "1")
    page.keyboard.press(key)
    expect(page.locator("#layer").get_by_label(layer.capitalize())).to_be_checked()
    expect(card(page, "a/dog.jpg").locator("img.layer")).to_have_attribute("src", re.compile(f"-{layer}.webp$"))


def test_digits_choose_the_layer_of_the_details(page: Any) -> None:
    dialog = detail(page, "a/dog.jpg")
    for key, layer in (("2", "Labels"), ("4", "Granularity"), ("1", "Regions"), ("3", "Overlay")):
        page.keyboard.press(key)
        expect(dialog.get_by_role("radio", name=layer)).to_be_checked()
    page.keyboard.press("Escape")
    expect(page.locator("#layer").get_by_label("Overlay")).to_be_checked()
    dialog = detail(page, "c/horse.jpg")  # without a hierarchy
    page.keyboard.press("4")
    expect(dialog.get_by_label("Overlay", exact=True)).to_be_checked()


def test_a_slash_goes_to_the_search_where_digits_are_text(page: Any) -> None:
    page.keyboard.press("/")
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    page.keyboard.type("2/")
    expect(page.get_by_label("Name", exact=True)).to_have_value("2/")
    expect(page.locator("#layer").get_by_label("Regions")).to_be_checked()


def test_the_layer_survives_a_reload(page: Any) -> None:
    page.locator("#layer").get_by_label("Labels").check()
    page.reload()
    expect(page.locator("#layer").get_by_label("Labels")).to_be_checked()
    expect(card(page, "a/dog.jpg").locator("img.layer")).to_have_attribute("src", re.compile("-labels.webp$"))
    dialog = detail(page, "a/dog.jpg")
    granularity = dialog.get_by_role("radio", name="Granularity")
    granularity.check()
    page.reload()
    expect(granularity).to_be_checked()
    expect(dialog.locator("canvas.layer")).to_be_visible()


def test_a_report_that_is_opened_anew_shows_the_regions(page: Any) -> None:
    page.locator("#layer").get_by_label("Labels").check()
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator("#layer").get_by_label("Regions")).to_be_checked()


def test_cards_out_of_sight_change_their_layer_when_they_come_near(opened: Opened, tmp_path: Path) -> None:
    rows = [Row(f"{index}.jpg", f"report/{index}", 96, 64, 5, 9, "converged", 1.0, 30) for index in range(120)]
    files = entry_files("k", *painted(0, 30, 20))[0]
    for row in rows:
        write_entry(tmp_path / row.files, {suffix: files[suffix] for suffix in ENTRY_FILES[:-1]})
    page = opened(write_page(tmp_path, rows), viewport={"width": 700, "height": 500})
    first, last = (card(page, f"{index}.jpg").locator("img.layer") for index in (0, 119))
    expect(first).to_have_attribute("src", "report/0-regions.webp")
    page.evaluate(
        """async () => {
          while (!document.querySelector('.card[data-key="119"]')) {
            scrollTo(0, document.body.scrollHeight);
            await new Promise(requestAnimationFrame);
          }
        }"""
    )
    last.scroll_into_view_if_needed()
    page.keyboard.press("2")
    expect(last).to_have_attribute("src", "report/119-labels.webp")
    expect(first).to_have_attribute("src", "report/0-regions.webp")
    page.evaluate("scrollTo(0, 0)")
    expect(first).to_have_attribute("src", "report/0-labels.webp")


def test_one_slider_moves_all_and_each_card_has_its_own(page: Any) -> None:
    views = page.locator(".card .view")
    assert clip(views.first) == "inset(0px 0px 0px 50%)"
    page.get_by_label("Split of all images").fill("20")
    assert {clip(views.nth(index)) for index in range(5)} == {"inset(0px 0px 0px 20%)"}
    own = card(page, "b/cat 2.jpg").get_by_role("slider")
    expect(own).to_have_attribute("aria-label", re.compile("cat 2.jpg.*regions"))
    own.focus()
    for _ in range(5):
        own.press("ArrowRight")
    assert clip(card(page, "b/cat 2.jpg")) == "inset(0px 0px 0px 25%)"
    assert clip(card(page, "a/dog.jpg")) == "inset(0px 0px 0px 20%)"


def test_a_split_is_dragged_on_the_picture_and_a_click_opens_it(page: Any) -> None:
    frame = card(page, "a/dog.jpg").locator(".frame")
    box = frame.bounding_box()
    x, y = box["x"], box["y"] + box["height"] / 2
    page.mouse.move(x + box["width"] * 0.5, y)
    page.mouse.down()
    page.mouse.move(x + box["width"] * 0.8, y, steps=4)
    page.mouse.up()
    assert clip(card(page, "a/dog.jpg")) == "inset(0px 0px 0px 80%)"
    expect(page.locator("#detail")).to_be_hidden()
    frame.click()
    expect(page.locator("#detail")).to_be_visible()


def test_the_layer_is_seen_right_of_the_split(page: Any) -> None:
    """Pixels of the screen: the photo's to the left, those of the labels to the right."""
    page.get_by_label("Labels", exact=True).first.check()
    frame = card(page, "a/dog.jpg").locator(".frame")
    page.wait_for_function("[...document.querySelectorAll('.card img')].every((each) => each.complete)")
    shots = {}
    for split in ("0", "50", "100"):
        page.get_by_label("Split of all images").fill(split)
        shots[split] = picture(frame.screenshot())
    width = shots["0"].shape[1]
    left, right = slice(4, width // 2 - 6), slice(width // 2 + 6, width - 6)
    np.testing.assert_array_equal(shots["50"][:, left], shots["100"][:, left])
    np.testing.assert_array_equal(shots["50"][:, right], shots["0"][:, right])
    assert abs(shots["0"][:, right].astype(int) - shots["100"][:, right]).mean() > 10


def picture(content: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def test_details_open_close_and_give_the_focus_back(page: Any) -> None:
    link = card(page, "b/cat 2.jpg").locator(".name")
    link.focus()
    link.press("Enter")
    expect(page.locator("#detail-name")).to_have_text("b/cat 2.jpg")
    assert page.url.endswith("#" + "0" * 16)
    expect(page.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    expect(link).to_be_focused()
    page.wait_for_function("location.hash === ''")
    link.press("Enter")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#detail")).to_be_hidden()
    expect(link).to_be_focused()


def test_keys_and_buttons_go_from_image_to_image(page: Any) -> None:
    detail(page, "b/cat 2.jpg")
    heading, position = page.locator("#detail-name"), page.locator("#position")
    expect(position).to_have_text("2 of 5")
    page.keyboard.press("ArrowRight")
    expect(heading).to_have_text("b/cat 10.jpg")
    page.keyboard.press("p")
    expect(heading).to_have_text("b/cat 2.jpg")
    page.get_by_role("button", name="Previous image").click()
    expect(heading).to_have_text("a/dog.jpg")
    expect(page.get_by_role("button", name="Previous image")).to_be_disabled()
    page.keyboard.press("ArrowLeft")
    expect(heading).to_have_text("a/dog.jpg")
    page.get_by_role("button", name="Next image").click()
    expect(heading).to_have_text("b/cat 2.jpg")
    page.keyboard.press("n")
    page.keyboard.press("Escape")
    expect(card(page, "b/cat 10.jpg").locator(".name")).to_be_focused()


def test_back_closes_and_forward_opens(page: Any) -> None:
    detail(page, "a/dog.jpg")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#detail-name")).to_have_text("b/cat 2.jpg")
    page.go_back()
    expect(page.locator("#detail")).to_be_hidden()
    page.go_forward()
    expect(page.locator("#detail-name")).to_have_text("b/cat 2.jpg")


def test_a_link_opens_its_image_and_a_wrong_one_none(opened: Opened, report: Report) -> None:
    path = report.folder / "report.html"
    page = opened(path, at="#" + f"{2:016x}")
    expect(page.locator("#detail-name")).to_have_text("a/dog.jpg")
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    assert "#" not in page.url
    expect(opened(path, at="#nothing").locator("#detail")).to_be_hidden()


def test_details_show_the_clusters(page: Any, report: Report) -> None:
    detail(page, "a/dog.jpg")
    clusters = report.details["a/dog.jpg"]["clusters"]
    rows = page.locator("#clusters tbody tr")
    expect(rows).to_have_count(len(clusters))
    for index, cluster in enumerate(clusters):
        cells = rows.nth(index).locator("td").all_inner_texts()
        assert float(cells.pop(1).removesuffix(" %")) == pytest.approx(cluster["fraction"] * 100, abs=0.051)
        colors = ["#" + "".join(f"{value:02x}" for value in cluster[name]) for name in ("color", "mean_rgb")]
        assert cells == [str(cluster["label"]), f"{cluster['pixels']:,}", str(cluster["regions"]), *colors]
        color = rows.nth(index).locator(".swatch").first.evaluate("each => getComputedStyle(each).backgroundColor")
        assert color == f"rgb({', '.join(map(str, cluster['color']))})"


def lit(page: Any) -> NDArray[np.bool_]:
    """(h, w) what is not shaded."""
    content = page.locator("#detail canvas.lit").evaluate("each => each.toDataURL('image/png')")
    with Image.open(io.BytesIO(base64.b64decode(content.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGBA"))[..., 3] == 0


def test_the_table_lights_clusters_up(page: Any) -> None:
    labels = painted(2)[1]
    detail(page, "a/dog.jpg")
    rows, shade = page.locator("#clusters tbody tr"), page.locator("#detail canvas.lit")
    expect(shade).to_be_hidden()
    rows.nth(2).hover()
    expect(shade).to_be_visible()
    np.testing.assert_array_equal(lit(page), labels == 2)
    rows.nth(4).locator(".pick").click()
    page.locator("#detail-name").hover()
    np.testing.assert_array_equal(lit(page), labels == 4)  # it stays
    expect(rows.nth(4).locator(".pick")).to_have_attribute("aria-pressed", "true")
    rows.nth(1).hover()
    np.testing.assert_array_equal(lit(page), labels == 1)
    rows.nth(4).locator(".pick").click()
    page.locator("#detail-name").hover()
    expect(shade).to_be_hidden()
    rows.nth(3).locator(".pick").press("Enter")
    np.testing.assert_array_equal(lit(page), labels == 3)
    page.keyboard.press("ArrowRight")
    expect(page.locator("#detail-name")).to_have_text("b/cat 2.jpg")
    expect(shade).to_be_hidden()


def at_pixel(page: Any, x: int, y: int) -> dict[str, float]:
    """Where in the large picture a pixel of a photo of 96 x 64 pixels is."""
    box = page.locator("#detail .frame").bounding_box()
    return {"x": (x + 0.5) * box["width"] / 96, "y": (y + 0.5) * box["height"] / 64}


def test_the_picture_tells_labels_and_selects_them(page: Any) -> None:
    labels = painted(2)[1]
    detail(page, "a/dog.jpg")
    frame, told = page.locator("#detail .frame"), page.locator("#pixel")
    expect(told).to_contain_text("Point at a label")
    for x, y in ((3, 5), (50, 30), (90, 60)):
        frame.hover(position=at_pixel(page, x, y))
        expect(told).to_have_text(re.compile(rf"^Label {labels[y, x]}, [\d.]+ % of the photo, at pixel {x}, {y}$"))
        expect(page.locator("#clusters .pointed-at .pick")).to_have_text(str(labels[y, x]))
    y, x = (int(each[0]) for each in np.nonzero(labels == 3))
    frame.click(position=at_pixel(page, x, y))
    expect(page.locator("#clusters .selected .pick")).to_have_text("3")
    assert clip(page.locator("#detail")) == "inset(0px 0px 0px 50%)"
    frame.click(position=at_pixel(page, x, y))
    expect(page.locator("#clusters .selected")).to_have_count(0)
    page.locator("#detail-name").hover()
    expect(told).to_contain_text("Point at a label")


NAMES = {"3": "sea", "0": "<i>a name</i> that is longer than any table has room for", "9": "of no label here"}


@pytest.fixture(scope="module")
def with_names(report: Report) -> Path:
    """The report again, in which labels have names."""
    rows = [page_row("a/dog.jpg", f"report/{2:016x}", report.stats["a/dog.jpg"])]
    return write_page(report.folder, rows, names=NAMES, called="named.html")


def test_labels_are_called_by_their_names(opened: Opened, with_names: Path) -> None:
    page = opened(with_names)
    labels = painted(2)[1]
    detail(page, "a/dog.jpg")
    picks = page.locator("#clusters .pick")
    expect(picks.nth(3)).to_have_text("3 sea")
    expect(picks.nth(0)).to_have_text(f"0 {NAMES['0']}")
    expect(picks.nth(1)).to_have_text("1")
    expect(picks.nth(0).locator("i")).to_have_count(0)
    y, x = (int(each[0]) for each in np.nonzero(labels == 3))
    page.locator("#detail .frame").hover(position=at_pixel(page, x, y))
    expect(page.locator("#pixel")).to_have_text(re.compile(rf"^Label 3 \(sea\), [\d.]+ % .*, at pixel {x}, {y}$"))


@pytest.mark.parametrize("width", [360, 640, 820, 961, 1100, 1280, 1440])
def test_the_table_of_clusters_has_room_for_names(opened: Opened, with_names: Path, width: int) -> None:
    page = opened(with_names, viewport={"width": width, "height": 800})
    side = detail(page, "a/dog.jpg").locator(".side")
    assert side.evaluate("each => each.scrollWidth - each.clientWidth") <= 0
    table, around = page.locator("#clusters table").bounding_box(), side.bounding_box()
    assert table["x"] + table["width"] <= around["x"] + around["width"]
    called = page.locator("#clusters .called")
    assert called.evaluate_all("all => all.map(each => each.scrollWidth > each.clientWidth)") == [True, False]
    assert called.first.bounding_box()["width"] > 60


def magnification(page: Any) -> tuple[float, float, float]:
    """How many times as large the picture is as its frame, and the share of it that is left and above of the frame."""
    frame, photo = (page.locator(f"#detail {each}").bounding_box() for each in (".frame", ".photo"))
    scale = photo["width"] / frame["width"]
    return scale, (frame["x"] - photo["x"]) / photo["width"], (frame["y"] - photo["y"]) / photo["height"]


def test_zoom_by_buttons_and_keys(page: Any) -> None:
    dialog = detail(page, "a/dog.jpg")
    closer, fit = dialog.get_by_role("button", name="Zoom in"), dialog.get_by_role("button", name="Fit")
    assert magnification(page) == pytest.approx((1, 0, 0), abs=1e-3)
    expect(fit).to_be_disabled()
    closer.click()
    closer.click()
    assert magnification(page) == pytest.approx((2.25, 0.5 - 0.5 / 2.25, 0.5 - 0.5 / 2.25), abs=1e-3)
    page.keyboard.press("Shift+ArrowRight")
    assert magnification(page)[1] == pytest.approx(0.5 - 0.5 / 2.25 + 0.2 / 2.25, abs=1e-3)
    expect(page.locator("#detail-name")).to_have_text("a/dog.jpg")
    page.keyboard.press("-")
    assert magnification(page)[0] == pytest.approx(1.5, abs=1e-3)
    for _ in range(20):
        page.keyboard.press("+")
    expect(closer).to_be_disabled()
    page.keyboard.press("0")
    assert magnification(page) == pytest.approx((1, 0, 0), abs=1e-3)
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#detail-name")).to_have_text("b/cat 2.jpg")
    assert magnification(page)[0] == pytest.approx(1, abs=1e-3)


def test_what_the_wheel_magnifies_stays_under_the_pointer_and_is_read_there(page: Any) -> None:
    labels = painted(2)[1]
    detail(page, "a/dog.jpg")
    frame = page.locator("#detail .frame")
    frame.hover(position=at_pixel(page, 70, 20))
    expected = page.locator("#pixel").inner_text()
    assert expected.startswith(f"Label {labels[20, 70]}, ")
    page.mouse.wheel(0, -600)
    page.wait_for_function("document.querySelector('#detail .frame').classList.contains('zoomed')")
    box = frame.bounding_box()
    place = {each: box[each] + at_pixel(page, 70, 20)[each] for each in ("x", "y")}
    page.mouse.move(place["x"] + 1, place["y"])
    expect(page.locator("#pixel")).to_have_text(expected)
    page.mouse.click(place["x"], place["y"])
    expect(page.locator("#clusters .selected .pick")).to_have_text(str(labels[20, 70]))


def test_a_magnified_picture_is_moved_and_the_split_is_not(page: Any) -> None:
    dialog = detail(page, "a/dog.jpg")
    page.keyboard.press("+")
    box = dialog.locator(".frame").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 30, y - 1000, steps=4)
    page.mouse.up()
    scale, left, above = magnification(page)
    assert left == pytest.approx(0.5 - 0.5 / 1.5 - 30 / box["width"] / 1.5, abs=1e-3)
    assert above == pytest.approx(1 - 1 / scale, abs=1e-3)  # no further than to its end
    assert clip(dialog) == "inset(0px 0px 0px 50%)"
    expect(page.locator("#clusters .selected")).to_have_count(0)


def with_full_files(tmp_path: Path, size: tuple[int, int] | None) -> Path:
    """A report of a photo of 960 x 640 pixels and its coloured labels; photos of another `size`, or none."""
    photo, labels = (np.repeat(np.repeat(each, 10, 0), 10, 1) for each in painted(0))
    urls = {"files": {"color": "color/a.png"}, "photo_url": "../photos/a.png"}
    files, stats, _ = entry_files("0" * 16, photo, labels, **urls)
    write_entry(tmp_path / "out/report" / ("0" * 16), files)
    if size:
        for path in (tmp_path / "photos/a.png", tmp_path / "out/color/a.png"):
            path.parent.mkdir(parents=True)
            Image.new("RGB", size).save(path)
    return write_page(tmp_path / "out", [page_row("a.png", "report/" + "0" * 16, stats)])


def test_what_is_magnified_has_full_resolution(opened: Opened, tmp_path: Path) -> None:
    page = opened(with_full_files(tmp_path, (960, 640)))
    dialog = detail(page, "a.png")
    photo, layer = dialog.locator("img.photo"), dialog.locator("img.layer")
    expect(photo).to_have_js_property("naturalWidth", 640)
    page.keyboard.press("+")
    expect(photo).to_have_attribute("src", "../photos/a.png")
    expect(photo).to_have_js_property("naturalWidth", 960)
    expect(layer).to_have_attribute("src", re.compile("-regions.webp$"))  # of which there is no larger picture
    page.keyboard.press("2")
    expect(layer).to_have_attribute("src", "color/a.png")


@pytest.mark.parametrize("size", [None, (640, 960)], ids=["none", "another"])
def test_without_the_photo_its_thumbnail_is_magnified(
    opened: Opened, tmp_path: Path, size: tuple[int, int] | None
) -> None:
    page = opened(with_full_files(tmp_path, size), missing=True)
    dialog = detail(page, "a.png")
    ends = "requestfailed" if size is None else "requestfinished"
    with page.expect_event(ends, lambda request: request.url.endswith("photos/a.png")):
        page.keyboard.press("+")
    page.evaluate("document.querySelector('#detail .photo').decode()")
    expect(dialog.locator("img.photo")).to_have_attribute("src", re.compile("-photo.webp$"))
    expect(dialog.locator(".missing")).to_be_hidden()
    assert magnification(page)[0] == pytest.approx(1.5, abs=1e-3)


def test_two_fingers_magnify(opened: Opened, report: Report) -> None:
    page = opened(report.folder / "report.html", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    detail(page, "a/dog.jpg")
    box = page.locator("#detail .frame").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = page.context.new_cdp_session(page)

    def fingers(kind: str, apart: float | None) -> None:
        points = [] if apart is None else [{"x": x + side * apart, "y": y, "id": side + 1} for side in (-1, 1)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", 20)
    for apart in (30, 40, 50):
        fingers("touchMove", apart)
    fingers("touchEnd", None)
    page.wait_for_function("document.querySelector('#detail .frame').classList.contains('zoomed')")
    assert magnification(page)[0] > 1.5


def test_colours_are_copied(opened: Opened, report: Report) -> None:
    page = opened(report.folder / "report.html", permissions=["clipboard-read", "clipboard-write"])
    dialog = detail(page, "a/dog.jpg")
    cluster = report.details["a/dog.jpg"]["clusters"][2]
    for place, name in enumerate(("color", "mean_rgb")):
        expected = "#" + "".join(f"{value:02x}" for value in cluster[name])
        dialog.locator("#clusters tbody tr").nth(2).get_by_role("button", name="Copy").nth(place).click()
        expect(page.get_by_text(f"{expected} is copied.")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == expected
    expect(page.locator("#clusters .selected")).to_have_count(0)


def test_a_colour_that_cannot_be_copied_is_said(page: Any) -> None:
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    detail(page, "a/dog.jpg").get_by_role("button", name="Copy").first.click()
    expect(page.locator("#copied")).to_contain_text("The browser does not let this page copy #99aabb.")


def test_files_and_recording_are_those_that_there_are(page: Any) -> None:
    dialog = detail(page, "a/dog.jpg")
    links = dialog.locator("#files a")
    assert links.all_text_contents() == ["Labels", "Recording", "Statistics"]
    urls = [link.get_attribute("href") for link in links.all()]
    assert urls == ["labels/a%20dog.png", "recording/dog.webp", "stats/dog.json"]
    recording = dialog.get_by_role("img", name="How the labels of a/dog.jpg came about")
    recording.scroll_into_view_if_needed()
    expect(recording).to_have_js_property("naturalWidth", 40)
    page.get_by_role("button", name="Next image").click()
    expect(page.locator("#detail-name")).to_have_text("b/cat 2.jpg")
    expect(dialog.locator("#clusters tbody tr").first).to_be_visible()
    expect(dialog.locator("#recording")).to_be_hidden()
    expect(links).to_have_count(0)
    expect(dialog.locator("#files")).to_be_empty()


def test_technical_facts_are_folded_and_stay_as_one_leaves_them(page: Any) -> None:
    dialog = detail(page, "a/dog.jpg")
    expect(dialog.locator("#overview")).to_have_text("96 \N{MULTIPLICATION SIGN} 64 pixels · 30 labels · 2 regions")
    expect(dialog.locator("#facts")).to_be_hidden()
    dialog.get_by_text("How it was fitted").click()
    expect(dialog.locator("#facts")).to_contain_text("SHA-256")
    page.get_by_role("button", name="Next image").click()
    expect(dialog.locator("#facts")).to_contain_text("SHA-256")
    expect(dialog.locator("#charts svg").first).to_be_visible()


@pytest.mark.parametrize(
    ("term", "explanation"),
    [
        ("Parts", "Connected pieces of this label"),
        ("Total", "similarity and continuity, each with its weight"),
        ("Similarity", "cross-entropy"),
        ("Continuity", "neighbouring pixels"),
        ("Stop threshold 3", "no more labels than these"),
    ],
)
def test_terms_are_explained_to_mice_and_keys(page: Any, term: str, explanation: str) -> None:
    dialog = technical(page, "a/dog.jpg")
    explained, tip = dialog.locator(".explained", has_text=re.compile(f"^{term}")), dialog.get_by_role("tooltip")
    expect(tip).to_have_count(0)
    explained.hover()
    expect(tip).to_contain_text(explanation)
    page.locator("#detail-name").hover()
    expect(tip).to_have_count(0)
    explained.focus()
    expect(tip).to_contain_text(explanation)
    expect(explained).to_have_accessible_description(re.compile(explanation))


def test_numbers_of_labels_agree_or_say_why_not(page: Any, report: Report) -> None:
    details = report.details["a/dog.jpg"]
    raw, kept = details["raw_labels"], len(details["clusters"])
    assert raw > kept
    expect(technical(page, "a/dog.jpg").locator(".note")).to_have_text(
        "The last iteration had 42 labels at 96 \N{MULTIPLICATION SIGN} 64 pixels. "
        f"At the size of the photo there are {raw}, of which {kept} remain once each region has one label."
    )


def test_charts_show_labels_and_losses(page: Any) -> None:
    dialog = technical(page, "a/dog.jpg")
    charts = dialog.get_by_role("img", name="over 30 iterations")
    expect(charts).to_have_count(2)
    labels, losses = charts.first, charts.last
    expect(labels).to_have_attribute("aria-label", re.compile("from 100 to 42.*stop threshold 3"))
    expect(labels.locator(".threshold")).to_have_count(1)
    expect(losses.locator("polyline")).to_have_count(3)
    assert len(losses.locator("polyline").first.get_attribute("points").split()) == 30
    heights = [float(point.split(",")[1]) for point in labels.locator("polyline").get_attribute("points").split()]
    assert (np.diff(heights) > 0).all()  # fewer labels are lower
    legend = dialog.locator(".legend")
    expect(legend.first).to_contain_text("Labels 42")
    labels.hover(position={"x": 46, "y": 60})
    expect(legend.first).to_contain_text("Labels 100")
    expect(legend.first).to_contain_text("at iteration 1")
    losses.focus()
    losses.press("Home")
    losses.press("ArrowRight")
    expect(legend.last).to_contain_text("at iteration 2")
    expect(legend.last).to_contain_text("Total 0.6235", use_inner_text=True)
    expect(page.locator("#detail-name")).to_have_text("a/dog.jpg")


def test_an_image_without_iterations_has_no_charts(page: Any) -> None:
    dialog = technical(page, "c/model.jpg")
    expect(dialog.locator("#charts svg")).to_have_count(0)
    expect(dialog.locator("#charts")).to_contain_text("None: the folder's network was applied as it is.")
    expect(dialog.locator("#facts")).to_contain_text("Applied at")
    expect(dialog.locator("#facts")).not_to_contain_text("Stop threshold")


def test_an_image_of_one_colour_has_no_score(page: Any) -> None:
    facts = technical(page, "c/horse.jpg").locator("#facts")
    expect(facts).to_contain_text("1 cluster")
    expect(facts).not_to_contain_text("score")


def test_layers_and_split_of_the_details(page: Any) -> None:
    page.get_by_label("Regions", exact=True).first.check()
    dialog = detail(page, "c/horse.jpg")
    expect(dialog.get_by_label("Regions", exact=True)).to_be_checked()
    layer = dialog.locator("img.layer")
    for name in ("labels", "overlay", "regions"):
        dialog.get_by_label(name.capitalize(), exact=True).check()
        expect(layer).to_have_attribute("src", re.compile(f"-{name}.webp$"))
    dialog.locator(".view").get_by_role("slider").fill("10")
    assert clip(dialog) == "inset(0px 0px 0px 10%)"
    expect(dialog.locator("#detail-granular")).to_be_hidden()  # it has no hierarchy


def canvas(dialog: Any) -> NDArray[np.uint8]:
    """(h, w, 3) of what was drawn."""
    content = dialog.locator("canvas.layer").evaluate("each => each.toDataURL('image/png')")
    return picture(base64.b64decode(content.partition(",")[2]))


def test_granularity_cuts_as_the_hierarchy_does(page: Any, report: Report) -> None:
    name = "b/cat 2.jpg"
    dialog = detail(page, name)
    dialog.get_by_role("radio", name="Granularity").check()
    hierarchy = report.hierarchies[name]
    start = hierarchy.count(0.5)
    expect(dialog.locator("#step-value")).to_have_text(f"{start} regions")
    expect(dialog.locator("#step-options")).to_have_text(f"--regions {start} or --granularity 0.5")
    slider, counts = dialog.locator("#step"), []
    for step in range(int(slider.get_attribute("max")) + 1):
        slider.fill(str(step))
        counts.append(int(dialog.locator("#step-value").inner_text().split()[0]))
        expect(dialog.locator("#step-options")).to_contain_text(f"--regions {counts[-1]}")
        check_drawing(canvas(dialog), hierarchy.cut_to(counts[-1]), report.details[name]["granularity"])
    assert (counts[0], counts[-1]) == (1, hierarchy.size)
    assert start in counts
    assert all(one < other for one, other in itertools.pairwise(counts))  # nothing of the slider is dead
    assert counts[:10] == [*range(1, 11)]
    assert all(other <= 1.1 * one for one, other in itertools.pairwise(counts[10:]))


def check_drawing(drawn: NDArray[np.uint8], regions: NDArray[np.int32], entry: dict[str, Any]) -> None:
    """Whether each of the regions is in its mean colour, paler, or white, on the line towards the next."""
    assert drawn.shape[:2] == regions.shape
    fragments = np.repeat(unpacked(entry["fragments"], "<u4"), unpacked(entry["runs"], "<u2")).reshape(regions.shape)
    colors = unpacked(entry["colors"], "u1").reshape(-1, 3)[fragments]
    line = np.zeros(regions.shape, dtype=bool)
    line[:, :-1] |= regions[:, 1:] != regions[:, :-1]
    line[:-1] |= regions[1:] != regions[:-1]
    for region in range(regions.max() + 1):
        expected = colors[regions == region].mean(0)
        assert abs(drawn[(regions == region) & ~line] - expected).max(initial=0) <= 1
        on_line = drawn[(regions == region) & line].astype(int)
        assert (on_line >= np.floor(expected)).all()
        assert (on_line.sum(1) > expected.sum() + 20).all()


def test_the_granularity_that_was_chosen_stays_from_image_to_image(page: Any) -> None:
    dialog = detail(page, "b/cat 2.jpg")
    dialog.get_by_role("radio", name="Granularity").check()
    dialog.locator("#step").fill("13")
    expect(dialog.locator("#step-value")).to_have_text("14 regions")
    assert clip(dialog) == "inset(0px 0px 0px 50%)"
    page.get_by_role("button", name="Next image").click()
    expect(page.locator("#detail-name")).to_have_text("b/cat 10.jpg")
    expect(dialog.locator("#step-value")).to_have_text("14 regions")
    expect(dialog.locator("canvas.layer")).to_be_visible()
    page.get_by_role("button", name="Next image").click()
    expect(page.locator("#detail-name")).to_have_text("c/horse.jpg")  # without a hierarchy
    expect(dialog.locator("canvas.layer")).to_be_hidden()
    expect(dialog.get_by_label("Regions", exact=True)).to_be_checked()


def test_names_are_never_markup(opened: Opened, report: Report, tmp_path: Path) -> None:
    hostile = [
        "</script><img src=x onerror=document.title='taken'>.jpg",
        "<b>\"'`&lt;.jpg",
        "{{rows}}${1}\\.jpg",
        os.fsdecode(b"caf\xe9.jpg"),
        "two\nlines\u2028.jpg",
        "\u202egpj.exe",
        "😀 ねこ " + "long" * 60 + ".jpg",
    ]
    expected = [*hostile[:3], "caf\\xe9.jpg", "two\\nlines\\u2028.jpg", "\\u202egpj.exe", hostile[-1]]
    (tmp_path / "report").symlink_to(report.folder / "report")
    rows = [
        Row(name, f"report/{index % 5:016x}", 96, 64, 5, 9, "converged", 1.0, 30) for index, name in enumerate(hostile)
    ]
    failures = [{"path": name, "reason": name} for name in hostile]
    page = opened(write_page(tmp_path, rows, failures, output="/data/<i>x</i>", failed=len(hostile)))
    assert sorted(names(page)) == sorted(expected)
    assert page.locator("h1").text_content() == "i>"
    page.locator("#failures summary").click()
    assert page.locator("#failures tbody td").all_text_contents() == [name for name in expected for _ in range(2)]
    assert page.locator("#failures td *, .name *, h1 *").count() == 0
    card(page, expected[0]).locator(".name").click()
    expect(page.locator("#detail-name")).to_have_text(expected[0])
    expect(page).to_have_title("i> · dynaseg report")
    page.keyboard.press("Escape")
    page.get_by_label("Name", exact=True).fill("\\xe9")
    assert names(page) == ["caf\\xe9.jpg"]


def test_failures_alone(opened: Opened, tmp_path: Path) -> None:
    failures = [{"path": "photos/broken.jpg", "reason": "it is not an image that can be read"}]
    page = opened(write_page(tmp_path, [], failures, images=1, done=0, failed=1))
    expect(page.get_by_text("1 image failed")).to_be_visible()
    assert page.locator("#failures tbody td").all_inner_texts() == list(failures[0].values())
    expect(page.locator("#none")).to_contain_text("No image was segmented.")
    expect(page.locator("#tools")).to_be_hidden()
    expect(page.get_by_role("button", name="Clear the filters")).to_be_hidden()


def test_nothing_at_all_and_an_interrupted_run(opened: Opened, tmp_path: Path) -> None:
    page = opened(write_page(tmp_path, [], images=0, done=0, interrupted=True, shard="2/3"))
    expect(page.locator("#interrupted")).to_be_visible()
    expect(page.locator("#failures")).to_be_hidden()
    expect(page.locator("#totals")).to_contain_text("2/3")


def test_files_of_an_image_that_are_gone_are_said_to_be(opened: Opened, report: Report, tmp_path: Path) -> None:
    there, gone = (Row(f"{key}.jpg", f"report/{key}", 96, 64, 5, 9, "converged", 1.0, 30) for key in ("0" * 16, "dead"))
    (tmp_path / "report").symlink_to(report.folder / "report")
    page = opened(write_page(tmp_path, [there, gone]), missing=True)
    expect(card(page, "dead.jpg")).to_contain_text("The pictures of this image are missing.")
    expect(card(page, there.name).locator(".missing")).to_be_hidden()
    card(page, "dead.jpg").locator(".name").click()
    expect(page.locator("#detail-missing")).to_contain_text("report/dead-details.js is missing")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#clusters tbody tr").first).to_be_visible()
    expect(page.locator("#detail-missing")).to_be_hidden()


def test_where_all_files_are_gone_few_are_asked_for(opened: Opened, tmp_path: Path) -> None:
    rows = [Row(f"{index}.jpg", f"report/{index}", 96, 64, 5, 9, "converged", 1.0, 30) for index in range(400)]
    page = opened(write_page(tmp_path, rows), missing=True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    expect(page.locator("#no-pictures")).to_contain_text("folder report, which has to lie beside this page")
    for _ in range(6):
        page.mouse.wheel(0, 4000)
        page.wait_for_timeout(50)
    assert len(asked) < 2 * 80
    assert len(names(page)) > 80


def test_five_thousand_images(opened: Opened, report: Report, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    rows = []
    for index in range(5000):
        rows.append(
            Row(
                f"trip/IMG_{index}.jpg", f"report/{index:016x}", 96, 64, 3 + index % 50, 9, "converged", index / 100, 30
            )
        )
    for index in range(5000):
        for suffix in ("-photo.webp", "-regions.webp"):
            os.link(report.folder / f"report/{index % 5:016x}{suffix}", tmp_path / f"report/{index:016x}{suffix}")
    page = opened(write_page(tmp_path, rows, images=5000, done=5000))
    expect(page.locator("#count")).to_have_text("5,000 images")
    assert page.locator(".card").count() < 400  # only what is near
    before = page.locator(".card").count()
    page.mouse.wheel(0, 20_000)
    page.wait_for_function(f"document.querySelectorAll('.card').length >= {before + 40}")
    page.get_by_role("combobox", name="Sort by").select_option("seconds")
    page.get_by_role("button", name="Descending").click()
    assert names(page)[0] == "trip/IMG_4999.jpg"
    page.get_by_label("Name", exact=True).fill("IMG_12")
    expect(page.locator("#count")).to_have_text("111 of 5,000 images")
    filters(page)
    page.get_by_label("Labels, at least").fill("52")
    expect(page.locator("#count")).to_have_text(re.compile(r"^\d of 5,000 images$"))


def test_nothing_overflows_a_phone_and_fingers_find_what_they_touch(opened: Opened, report: Report) -> None:
    page = opened(report.folder / "report.html", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    assert overflow(page) == 0
    small = "all => all.filter((each) => each.offsetParent && each.getBoundingClientRect().height < 38)"
    controls = "button, select, input:not([type=radio]), summary, .segments label, .card .name"
    assert page.locator(controls).evaluate_all(f"{small}") == []
    frame = card(page, "a/dog.jpg").locator(".frame")
    frame.tap()
    expect(page.locator("#detail")).to_be_visible()
    expect(page.locator("#clusters tbody tr").first).to_be_visible()
    page.locator("#detail-granular").tap()
    expect(page.locator("canvas.layer:visible")).to_have_count(1)
    assert overflow(page) == 0
    inside = page.locator("#detail").evaluate(
        """dialog => [...dialog.querySelectorAll('*')]
        .filter((each) => each.offsetParent && each.getBoundingClientRect().right > 361)
        .map((each) => each.outerHTML.slice(0, 80))"""
    )
    assert inside == []
    slider = page.locator("#detail .view").get_by_role("slider")
    box = slider.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    assert int(slider.input_value()) in range(15, 36)


@pytest.mark.parametrize("width", [900, 1280])
def test_what_has_the_focus_is_never_behind_the_tools(opened: Opened, tmp_path: Path, width: int) -> None:
    rows = [Row(f"{index}.jpg", f"report/{index}", 96, 64, 9, 5, "converged", 1.0, 30) for index in range(60)]
    page = opened(write_page(tmp_path, rows), missing=True, viewport={"width": width, "height": 700})
    below = "each => each.getBoundingClientRect().top - document.querySelector('#tools').getBoundingClientRect().bottom"
    link = page.get_by_role("link", name="35.jpg")
    link.focus()
    page.evaluate("by => window.scrollBy(0, by)", link.evaluate(below) - 5)
    page.keyboard.press("Shift+Tab")
    slider = card(page, "35.jpg").get_by_role("slider")
    expect(slider).to_be_focused()
    assert slider.evaluate(below) >= 0


@pytest.mark.parametrize("width", [360, 640, 820, 961, 1100, 1280, 1440])
def test_the_table_of_clusters_fits_beside_and_below_the_picture(opened: Opened, report: Report, width: int) -> None:
    page = opened(report.folder / "report.html", viewport={"width": width, "height": 800})
    side = detail(page, "a/dog.jpg").locator(".side")
    assert side.evaluate("each => each.scrollWidth - each.clientWidth") <= 0
    table, around = page.locator("#clusters table").bounding_box(), side.bounding_box()
    assert table["x"] + table["width"] <= around["x"] + around["width"]


def test_what_a_finger_points_at_in_a_chart_stays_to_be_read(opened: Opened, report: Report) -> None:
    page = opened(report.folder / "report.html", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    card(page, "a/dog.jpg").locator(".frame").tap()
    page.get_by_text("How it was fitted").tap()
    charts, legend = page.locator("#charts").get_by_role("img"), page.locator(".legend").first
    charts.first.tap(position={"x": 46, "y": 60})
    expect(legend).to_have_text(re.compile(r"Labels 100.*at iteration 1$"))
    charts.last.tap(position={"x": 46, "y": 60})
    expect(legend).to_have_text(re.compile(r"Labels 42.*at iteration 30$"))


def overflow(page: Any) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_controls_are_legible_in_both_schemes(opened: Opened, report: Report, scheme: str) -> None:
    page = opened(report.folder / "report.html", color_scheme=scheme)
    page.get_by_role("button", name="About this run").click()
    filters(page)
    page.get_by_label("Labels, at least").fill("1")
    dialog = technical(page, "a/dog.jpg")
    dialog.get_by_role("radio", name="Granularity").check()
    dialog.locator("#clusters .pick").first.click()
    dialog.get_by_role("button", name="Copy").first.hover()
    darkness = luminance(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
    assert (darkness < 0.1) == (scheme == "dark")
    found = page.evaluate(
        """() => {
          const behind = (each) => {
            while (getComputedStyle(each).backgroundColor === 'rgba(0, 0, 0, 0)') each = each.parentElement;
            return getComputedStyle(each).backgroundColor;
          };
          const hasText = (each) => [...each.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
          const all = [...document.body.querySelectorAll('*')].filter((each) => !each.closest('script, template'));
          const style = (each, name) => getComputedStyle(each)[name];
          const texts = all.filter((each) => (hasText(each) || each.matches('select, input')) && !each.disabled);
          const bordered = all.filter((each) => each.matches('input:not([type=radio], [type=range]), select, .button'));
          return [
            ...texts.map((each) =>
              [each.outerHTML, 4.5, style(each, each.closest('svg') ? 'fill' : 'color'), behind(each)]),
            ...[...document.querySelectorAll('input')].map((each) =>
              [each.id + ' placeholder', 4.5, getComputedStyle(each, '::placeholder').color, behind(each)]),
            ...bordered.map((each) => [each.outerHTML, 3, style(each, 'borderTopColor'), behind(each.parentElement)]),
            ...all.filter((each) => each.matches('.measure b, .segments input:checked + span')).map((each) =>
              [each.outerHTML, 3, style(each, 'backgroundColor'), behind(each.parentElement)]),
            ...all.filter((each) => each.matches('.curve, .threshold')).map((each) =>
              [each.outerHTML, 3, style(each, 'stroke'), behind(each)]),
          ];
        }"""
    )
    assert len(found) > 150
    for what, least, text, behind in found:
        one, other = sorted((luminance(text), luminance(behind)))
        assert (other + 0.05) / (one + 0.05) >= least, what[:200]  # WCAG 2.2, AA: 1.4.3 and 1.4.11


def luminance(color: str) -> float:
    values = np.array([int(value) for value in re.findall(r"\d+", color)[:3]]) / 255
    linear = np.where(values <= 0.03928, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


# Two folders side by side


@pytest.fixture
def comparison(report: Report, tmp_path: Path) -> Path:
    """A page of two folders, with other labels and regions of the first two images in the second one."""
    rows = []
    for seed, changed in enumerate(OF_ROWS[:2]):
        files, stats, _ = entry_files(f"{seed:016x}", *painted(seed))
        theirs, other_stats, _ = entry_files(f"{seed:016x}", *painted(seed + 50))
        write_entry(tmp_path / "one/report" / f"{seed:016x}", files)
        write_entry(tmp_path / "two/report" / f"{seed:016x}", theirs)
        other = replace(page_row(changed["name"], f"../two/report/{seed:016x}", other_stats), labels=5, regions=99)
        rows.append(replace(page_row(changed["name"], f"report/{seed:016x}", stats, other), **changed))
    path = tmp_path / "one/comparison.html"
    run = RUN | {"output": "/data/one", "compared": {"with": "/data/two", "unpaired": 1}}
    path.write_bytes(b"".join(report_page(rows, [], run)))
    return path


def test_comparison_says_which_side_is_which(opened: Opened, comparison: Path) -> None:
    page = opened(comparison)
    expect(page.locator("#folder")).to_have_text("one | two")
    expect(page.locator("#summary")).to_have_text("one to the left, two to the right; 1 image has no partner")
    told = card(page, "b/cat 2.jpg")
    expect(told.locator(".labels")).to_have_text("12 | 5 labels")
    expect(told.locator(".regions")).to_have_text("8 | 99 regions")
    expect(told.locator("input[type=range]")).to_have_attribute(
        "aria-label", "b/cat 2.jpg: regions in one to the left of the split, regions in two to the right"
    )
    expect(told.locator("input[type=range]")).to_have_attribute("aria-valuetext", "50 % one")


@pytest.mark.parametrize(("key", "layer"), [("1", "regions"), ("2", "labels"), ("3", "overlay")])
def test_comparison_has_the_layer_of_one_folder_on_each_side(
    opened: Opened, comparison: Path, key: str, layer: str
) -> None:
    page = opened(comparison)
    page.keyboard.press(key)
    for seed, changed in enumerate(OF_ROWS[:2]):
        shown = card(page, changed["name"])
        expect(shown.locator("img.photo")).to_have_attribute("src", f"report/{seed:016x}-{layer}.webp")
        expect(shown.locator("img.layer")).to_have_attribute("src", f"../two/report/{seed:016x}-{layer}.webp")
    page.wait_for_function("[...document.querySelectorAll('.card img')].every((each) => each.naturalWidth === 96)")


def test_details_of_a_comparison_are_those_of_the_first_folder(opened: Opened, comparison: Path) -> None:
    page = opened(comparison)
    dialog = detail(page, "b/cat 2.jpg")
    expect(dialog.locator("#overview")).to_have_text(
        re.compile(r"12 \| 5 labels · 8 \| 99 regions · the table is of one$")
    )
    expect(dialog.locator("img.photo")).to_have_attribute("src", re.compile("^report/.*-regions.webp$"))
    expect(dialog.locator("img.layer")).to_have_attribute("src", re.compile("^../two/report/.*-regions.webp$"))
    expect(page.locator("#detail-granular")).to_be_hidden()
    page.get_by_role("button", name="Zoom in").click()
    expect(dialog.locator("img.photo")).to_have_attribute("src", re.compile("^report/.*-regions.webp$"))
