"""The page about training runs: complete, self-contained, honest about what is missing, safe with hostile names."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evidence.conftest import against, claim
from evidence.test_report import HOSTILE, Page
from netweight.claim import Claim, Comparison
from netweight.errors import EvidenceError
from netweight.evidence import Gallery, Looked, RunInput, gallery, headings, run_report
from netweight.evidence._overlay import balanced
from netweight.evidence._run_layers import layers, pattern
from netweight.evidence._run_plots import history_plot
from netweight.evidence._run_report import html

ROLES = ("forward_x", "forward_w", "dgrad_g", "wgrad_g", "wgrad_x")
PRIMARY = {
    "auprc": ("fraction", 0.8), "pixel_recall": ("fraction", 0.7), "pixel_f2": ("fraction", 0.72), "patient_dice": ("fraction", 0.75),
    "lesion_recall": ("fraction", 0.9), "false_lesions_per_slice": ("1", 0.4), "pixel_ece": ("fraction", 0.01),
}  # fmt: skip
DATA = {"source": "lgg-mri", "split": "test", "sha256": "d" * 64, "slices": 40, "patients": 11}
N = 40  # patients by the claims: enough for intervals to be trusted
PATIENTS = {"train": ("A", "B", "C"), "validation": ("D",), "test": ("E", "F")}


def training(recipe: str, **more):
    reason = "" if recipe != "baseline" else "the recipe baseline rounds nothing"
    rows = [
        {
            "name": f"blocks.{n}.fc1",
            "kind": "Linear",
            "shape": [192, 64],
            "quantized": recipe != "baseline",
            "reason": reason,
        }
        for n in range(10)
    ]
    rows.append(
        {
            "name": "decoder.up.0",
            "kind": "ConvTranspose2d",
            "shape": [64, 32, 2, 2],
            "quantized": False,
            "reason": "skipped by 'decoder.*'",
        }
    )
    packed = (
        {"reason": "its weights are not rounded"}
        if recipe == "baseline"
        else {"sha256": "e" * 64, "bytes": 500_000, "slices_compared": 8}
    )
    history = {
        "rows": [
            {"epoch": n, "train": 1 / n, "validation": 1.1 / n if n < 4 else 0.4, "rate": 1e-3 if n < 3 else 5e-4}
            for n in range(1, 6)
        ],
        "best": 3,
        "steps": 500,
        "ended": "no better for 2 passes",
    }
    split = {
        "split": "holdout by patient",
        "seed": 2026,
        "sha256": "f" * 64,
        "duplicates": 0,
        "patients": {part: len(names) for part, names in PATIENTS.items()},
        "slices": {"train": 100, "validation": 20, "test": 40},
        "positive": {"train": 30, "validation": 5, "test": 12},
    }
    return {"data": {"source": "lgg-mri", "sha256": "d" * 64, "slices": 160, "size": [128, 128], "phantom": False}, "split": split,
            "history": history, "layers": rows, "packed": packed, "environment": {"cpu": "Some processor"}, "seconds": 200.0,
            "weights_sha256": "c" * 64, "teacher": None} | more  # fmt: skip


def looked(recipe: str) -> Looked:
    rows = () if recipe == "baseline" else tuple(
        {"layer": f"blocks.{n}.fc1", "role": role, "flushed": 0.02 * n, "saturated": 0.01, "error": 0.1 + n / 100} for n in range(10) for role in ROLES
    )  # fmt: skip
    attention = {f"blocks.{n}.attention": 14.0 - n for n in range(10)}
    return Looked(16, rows, attention, 16, {} if recipe == "baseline" else {"share": 0.0344, "threshold": 16.0, "window": 16})  # fmt: skip


def made(name: str, recipe: str, reference: str = "", **more) -> RunInput:
    title = f"swin {recipe}"
    pair = {"comparison": replace(against(-0.02, -0.03, -0.01, None), reference=reference)} if reference else {}
    claims = [
        claim(metric, value, value / 20, unit, title, data=DATA, better="lower" if metric in ("false_lesions_per_slice", "pixel_ece") else "higher",
              n=N, subject_sha256="c" * 64, command=f"netweight train {name}.toml --data DIR --out {name}", **pair)
        for metric, (unit, value) in reversed(PRIMARY.items())
    ]  # fmt: skip
    claims.append(claim("aupro", 0.6, 0.05, "fraction", title, data=DATA, better="higher", n=N, **pair))
    claims += [claim("auprc_ratio", 0.975, 0.01, "1", title, data=DATA, better="higher", n=N)] if reference else []
    table = {"net": {"use": "swin", "size": "500k"}, "qat": {"use": recipe}, "seed": 2026}
    operand = {"format": "nvfp4", "rounding": "nearest", "hadamard": False, "rule": "amax"}
    operands = {role: operand for role in ROLES} | {
        "wgrad_g": operand | {"rounding": "stochastic", "hadamard": True},
        "dgrad_w": "forward",
    }
    given = {"name": name, "title": title, "claims": claims, "test_sha256": DATA["sha256"],
             "reference": reference, "training": training(recipe), "recipe": table, "recipe_toml": "seed = 2026\n",
             "arithmetic": {"summary": f"the row {recipe}", "operands": {} if recipe == "baseline" else operands, "learned": None},
             "weights_bytes": 2_000_000, "patients": PATIENTS, "looked": looked(recipe), "recomputed": 0.8}  # fmt: skip
    return RunInput(**(given | more))


def pictures(*titles: str) -> Gallery:
    masks, said = np.zeros((3, 16, 16), dtype=bool), np.zeros((3, 16, 16), np.float32)
    masks[0, 2:6, 2:6] = said[0, 2:6, 2:5] = 1
    masks[1, 8:12, 8:12] = 1
    said[2, 4:9, 4:9] = 1
    return gallery(
        {t: said for t in titles}, np.full((3, 16, 16, 3), 90, np.uint8), masks, ["s1", "s2", "s3"], ["E", "F", "F"]
    )


@pytest.fixture(scope="module")
def runs() -> list[RunInput]:
    return [made("base", "baseline"), made("fp4", "nvfp4-2d-rht-sr", reference="swin baseline")]


@pytest.fixture(scope="module")
def text(runs) -> str:
    return html(runs, [pictures("swin baseline", "swin nvfp4-2d-rht-sr")])


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def test_the_page_needs_no_network_and_no_script(page: Page, text: str):
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.tags}
    assert all((a.get("src") or "").startswith("data:image/png;base64,") for _, a in page.tags if "src" in a)
    assert all((a.get("href") or "#").startswith("#") for _, a in page.tags)
    assert "http" not in re.sub(r"base64,[^\"]*", "", text) and not re.search(r"url\((?!#)", text)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert len(page.all("h1")) == 1


def test_what_lies_beyond_the_edge_of_a_table_casts_a_shadow_that_scrolling_to_the_end_covers(text: str):
    assert re.search(r"\.scroll \{ background: [^}]* local, [^}]*var\(--shade\)[^}]* scroll,", text)


def test_ids_are_unique_and_references_find_one(page: Page):
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    references = {(a.get("href") or "")[1:] for _, a in page.tags if a.get("href")}
    references |= {word for _, a in page.tags for word in (a.get("aria-labelledby") or "").split()}
    assert references <= set(ids)


def test_the_measures_that_decide_come_first_and_in_their_order(page: Page):
    table = page.text[page.text.index("What it finds") : page.text.index("Other measures")]
    names = ["AUPRC", "AUPRC over the reference's", "recall of pixels", "F2 of pixels", "Dice per patient"]
    names += ["lesions found", "false lesions per slice", "calibration error of pixels"]
    places = [table.index(f" {name} lgg-mri/test") if "error" not in name else table.index(name) for name in names]
    assert places == sorted(places)
    assert "AUPRO" not in table and "AUPRO" in page.text


def test_the_second_run_is_paired_with_the_first(page: Page):
    assert "the reference itself" in page.text and "0.975" in page.text
    assert page.text.count("difference −2.0 points (−3.0 to −1.0)") >= 5
    assert "paired with swin baseline, the reference" in page.text
    assert "against swin baseline (" not in page.text  # the reference need not be named in each cell


def test_what_was_trained_is_said(page: Page):
    for words in (
        "swin 500k, arithmetic nvfp4-2d-rht-sr, seed 2026", "5 passes, best after pass 3; no better for 2 passes; took 3 min 20 s",
        "2 MB in float32, 500 kB packed", "to the bit, on 8 training slices", "There is no packed net: its weights are not rounded",
        "netweight train fp4.toml --data DIR --out fp4", "10 of 11 layers are rounded", "93.8 % of the layers’ weights", "blocks.0–9.fc1",
        "in full precision: skipped by 'decoder.*'", "nvfp4, stochastically, between a random Hadamard transform and its inverse",
        "as the forward product rounded it", "3.44 % of the weights that are rounded oscillate",
    ):  # fmt: skip
        assert words in page.text, words


def test_patients_are_shown_to_be_apart(page: Page):
    assert (
        "✓ No patient is in two parts, and no image (patients: train 3, validation 1, test 2); checked name by name"
        in page.text
    )
    assert "train: A, B, C" in page.text


@pytest.mark.parametrize(
    "change, words",
    [
        ({"patients": PATIENTS | {"test": ("A", "F")}}, "Patients A are in train and in test"),
        ({"patients": PATIENTS | {"test": ("F",)}}, "other numbers of patients than the record"),
        ({"patients": None, "missing": "its slices were not found as they were (gone)"}, "not checked again, because its slices were not found"),
        ({"training": training("baseline", split={**training("baseline")["split"], "duplicates": 3})}, "3 pairs of equal images are in different parts"),
    ],
)  # fmt: skip
def test_a_split_that_is_not_proven_apart_is_not_called_so(change: dict, words: str):
    found = html([made("base", "baseline", **change)])
    assert words in Page(found).text and '<section class="banner good" aria-label="Split' not in found


def test_phantom_data_is_named_before_any_number(runs):
    training_ = {**runs[0].training, "data": {**runs[0].training["data"], "source": "phantom", "phantom": True}}
    both = Page(html([replace(run, training=training_) for run in runs])).text
    assert both.index("Phantom data: the pictures are computed") < both.index("AUPRC")
    mixed = Page(html([runs[0], replace(runs[1], training=training_)])).text
    assert "Phantom data: swin nvfp4-2d-rht-sr: the pictures" in mixed
    assert "Phantom" not in Page(html(runs)).text


def test_every_picture_has_words_and_every_drawing_a_description(page: Page):
    images = page.all("img")
    assert len(images) == 6 and all("lesion" in (a["alt"] or "") for a in images)
    assert any("1 missed (16 pixels)" in (a["alt"] or "") for a in images)
    drawings = page.all("svg")
    assert len(drawings) == 2 + 3 + 1  # training of each, rounding of one, attention
    assert all(a["role"] == "img" and a["aria-labelledby"] for a in drawings) and len(page.all("desc")) == len(drawings)


def test_a_rule_that_no_slice_fits_is_said_in_full(runs):
    shown = replace(pictures("swin baseline"), nothing=(("most missed", "no lesion was missed"),), slices=1)
    assert "No picture of “most missed”: in 1 test slice no lesion was missed." in Page(html(runs, [shown])).text


def test_drawings_tell_in_words_what_they_show(text: str):
    assert "validation loss from 1.1 to 0.4, lowest 0.3667 after pass 3" in text
    assert "forward, inputs: median 9.00 %, most 18.0 % at blocks.9.fc1" in text.replace("\u00a0", " ")
    assert "5 to 14 of at most 16 values in a row" in text
    svg = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert not re.findall(r"#[0-9a-f]{6}\b", svg) and "mathdefault" not in svg


def test_one_run_alone_is_compared_with_nothing():
    text = Page(html([made("base", "baseline")], [pictures("swin baseline")])).text
    assert "not compared" not in text and "reference" not in text[: text.index("All claims")]


def elsewhere(run: RunInput, name: str, sha256: str, times: float) -> list[Claim]:
    """The run's claims as if about other slices, with other values."""
    data = {"source": name, "split": "all", "sha256": sha256}
    keys = ("value", "low", "high")
    return [replace(c, data=data, comparison=None, **{k: getattr(c, k) * times for k in keys}) for c in run.claims]


def test_a_card_is_about_the_run_s_own_test_whatever_was_measured_first(runs):
    other = [replace(c, command="netweight evaluate base --data other") for c in elsewhere(runs[0], "other", "9" * 64, 0.5)]  # fmt: skip
    text = Page(html([replace(runs[0], claims=other + runs[0].claims)])).text
    card = text[: text.index("What it finds")]
    assert "AUPRC 80.0 %" in card and "AUPRC 40.0 %" not in card and "as claimed" not in text
    assert text.index("Test slices of swin baseline. SHA-256 dddd") < text.index("Other slices than the own test of")
    origin = text[text.index("Recipe and command") : text.index("All claims")]
    assert "train base.toml" in origin and "--data other" not in origin
    assert "AUPRC not measured" in Page(html([replace(runs[0], claims=other)])).text


def test_the_reference_is_one_of_those_that_share_the_test_slices(runs):
    alone = made("alone", "int4")
    apart = [replace(c, data=c.data | {"sha256": "9" * 64}) for c in alone.claims]
    text = Page(html([replace(alone, claims=apart, test_sha256="9" * 64), *runs])).text
    assert "paired where test slices are the same: swin nvfp4-2d-rht-sr with swin baseline, swin int4 with none" in text
    assert text[: text.index("What it finds")].count("AUPRC 80.0 %") == 3 and "AUPRC not measured" not in text
    assert "the difference from swin baseline on the same slices" in text
    measures = text[text.index("What it finds") : text.index("Found and missed")]
    alone_, shared = measures.split("lgg-mri/test of swin baseline, swin nvfp4-2d-rht-sr ")
    assert "lgg-mri/test of swin int4 Test slices of swin int4. SHA-256 999999999999. measure swin int4 AUPRC" in alone_
    assert "differences are from swin baseline, the reference. SHA-256 dddddddddddd." in shared
    assert "the reference itself" not in alone_ and "swin int4" not in shared and "not measured" not in measures
    assert "over the reference's lgg-mri/test, higher is better the reference itself 0.975" in shared


def test_a_run_that_could_not_be_paired_is_not_said_to_be(runs):
    lost = replace(made("lost", "int4"), looked=None, patients=None, missing="gone")
    text = Page(html([lost, *runs])).text
    assert "paired where test slices are the same: swin nvfp4-2d-rht-sr with swin baseline, swin int4 with none" in text
    assert "AUPRC 80.0 % " in text and "not compared" in text


def test_runs_that_share_no_test_slices_are_said_to_be_paired_with_none(runs):
    apart = [replace(c, data=c.data | {"sha256": "9" * 64}, comparison=None) for c in runs[1].claims]
    text = Page(html([runs[0], replace(runs[1], claims=apart, test_sha256="9" * 64, reference="")])).text
    assert "not paired, as no two have the same test slices" in text and "Below stands" not in text
    assert "No margin was stated" not in text, "there is no verdict that could need one"


def test_what_was_compared_with_a_run_that_is_not_on_the_page_names_it(runs):
    ratio = replace(runs[1].claims[-1], settings={"run": {"reference": "elsewhere"}})
    pair = replace(against(-0.02, -0.03, -0.01, None), reference="elsewhere")
    claims = [*(replace(c, comparison=pair) for c in runs[1].claims[:-1]), ratio]
    text = Page(html([replace(runs[1], claims=claims, reference="")])).text
    assert "over that of elsewhere" in text and "(−3.0 to −1.0) against elsewhere" in text
    assert "worse" not in text[: text.index("What it finds")], "a card has no room for whom"


def test_a_remark_stands_once_and_names_the_slices_that_it_is_about(runs):
    noted = [replace(c, note=note) for c, note in zip(runs[0].claims, ["few; odd", "few"] * 4, strict=True)]
    other = [replace(c, note="few; dim") for c in elsewhere(runs[0], "other", "9" * 64, 0.5)]
    text = Page(html([replace(runs[0], claims=other + noted)])).text
    shown = text[: text.index("All claims")]
    assert "! few. " in shown and "! on lgg-mri/test: odd." in shown and "! on other/all: dim." in shown
    assert [shown.count(f"{word}.") for word in ("few", "odd", "dim")] == [1, 1, 1]


def test_without_slices_the_page_says_what_is_not_there(runs):
    missing = [
        replace(
            run, patients=None, looked=None, recomputed=None, missing="its slices were not found as they were (gone)"
        )
        for run in runs
    ]
    text = Page(html(missing)).text
    assert (
        "There are no pictures: they need the slices" in text
        and "No pictures, diagnostics and paired differences" in text
    )
    assert "Nothing to show: no layer was rounded, or none could be looked at" in text


def test_predictions_that_differ_from_the_claim_are_pointed_out(runs):
    assert "AUPRC is 0.7500, not 0.8000 as claimed" in Page(html([replace(runs[0], recomputed=0.75)])).text
    assert "as claimed" not in Page(html([replace(runs[0], recomputed=0.8001)])).text


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("rates", "ticks"),
    [
        ([2e-3, 1e-3, 0.0], {"0.002", "0"}),
        ([2e-3, 1e-9], {"0.002", "0"}),
        ([1e-3, 2.5e-4], {"0.001", "0.00025"}),
        ([3e-4], {"0.0003"}),
    ],
)
def test_the_rate_is_drawn_down_to_where_it_ends(rates, ticks):
    rows = [{"epoch": k, "train": 1.0 / k, "validation": 1.1 / k, "rate": rate} for k, rate in enumerate(rates, 1)]
    drawn = history_plot("net", {"rows": rows, "best": 1}, "net")
    assert ticks <= set(re.findall(r">([^<>]+)</text>", drawn))


def test_training_that_failed_at_once_has_no_drawing(runs):
    history = {"rows": [], "best": 0, "steps": 0, "ended": "not finite at step 1, in pass 1: first the loss"}
    text = Page(html([replace(runs[0], training={**runs[0].training, "history": history})])).text
    assert "no pass was finished. not finite at step 1" in text
    card = text[: text.index("What it finds")]
    assert "✕ not trained: these are the weights it began with AUPRC 80.0 %" in card
    assert "0 passes; not finite at step 1" in card


def test_training_that_failed_later_is_said_on_the_card(runs):
    history = {**runs[0].training["history"], "diverged": True}
    text = Page(html([replace(runs[0], training={**runs[0].training, "history": history}), runs[1]])).text
    assert text.count("✕ training diverged: these are the weights of pass 3 AUPRC") == 1
    assert "✕ " not in Page(html(runs)).text, "neither of the others failed"


def of_few(runs: list[RunInput], n: int = 3) -> list[RunInput]:
    """The same runs as the evaluation leaves them where it has few patients."""
    few = f"only {n} patients: bootstrap intervals from fewer than 30 are usually too narrow"
    note = f"{few}; difference: {few}; difference: nothing is known of patients unlike these"
    return [replace(run, claims=[replace(c, n=n, note=note) for c in run.claims]) for run in runs]


def test_that_patients_are_few_stands_above_the_measures_once(runs):
    text = Page(html(of_few(runs))).text
    page = text[: text.index("All claims, and")]
    warning = "! Only 3 patients: bootstrap intervals from fewer than 30 are usually too narrow."
    assert page.count("too narrow") == 1 and page.index(warning) < page.index("measure swin baseline")
    assert "Only" not in Page(html(runs)).text, "40 are not few"


def test_a_verdict_of_few_patients_is_neutral_and_says_so_beside_it(runs):
    few, many = html(of_few(runs)), html(runs)
    assert '<span class="badge warn">! worse</span>' in many and "only 40" not in many
    assert '<span class="badge plain">worse</span> <strong class="warn">! only 3 patients</strong>' in few
    assert 'class="verdict warn"' in many and 'class="verdict warn"' not in few and 'class="verdict plain"' in few


def test_few_patients_do_not_soften_a_verdict_that_its_interval_contradicts(runs):
    pair = replace(against(-0.02, -0.03, -0.01, 0.005, "non-inferior"), reference="swin baseline")
    wrong = replace(runs[1], claims=[replace(c, n=3, comparison=c.comparison and pair) for c in runs[1].claims])
    assert 'class="badge bad"' in html([runs[0], wrong])


def test_a_remark_about_a_difference_is_the_same_remark(runs):
    text = Page(html(of_few(runs))).text
    page = text[: text.index("All claims, and")]
    assert "difference: " not in page
    assert page.count("where an interval has no width, all patients are alike: nothing is known of patients unlike these.") == 1  # fmt: skip
    assert page.count("nothing is known") == 1


def test_a_margin_that_nobody_stated_is_said_once_for_all_cells(page: Page):
    shown = page.text[: page.text.index("All claims, and")]
    assert shown.count("No margin was stated beforehand") == 1 and "no margin stated" not in shown
    assert shown.index("No margin was stated") < shown.index("measure swin baseline")
    assert "(−3.0 to −1.0) ! worse" in shown


def test_a_card_shows_how_large_the_difference_is(page: Page):
    cards = page.text[: page.text.index("What it finds")]
    assert cards.count("difference −2.0 points (−3.0 to −1.0) ! worse") == 1, "the reference has none"


def test_values_of_a_row_have_equally_many_decimals(runs):
    wide = [replace(c, low=c.value / 2, high=c.value * 1.2) for c in runs[1].claims]
    text = Page(html([runs[0], replace(runs[1], claims=wide)])).text
    row = text[text.index("lesions found") : text.index("false lesions per slice")]
    shown = re.findall(r"[\d.]+(?=\u00a0%| to |\u00a0points)", row.replace("95\u00a0%", ""))
    assert {len(number.partition(".")[2]) for number in shown} == {1}, row


def test_on_a_narrow_screen_each_cell_stands_alone_under_the_name_of_its_run(page: Page, text: str):
    cells = [a for a in page.all("td") if "data-subject" in a]
    assert {a["data-subject"] for a in cells} == {"swin baseline", "swin nvfp4-2d-rht-sr"}
    narrow = text[text.index("@media (max-width: 640px)") :]
    assert ".verdicts td { display: block; }" in narrow and "content: attr(data-subject)" in narrow
    assert {a["role"] for a in cells} == {"cell"}, "what is displayed as a block is still read as a table"
    assert "data-subject=" not in html([made("base", "baseline")]), "one run alone needs no name in each cell"


@pytest.mark.parametrize(
    ("count", "most", "columns"), [(1, 6, 1), (2, 6, 2), (5, 6, 5), (6, 6, 6), (7, 6, 4), (11, 6, 6), (4, 3, 2), (5, 3, 3), (0, 6, 0)]
)  # fmt: skip
def test_columns_are_chosen_so_that_rows_fill_evenly(count: int, most: int, columns: int):
    assert balanced(count, most) == columns


def test_five_pictures_of_one_slice_stand_in_one_row(runs):
    titles = [f"run {n}" for n in range(5)]
    assert 'class="pictures" style="--wide: 5; --medium: 3"' in html(runs, [pictures(*titles)])


def test_a_note_that_is_about_several_runs_stands_once(runs):
    text = Page(html([replace(run, looked=None, missing="gone") for run in runs])).text
    assert (
        text.count("swin baseline, swin nvfp4-2d-rht-sr: No pictures, diagnostics and paired differences: gone.") == 1
    )
    assert text.count("No pictures, diagnostics") == 1


def test_the_claims_of_all_runs_have_a_heading_of_their_own(text: str):
    assert "<h2>All claims, and how to measure each again</h2>" in text.replace(' id="claims"', "")
    assert "<summary>17 claims of 2 runs</summary>" in text


def test_one_pass_is_no_passes(runs):
    history = {**runs[0].training["history"], "rows": runs[0].training["history"]["rows"][:1], "best": 1}
    text = html([replace(runs[0], training={**runs[0].training, "history": history})])
    assert "1 pass, best after pass 1" in text and "1 pass. Training loss" in text and "1 passes" not in text


def test_layers_whose_names_differ_in_numbers_share_a_row(runs):
    assert [(g.pattern, g.count, g.quantized) for g in layers(runs[1:], ["x"])[0].groups] == [
        ("blocks.0–9.fc1", 10, True),
        ("decoder.up.0", 1, False),
    ]
    assert pattern(["a.1.b.0", "a.10.b.0", "a.2.b.0"]) == "a.1–10.b.0"


def test_hostile_text_is_shown_and_not_obeyed(runs):
    bad = made(
        HOSTILE,
        HOSTILE,
        title=HOSTILE,
        recipe_toml=HOSTILE,
        missing=HOSTILE,
        patients=PATIENTS | {"test": (HOSTILE, "F")},
    )
    bad = replace(
        bad,
        claims=[
            replace(c, subject=HOSTILE, command=HOSTILE, comparison=Comparison(HOSTILE, 0, -1, 1)) for c in bad.claims
        ],
    )
    bad.training["history"]["ended"] = HOSTILE
    bad.training["data"]["source"] = HOSTILE
    shown = pictures(HOSTILE)
    shown = replace(
        shown, pictures=tuple(replace(p, name=HOSTILE, patient=HOSTILE, why=HOSTILE) for p in shown.pictures)
    )
    text = html([bad, runs[0]], [shown])
    found = Page(text)
    assert "script" not in {tag for tag, _ in found.tags} and not [
        a for _, attributes in found.tags for a in attributes if a == "onerror"
    ]
    assert all((a["src"] or "").startswith("data:image/png") for a in found.all("img"))
    assert "\u202e" not in text and "\x07" not in text


def test_the_same_evidence_gives_the_same_bytes(runs, text: str, tmp_path: Path):
    both = [pictures("swin baseline", "swin nvfp4-2d-rht-sr")]
    assert run_report(runs, both, tmp_path / "a.html").read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["a.html"]
    assert len(text.encode()) < 400_000


def test_no_run_two_of_one_name_and_no_folder_are_refused(runs, tmp_path: Path):
    with pytest.raises(EvidenceError, match="at least one run"):
        run_report([], [], tmp_path / "x.html")
    with pytest.raises(EvidenceError, match="two runs are named 'base'"):
        run_report([runs[0], runs[0]], [], tmp_path / "x.html")
    with pytest.raises(EvidenceError, match="does not exist"):
        run_report(runs, [], tmp_path / "nowhere" / "x.html")


def test_titles_that_are_equal_are_told_apart_by_name():
    assert headings([("a", "swin"), ("b", "swin"), ("c", "")]) == ("swin (a)", "swin (b)", "c")


def test_the_page_is_made_without_torch():
    code = "import sys, netweight.evidence; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
