"""A matplotlib figure as inline SVG: colours from the page's style, text as text, the same bytes every time."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from netweight.evidence._numbers import visible

# Stand-ins that the page's style sheet replaces, so that one drawing serves the light and the dark page.
INK, SOFT, LINE, PAPER = "#010101", "#010102", "#010103", "#010104"
SERIES = tuple(f"#0102{n:02x}" for n in range(8))  # the original first, then the artifacts
_VARIABLES = {INK: "ink", SOFT: "soft", LINE: "line", PAPER: "card"} | {c: f"series-{n}" for n, c in enumerate(SERIES)}

_STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "netweight", "text.parse_math": False,
    "font.size": 11.0, "axes.titlesize": 11.0, "axes.labelsize": 11.0, "xtick.labelsize": 10.0, "ytick.labelsize": 10.0,
    "legend.fontsize": 10.0, "legend.frameon": False,
    "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "axes.edgecolor": LINE, "axes.titlelocation": "left",
    "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": SOFT, "ytick.labelcolor": SOFT, "grid.color": LINE,
    "grid.linewidth": 0.6, "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
    "figure.facecolor": "none", "axes.facecolor": "none", "lines.linewidth": 1.5,
}  # fmt: skip


@contextmanager
def drawing() -> Iterator[None]:
    """Draw and write inside this: matplotlib's defaults and our style, whatever the reader's own settings are."""
    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's browser has the glyph
        yield


def axes(width_in: float, height_in: float, *, left_in: float) -> Axes:
    """One plot in a figure of its own, apart from matplotlib's global list; ``left_in`` is kept for ticks and label."""
    drawn = Figure(figsize=(width_in, height_in))
    FigureCanvasSVG(drawn)
    drawn.subplots_adjust(
        left=left_in / width_in, right=1 - 0.14 / width_in, bottom=0.5 / height_in, top=1 - 0.3 / height_in
    )
    return drawn.subplots()


def stacked(width_in: float, heights_in: tuple[float, float], *, left_in: float) -> tuple[Axes, Axes]:
    """Two plots that share what is across, the first above the second."""
    height = sum(heights_in)
    drawn = Figure(figsize=(width_in, height))
    FigureCanvasSVG(drawn)
    drawn.subplots_adjust(
        left=left_in / width_in, right=1 - 0.14 / width_in, bottom=0.5 / height, top=1 - 0.3 / height, hspace=0.12
    )
    above, below = drawn.subplots(2, 1, sharex=True, height_ratios=heights_in)
    return above, below


def inline(plot: Axes, *, name: str, title: str, description: str) -> str:
    """The plot as one ``<svg>`` element for an HTML page: scales to its container, reads aloud as title and description.

    ``name`` (letters, digits, ``-``) keeps the element's ids apart from those of other figures on the page.
    """
    buffer = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    plot.figure.canvas.print_figure(buffer, format="svg", metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = text.replace("xlink:href", "href")
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    text = _own_ids(text, name)
    box = re.search(r'viewBox="([^"]*)"', text)
    label = (
        f'<title id="{name}-title">{html.escape(title)}</title><desc id="{name}-desc">{html.escape(description)}</desc>'
    )
    head = f'<svg viewBox="{box.group(1) if box else ""}" role="img" aria-labelledby="{name}-title {name}-desc">{label}'
    return re.sub(r"\n\s*", "\n", head + text[text.index(">") + 1 :]).strip()


def label(text: str, limit: int = 30) -> str:
    """A name short enough for a plot: the middle gives way."""
    text = " ".join(visible(text).split())
    return text if len(text) <= limit else f"{text[: limit - limit // 2 - 1]}…{text[-(limit // 2) :]}"


def _own_ids(text: str, name: str) -> str:
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m.group(1)}"' if m.group(1) in used else "", text)
    return re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
