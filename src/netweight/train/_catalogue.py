"""The recipes. The first eight are those of arXiv 2605.27616, by its README where code and README differ (nvfp4-forward-rht)."""

from __future__ import annotations

from dataclasses import replace

from netweight.train._qat import Operand, Qat, Reset

STUDY = "arXiv 2605.27616"
PLAIN = Operand()
ROWS_OF_16 = Operand("nvfp4")
SQUARES = Operand("nvfp4-2d")
TURNED = Operand("nvfp4", hadamard=True)
DRAWN = Operand("nvfp4", rounding="stochastic")
DRAWN_TURNED = Operand("nvfp4", rounding="stochastic", hadamard=True)

BASELINE = Qat("baseline", summary="nothing is rounded", source=STUDY)
NVFP4 = Qat(
    "nvfp4",
    *(ROWS_OF_16,) * 6,
    summary="all three products in NVFP4, blocks of 16, to the nearest",
    source=STUDY,
)
FORWARD = Qat(
    "nvfp4-forward",
    ROWS_OF_16,
    ROWS_OF_16,
    summary="only the forward product; gradients from unrounded operands",
    source=STUDY,
)
CHAIN = replace(
    FORWARD,
    name="nvfp4-chain",
    dgrad_w="forward",
    wgrad_x="forward",
    summary="the forward product; gradients from the operands it used",
)
SQUARE_TURNED = Qat(
    "nvfp4-2d-rht",
    ROWS_OF_16,
    SQUARES,
    ROWS_OF_16,
    SQUARES,
    TURNED,
    TURNED,
    summary="as nvfp4, with 16 x 16 blocks for weights and a transform where weights get their gradient",
    source=f"{STUDY}; arXiv 2509.25149",
)
SQUARE_TURNED_DRAWN = replace(
    SQUARE_TURNED,
    name="nvfp4-2d-rht-sr",
    dgrad_g=DRAWN,
    wgrad_g=DRAWN_TURNED,
    summary="as nvfp4-2d-rht, gradients rounded stochastically",
)
ONLY_DRAWN = replace(
    NVFP4,
    name="nvfp4-sr",
    dgrad_g=DRAWN,
    wgrad_g=DRAWN,
    summary="as nvfp4, gradients rounded stochastically",
)
FORWARD_TURNED = replace(
    FORWARD,
    name="nvfp4-forward-rht",
    wgrad_g=Operand(hadamard=True),
    wgrad_x=Operand(hadamard=True),
    summary="as nvfp4-forward; a transform of operands that are not rounded, which cancels",
)


def _ruled(row: Qat, name: str, rule: str, summary: str, source: str) -> Qat:
    changed = {
        role: replace(operand, rule=rule)
        for role, operand in row.operands().items()
        if isinstance(operand, Operand) and operand.format is not None
    }
    return replace(row, name=name, summary=summary, source=source, **changed)


MX = Operand("mxfp4")
FORWARD_MX = Qat(
    "mxfp4-forward",
    MX,
    MX,
    dgrad_w="forward",
    wgrad_x="forward",
    summary="the forward product in MXFP4, blocks of 32; gradients from the operands it used",
    source="OCP MX v1.0",
)
FULL_MX = Qat("mxfp4", *(MX,) * 6, summary="all three products in MXFP4, to the nearest", source="OCP MX v1.0")
MX_TURNED_DRAWN = replace(
    FULL_MX,
    name="mxfp4-rht-sr",
    dgrad_g=replace(MX, rounding="stochastic"),
    wgrad_g=replace(MX, rounding="stochastic", hadamard=True),
    wgrad_x=replace(MX, hadamard=True),
    summary="as mxfp4, gradients rounded stochastically, a transform where weights get their gradient",
)


def _forward(name: str, x: str | None, w: str, summary: str, source: str, g: str | None = None) -> Qat:
    return Qat(
        name, Operand(x), Operand(w), Operand(g), "forward", Operand(g), "forward", summary=summary, source=source
    )


FOUR_OVER_SIX = "arXiv 2512.02010"
LSQ = "arXiv 1902.08153"
ROWS = (
    BASELINE,
    NVFP4,
    FORWARD,
    CHAIN,
    SQUARE_TURNED,
    SQUARE_TURNED_DRAWN,
    ONLY_DRAWN,
    FORWARD_TURNED,
    _ruled(NVFP4, "nvfp4-46", "four-over-six", "as nvfp4, a block's maximum to 6 or 4, what errs less", FOUR_OVER_SIX),
    _ruled(
        SQUARE_TURNED_DRAWN,
        "nvfp4-46-2d-rht-sr",
        "four-over-six",
        "as nvfp4-2d-rht-sr, a block's maximum to 6 or 4, what errs less",
        FOUR_OVER_SIX,
    ),
    FORWARD_MX,
    FULL_MX,
    MX_TURNED_DRAWN,
    replace(
        SQUARE_TURNED_DRAWN,
        name="nvfp4-2d-rht-sr-reset",
        reset=Reset(),
        summary="as nvfp4-2d-rht-sr, oscillating weights put into the middle of their bin",
        source="arXiv 2510.27527",
    ),
    _forward(
        "int8",
        "int8-sym-tensor",
        "int8-sym-channel",
        "8-bit integers forward, one scale per output",
        "arXiv 1712.05877",
    ),
    _forward("fp8", "e4m3-tensor", "e4m3-tensor", "E4M3 forward, E5M2 gradients", "arXiv 2209.05433", "e5m2-tensor"),
    _forward(
        "w4a16",
        None,
        "int4-sym-g32",
        "weights in 4-bit integers, a scale per 32; inputs as they are",
        "arXiv 2306.00978",
    ),
    Qat("lsq-int4", summary="4-bit integers forward, learned scales of weights and inputs", source=LSQ, learned=4),
    Qat("lsq-int8", summary="8-bit integers forward, learned scales of weights and inputs", source=LSQ, learned=8),
)
