"""The report page: complete, self-contained, safe with hostile names, the same bytes every time."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest

from netweight.claim import Claim
from netweight.errors import EvidenceError
from netweight.evidence._input import ReportInput
from netweight.evidence._page import artifacts
from netweight.evidence._report import html, report
from netweight.ledger import Ledger, Row

VOID = {"meta", "br", "link", "img", "input", "hr"}
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=y> {{ 7*7 }} $\\frac{a}{b}$ [red] | & \u202egpj.exe \x07"


class Page(HTMLParser):
    """Collects tags, attributes and visible text; fails on tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).replace("\u00a0", " ").split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def text(full: list[ReportInput]) -> str:
    return html(full)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_the_page_is_well_nested_and_has_a_viewport_a_language_and_one_heading(page: Page):
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1


def test_the_page_needs_no_network_and_no_script(page: Page, text: str):
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")], tag
        assert all((attributes.get(name) or "#").startswith("#") for name in ("href", "xlink:href")), tag
    assert "http" not in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_the_same_evidence_gives_the_same_bytes(two_artifacts: list[ReportInput], tmp_path: Path):
    first = report(two_artifacts, tmp_path / "a.html").read_bytes()
    assert report(two_artifacts, tmp_path / "b.html").read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_a_readers_own_matplotlib_settings_do_not_change_the_page(two_artifacts: list[ReportInput]):
    import matplotlib

    plain = html(two_artifacts)
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": False, "svg.hashsalt": None}):
        assert html(two_artifacts) == plain


def test_no_date_is_written(two_artifacts: list[ReportInput]):
    dated = [replace(i, run=i.run | {"started": "2031-05-06T07:08:09"}) for i in two_artifacts]
    assert not re.search(r"\b20\d\d-\d\d-\d\d", html(dated))


def test_every_id_is_unique_and_every_reference_finds_one(page: Page):
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    references = {(a.get("href") or "")[1:] for _, a in page.tags if a.get("href")}
    references |= {word for _, a in page.tags for word in (a.get("aria-labelledby") or "").split()}
    references |= {m for _, a in page.tags for v in a.values() for m in re.findall(r"url\(#([^)]+)\)", v or "")}
    assert references <= set(ids)


def test_every_claim_is_on_the_page_with_its_command(page: Page, full: list[ReportInput]):
    claims = {claim for i in full for claim in (c.to_json() for c in i.claims)}
    assert len([a for a in page.all("details") if (a.get("id") or "").startswith("claim-")]) == len(claims)
    for i in full:
        for claim in i.claims:
            assert claim.command in page.text
            assert claim.subject_sha256 in page.text
            if claim.value is not None:
                assert f"exact value {claim.value!r}" in page.text


def test_what_is_unavailable_is_said_and_never_a_zero(page: Page):
    assert "unavailable: no energy counter on this machine" in page.text
    assert not re.search(r"energy[^.]{0,40}\b0 J", page.text)


def test_an_input_with_nothing_in_it_says_that_nothing_is_known():
    empty = Page(html([ReportInput("bare", "", [], Ledger(), {}, "")])).text
    for words in (
        "No claims: nothing was measured", "The ledger is empty", "No recipe is recorded", "No environment is recorded",
        "calibration data of bare is not recorded", "Not recorded: nothing shows that the files compute", "not compared",
        "No error was recorded for any layer", "unavailable: not in the manifest",
    ):  # fmt: skip
        assert words in empty
    assert not re.search(r"\b0(\.0+)? ?(MB|bytes|bits|%)", empty)


def test_hostile_text_is_shown_and_not_obeyed(two_artifacts: list[ReportInput]):
    first, second = two_artifacts
    claims = [replace(claim, subject=HOSTILE) if claim.subject == first.name else claim for claim in first.claims]
    claims += [
        replace(claims[7], metric=HOSTILE, unit=HOSTILE, note=HOSTILE, command=HOSTILE, settings={HOSTILE: HOSTILE})
    ]
    claims += [replace(claims[-2], metric="other", note=HOSTILE, data={"source": HOSTILE, "sha256": HOSTILE})]
    overlap = [{"calibration": HOSTILE, "test": HOSTILE, "shared": 1, "examples": [HOSTILE]}]
    changed = replace(
        first, name=HOSTILE, title=HOSTILE, claims=claims, ledger=Ledger((*first.ledger, hostile_row())), recipe_toml=HOSTILE,
        overlap=overlap, manifest=first.manifest | {"formats": {HOSTILE: 1}, "parity": {"layers": HOSTILE, "end": HOSTILE}},
    )  # fmt: skip
    bare = replace(first, claims=[], manifest=first.manifest | {"model": {"name": HOSTILE, "sha256": HOSTILE}})
    for text in (html([changed, second]), html([bare])):
        found = Page(text)
        assert not {"script", "img"} & {tag for tag, _ in found.tags}
        assert not [a for _, attributes in found.tags for a in attributes if a in ("src", "onerror")]
        assert "{{ 7*7 }}" in text  # shown, not computed
        assert "\u202e" not in text
        assert "\x07" not in text
        assert "\\u202e" in found.text


def hostile_row() -> Row:
    return Row(f"model.layers.3.{HOSTILE}", HOSTILE, (4, 4), "quantized", HOSTILE, (HOSTILE,), 32, 8, 0.1, 0.1, 9,
               reason=HOSTILE, notes=(HOSTILE,), fallback=True)  # fmt: skip


def test_the_first_screen_says_that_calibration_and_test_are_disjoint(page: Page):
    before_table = page.text[: page.text.index("size on disk")]
    assert "Calibration and test text share no 13-grams (3 pairs of texts checked)" in before_table


def test_an_overlap_is_a_warning_before_the_verdict_table(overlapping: list[ReportInput]):
    text = html(overlapping)
    banner = text.index("Test text was seen in calibration: pydoc-topics/test shares 118 13-grams (0.29\u00a0%)")
    assert banner < text.index('<table class="verdicts"')
    assert '<section class="banner bad"' in text
    assert "operator precedence in python" in text


def test_fallbacks_are_marked_and_their_notes_shown_outside_the_full_ledger(text: str):
    assert text.count('<tr class="fallback">') == 2 * 2  # in the short list and in the full ledger
    assert text.index("damping raised from 0.01 to 0.1") < text.index("Full ledger of 3 bits")


def test_every_layer_of_the_ledger_is_listed(page: Page, full: list[ReportInput]):
    for row in full[0].ledger:
        assert page.text.count(f" {row.module} {row.kind} ") >= 2  # once per artifact


def test_every_drawing_has_a_title_and_a_description_and_adapts_its_width(page: Page):
    drawings = page.all("svg")
    assert len(drawings) == 4 + 7  # quality metrics, layer kinds
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert drawing["aria-labelledby"]
        assert "viewbox" in drawing
        assert "width" not in drawing
    assert len(page.all("desc")) == len(drawings)


def test_a_drawing_takes_its_colours_from_the_page(text: str):
    svg = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "var(--series-1)" in svg
    assert not re.findall(r"#[0-9a-f]{6}\b", svg)


def test_every_table_has_header_cells_with_scope(page: Page):
    assert page.all("th")
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))


def test_every_table_scrolls_inside_its_own_region(page: Page):
    regions = [a for a in page.all("div") if a.get("class") == "scroll"]
    assert len(regions) == len(page.all("table"))
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in regions)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_stands_out_from_its_background(mode: str):
    css = (resources.files("netweight.evidence") / "templates" / "report.css").read_text()
    light, dark = css.split("@media (prefers-color-scheme: dark)")
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", light if mode == "light" else dark))
    for ink, back in [("ink", "paper"), ("ink", "card"), ("ink", "head"), ("soft", "paper"), ("soft", "card"), ("soft", "head"),
                      ("accent", "paper"), ("accent", "card"), ("soft", "warn-back"), ("ink", "warn-back"),
                      *((tone, f"{tone}-back") for tone in ("good", "bad", "warn")),
                      *((tone, "card") for tone in ("good", "bad", "warn"))]:  # fmt: skip
        assert contrast(colours[ink], colours[back]) >= 4.5, f"{ink} on {back}"  # WCAG 2.2, level AA, body text
    for number in range(8):
        assert contrast(colours[f"series-{number}"], colours["card"]) >= 3  # WCAG 2.2, graphical objects


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_page_of_a_ledger_of_300_rows_stays_below_500_kB(full: list[ReportInput]):
    first = full[0]
    rows = (*first.ledger, *(replace(row, module=row.module.replace("layers.", "layers.3")) for row in first.ledger))[
        :300
    ]
    assert len(html([replace(first, ledger=Ledger(rows))]).encode()) < 500_000


def test_a_model_without_numbered_blocks_has_its_errors_drawn_in_the_models_order(two_artifacts: list[ReportInput]):
    names = ["conv1", "layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1", "fc"]
    rows = tuple(
        Row(n, "conv2d", (16, 144), "quantized", "int4-g16", ("rtn",), 4608, 1440, 0.1, None, 0) for n in names
    )
    found = Page(html([replace(two_artifacts[0], ledger=Ledger(rows))]))
    assert "layer, in the model's order" in found.text
    assert "output error not measured" not in found.text
    assert found.text.count("not measured") >= len(names)  # output errors: absent, not zero


@pytest.mark.parametrize("formats", [{"nvfp4": 6}, {f"layer{n}": "nvfp4" for n in range(6)}])
def test_formats_are_counted_whichever_way_the_manifest_lists_them(two_artifacts: list[ReportInput], formats: dict):
    first = two_artifacts[0]
    found = artifacts([replace(first, manifest=first.manifest | {"formats": formats})])
    assert dict(found[0].facts)["formats"] == "nvfp4 6 layers"


def test_artifacts_of_different_originals_are_refused(two_artifacts: list[ReportInput]):
    first, second = two_artifacts
    other = replace(second, manifest=second.manifest | {"model": {"name": "other", "sha256": "f" * 64}})
    with pytest.raises(EvidenceError, match="different originals"):
        html([first, other])


def test_no_artifact_or_two_of_one_name_are_refused(two_artifacts: list[ReportInput], tmp_path: Path):
    with pytest.raises(EvidenceError, match="at least one"):
        html([])
    with pytest.raises(EvidenceError, match="two artifacts are named 'smollm2-nvfp4'"):
        html([two_artifacts[0], two_artifacts[0]])
    with pytest.raises(EvidenceError, match="does not exist"):
        report(two_artifacts, tmp_path / "missing" / "report.html")


def test_a_claim_measured_twice_with_different_values_is_pointed_out(two_artifacts: list[ReportInput]):
    first = two_artifacts[0]
    again: Claim = replace(first.claims[4], value=0.05)
    text = Page(html([replace(first, claims=[*first.claims, again])])).text
    assert "first of 2 differing measurements, see all claims" in text
