"""Renders the results of a GPU run as Markdown for benchmark/README.md. Figures that were not measured are dashes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dynaseg_cli.evaluation.headings import HEADINGS, written

CPU = "cpu"
"""Used like the name of a step for the labels that `gpu_score` makes on the CPU."""
WORDS = {
    "default": "defaults, one worker",
    "workers-2": "defaults, two workers",
    "workers-4": "defaults, four workers",
    "workers-8": "defaults, eight workers",
    "mixed": "defaults, photos of mixed sizes",
    "paper-scf": "scf at full size, no early stop",
    "paper-fsf": "fsf at full size, no early stop",
    "paper-literal": "`--preset paper`",
    CPU: "defaults, on a CPU",
}
"""Names of the steps of ``.ci/gpu`` in the tables."""
DASH = "-"
STEPS_OF_A_PHOTO = {
    "decode": "decoding",
    "silhouette": "silhouette phase",
    "fit": "fit",
    "label": "labelling",
    "merge": "merging into a hierarchy",
    "tidy": "cutting and tidying",
    "statistics": "statistics",
    "write": "encoding and writing",
}

Table = Sequence[Sequence[str]]


def markdown(table: Table) -> str:
    """A table whose first row is its head; the first column is of words, the others of numbers."""
    lines = ["| " + " | ".join(cell or DASH for cell in row) + " |" for row in table]
    lines.insert(1, "| " + " | ".join(["---", *["---:"] * (len(table[0]) - 1)]) + " |")
    return "\n".join(lines) + "\n"


def number(value: float | None, digits: int = 3) -> str:
    """Format with `digits` significant digits; whole numbers in full, None as a dash."""
    if value is None:
        return DASH
    if value == round(value) or abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def yes_or_no(value: bool | None) -> str:
    return DASH if value is None else "yes" if value else "no"


def describe_machine(found: Mapping[str, Any]) -> str:
    """A sentence with the machine, the versions and the date."""
    versions = found.get("versions", {})
    named = [f"{name} {version}" for name, version in versions.items() if version is not None]
    machine = [
        found.get("card") or found.get("cpu") or "an unknown machine",
        *([f"{found['memory_gib']} GiB"] if "memory_gib" in found else []),
        *([f"driver {found['driver']}"] if found.get("driver") else []),
    ]
    return f"Measured on {', '.join(machine)}; {', '.join(named) or 'versions unknown'}; {found.get('date', DASH)}.\n"


def render(results: Mapping[str, Any]) -> str:
    """All tables as Markdown."""
    parts = [describe_machine(results["environment"]), "Milliseconds an iteration, by the size of the image:\n"]
    sizes = list(dict.fromkeys(size for loop in results["iterations"] for size in loop["ms"]))
    head = ["loop", *sizes, "fused kernels", "CUDA graph"]
    rows = []
    for loop in results["iterations"]:
        milliseconds = [number(loop["ms"].get(size)) for size in sizes]
        rows.append([loop["loop"], *milliseconds, yes_or_no(loop["fused"]), yes_or_no(loop["captured"])])
    parts.append(markdown([head, *(rows or [[DASH] * len(head)])]))
    parts += ["`dynaseg segment` from disk to disk; iterations, fit and labels are medians:\n", render_steps(results)]
    parts += ["Milliseconds of a photo with the defaults, one at a time:\n", render_photo(results["profile"])]
    parts += ["An iteration at full size in bfloat16, and what the device can do:\n", render_profile(results)]
    parts += ["Every photo that was labelled and has a ground truth:\n", render_quality(results["quality"])]
    for pair in results["pairs"]:
        parts += render_pair(pair)
    return "\n".join(parts)


def render_steps(results: Mapping[str, Any]) -> str:
    head = [
        "run",
        "workers",
        "images",
        "images/s",
        "device busy %",
        "iterations",
        "fit s",
        "ms/iteration",
        "labels",
        "fused",
        "captured",
    ]
    rows = []
    for name in (name for name in WORDS if name != CPU):
        step = results["steps"].get(name, {})
        keys = ("workers", "images", "images_per_second", "busy_percent", "iterations", "fit_seconds")
        more = ("ms_per_iteration", "labels", "fused", "captured")
        rows.append([WORDS[name], *(number(step.get(key)) for key in (*keys, *more))])
    return markdown([head, *rows])


def render_photo(profile: Mapping[str, Any]) -> str:
    """What each step of a photo takes of the host's time and of the device's."""
    host, device, silhouettes = (profile.get(part, {}) for part in ("host_ms", "device_ms", "silhouettes"))
    rows = [[words, number(host.get(key)), number(device.get(key))] for key, words in STEPS_OF_A_PHOTO.items()]
    rows.append(["all", number(sum(host.values()) if host else None), DASH])
    rows.append(["replays of an iteration", DASH, number(device.get("replays"))])
    rows.append(["kernels of one", DASH, number(device.get("kernels_per_iteration"))])
    share, photos, *milliseconds = (silhouettes.get(key) for key in ("same", "photos", "device_ms", "cpu_ms"))
    said = (
        f"\nThe silhouette phase finds the same k on the device as on the CPU in"
        f" {DASH if share is None else f'{share:.1%}'} of {number(photos)} photos, in"
        f" {' and '.join(map(number, milliseconds))} ms.\n"
    )
    return markdown([["step", "host", "device"], *rows]) + said


def render_profile(results: Mapping[str, Any]) -> str:
    profile = results["profile"]
    fit, convolution, ceilings = (profile.get(part, {}) for part in ("fit", "convolution", "ceilings"))
    return markdown(
        [
            ["what", "measured"],
            ["wall time of an iteration, ms", number(fit.get("ms_per_iteration"))],
            ["device time of an iteration, ms", number(fit.get("device_ms_per_iteration"))],
            ["kernels an iteration", number(fit.get("kernels_per_iteration"))],
            *(
                [f"gradient of a convolution's {of}, {kind} algorithm, ms", number(convolution.get(key))]
                for of, kind, key in (
                    ("weights", "deterministic", "weight_gradient_deterministic_ms"),
                    ("weights", "any", "weight_gradient_any_ms"),
                    ("input", "deterministic", "input_gradient_deterministic_ms"),
                    ("input", "any", "input_gradient_any_ms"),
                )
            ),
            ["copying, TB/s read and written", number(ceilings.get("copy_terabytes_per_second"))],
            ["bfloat16 matrix product, TFLOP/s", number(ceilings.get("bfloat16_teraflops"))],
        ]
    )


def render_quality(quality: Mapping[str, Any]) -> str:
    metrics = [name for name in HEADINGS if any(name in step["metrics"] for step in quality.values())]
    rows = [["labels by", "photos", *(HEADINGS[name] for name in metrics)]]
    for step, words in WORDS.items():
        scored = quality.get(step, {"images": None, "metrics": {}})
        cells = [written(name, scored["metrics"].get(name)) for name in metrics]
        rows.append([words, number(scored["images"]), *cells])
    return markdown(rows)


def render_pair(pair: Mapping[str, Any]) -> list[str]:
    """The scores of two steps on the same photos, and their differences."""
    metrics = [name for name in HEADINGS if name in pair["differences"] and name != "ignored_fraction"]
    rows = [["labels by", *(HEADINGS[name] for name in metrics), "mean labels"]]
    for step, scores, labels in zip(pair["steps"], pair["metrics"], pair["mean_labels"], strict=True):
        rows.append([WORDS[step], *(written(name, scores.get(name)) for name in metrics), number(labels)])
    differences = [pair["differences"][name] for name in metrics]
    rows.append(
        ["mean difference of a photo", *(number(one["mean"], 2) for one in differences), DASH],
    )
    rows.append(["its standard error", *(number(one["standard_error"], 2) for one in differences), DASH])
    share = pair["same_silhouette"]
    said = (
        f"The same {pair['images']} photos, {pair['scored']} of them scored; the silhouette phase found the same k in"
    )
    return [f"{said} {DASH if share is None else f'{share:.1%}'} of them:\n", markdown(rows)]
