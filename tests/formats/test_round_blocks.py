"""round_blocks: the codec's own values along any axis, the compiled form equal to the plain one, draws that keep the mean."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from formats.rounding_cases import LAYOUTS, SCALED, SIGNS, inputs_of, options_of, random, reference, same_bits
from netweight import formats, native
from netweight.errors import FormatError, UnknownName
from netweight.formats import _round, _round_native, _round_reference
from netweight.formats._layout import layout
from oracles import number_formats

NAMES = ("nvfp4", "nvfp4-2d", "mxfp4", "int8-sym-g32", "int4-sym-channel", "int8-sym-tensor", "e4m3-tensor", "e5m2-g64")
LEVELS = native.levels() if native.missing() is None else ()


@pytest.mark.parametrize(
    ("name", "scale"),
    [(name, scale) for name in NAMES for scale in (1.0, 1e-3)]
    + [
        (name, scale) for name in NAMES if not name.startswith("int") for scale in (1e-36, 1e30)
    ],  # integers: float16 scales
)
def test_values_are_the_codecs_own(name, scale):
    x = random(64, 256) * scale
    got = formats.round_blocks(x, name, axis=(0, 1) if name == "nvfp4-2d" else 1)
    assert same_bits(got, formats.quantize(x, formats.get(name)).decode())


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4-2d", "mxfp4"])
def test_short_last_blocks_have_scales_of_their_own(name):
    x = random(37, 75, seed=1)
    got = formats.round_blocks(x, name, axis=(0, 1) if name == "nvfp4-2d" else 1)
    want = number_formats.quantized(f"{name}-ragged", x.numpy())
    np.testing.assert_array_equal(got.numpy(), want)


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4", "int8-sym-g32", "e4m3-g64"])
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
@pytest.mark.parametrize("memory", ["contiguous", "channels_last", "reversed", "every other"])
def test_any_axis_of_any_layout_gives_what_its_lines_give_one_by_one(name, axis, memory):
    x = random(3, 34, 5, 6, seed=2)
    if memory == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif memory == "reversed":
        x = x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    elif memory == "every other":
        x = random(3, 34, 5, 12, seed=2)[..., ::2]
    got = formats.round_blocks(x, name, axis=axis)
    lines = x.movedim(axis, -1).reshape(-1, x.shape[axis])
    want = number_formats.quantized(f"{name}-ragged", lines.numpy())
    np.testing.assert_array_equal(got.movedim(axis, -1).reshape(lines.shape).numpy(), want)
    assert got.shape == x.shape and (memory == "every other" or got.stride() == x.stride())


def test_squares_of_a_convolutions_weight_lie_over_outputs_and_inputs_at_each_tap():
    w = random(33, 20, 3, 3, seed=3)
    got = formats.round_blocks(w, "nvfp4-2d", axis=(0, 1))
    top = w.abs().max()  # one tensor scale for all taps
    for y, x in itertools.product(range(3), range(3)):
        tap = w[:, :, y, x].clone()
        wide = torch.zeros(64, 48)  # a square of its own carries the tensor's maximum
        wide[:33, :20], wide[63, 47] = tap, top
        want = formats.quantize(wide, formats.get("nvfp4-2d")).decode()[:33, :20]
        assert torch.equal(got[:, :, y, x], want)


TIES = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0, 0.0, -0.25, -0.75, -5.0, 0.26, 4.9, 5.1, -1.3]
TIED = [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 6.0, 0.0, 0.0, -1.0, -4.0, 0.5, 4.0, 6.0, -1.5]


@pytest.mark.parametrize(("name", "shape"), [("nvfp4", (1, 16)), ("nvfp4-2d", (16, 16)), ("mxfp4", (1, 32))])
def test_ties_take_the_even_code(name, shape):
    """The tensor's maximum is 448 * 6 in a block of its own, so that S is 1 and the block of ties has scale 1."""
    rows, columns = shape
    x = torch.zeros(rows, 2 * columns)
    x[0, :16] = torch.tensor(TIES)
    x[0, columns] = 2688.0
    got = formats.round_blocks(x, name, axis=(0, 1) if rows > 1 else 1)
    assert got[0, :16].tolist() == TIED


def test_a_block_of_zeros_is_zero_and_the_largest_value_survives():
    x = random(4, 64)
    x[1, 16:32] = 0
    x[2, 5] = 100.0
    got = formats.round_blocks(x, "nvfp4", axis=1)
    assert (got[1, 16:32] == 0).all()
    assert got[2, 5].item() == pytest.approx(100.0, rel=2**-22)  # its scale is 448: what is left are float32 roundings
    assert torch.equal(formats.round_blocks(torch.zeros(3, 20), "nvfp4", axis=1), torch.zeros(3, 20))


def test_an_even_block_is_not_exact_in_general():
    x = torch.full((1, 32), 1.1)
    x[0, 0] = 6.0
    got = formats.round_blocks(x, "nvfp4", axis=1)[
        0, 16:
    ]  # S is 448: 1.1 * 448 / 6 = 82.1 becomes 80, and 6 its largest
    np.testing.assert_allclose(got, 6 * 80 / 448, rtol=2**-22)


def test_squares_transpose_and_rows_do_not():
    w = random(48, 80, seed=4)
    squares = formats.round_blocks(w, "nvfp4-2d", axis=(0, 1))
    turned = formats.round_blocks(w.T.contiguous(), "nvfp4-2d", axis=(0, 1))
    assert torch.equal(turned, squares.T)
    rows = formats.round_blocks(w, "nvfp4", axis=1)
    assert not torch.equal(formats.round_blocks(w.T.contiguous(), "nvfp4", axis=1), rows.T)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("shape", "axis"), LAYOUTS)
@pytest.mark.parametrize("name", ["nvfp4", "nvfp4-2d", "mxfp4", *SCALED])
def test_the_compiled_form_equals_the_plain_one_to_the_bit(level, shape, axis, name):
    before = native.isa()
    native.set_isa(level)
    try:
        for options in options_of(name, shape, axis):
            for x in inputs_of(shape):
                got, want = formats.round_blocks(x, name, **options), reference(x, name, **options)
                assert same_bits(got, want), options
    finally:
        native.set_isa(before)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize(
    ("name", "shape"), [("e5m2-tensor", (3, 20001)), ("int8-sym-channel", (2, 9001)), ("e4m3-channel", (1, 9000, 3))]
)
def test_long_groups_are_shared_out_without_a_seam(name, shape, rounding, level):
    """Groups of more elements than a thread takes at a time."""
    before, x = native.isa(), random(*shape, seed=15)
    native.set_isa(level)
    try:
        got = formats.round_blocks(x, name, axis=1, rounding=rounding, seed=8)
    finally:
        native.set_isa(before)
    assert same_bits(got, reference(x, name, axis=1, rounding=rounding, seed=8))


@pytest.mark.parametrize("name", ["nvfp4", *SCALED])
def test_zeros_of_either_sign_are_the_plain_forms(name):
    x = torch.tensor([0.0, -0.0]).repeat(40)[:75].repeat(4, 1)
    x[2] = random(75, seed=16)
    x[3, 5:] = -random(70, seed=17).abs() * 1e-20  # rounded to a zero
    x[3, 0] = 1.0
    for samples in (1, 4):
        for rounding in ("nearest", "stochastic"):
            how = {"axis": 1, "rounding": rounding, "samples": samples, "seed": 5}
            assert same_bits(formats.round_blocks(x, name, **how), reference(x, name, **how))


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize(
    ("name", "signs"), [("nvfp4", None), ("nvfp4", SIGNS), ("e4m3-tensor", None), ("int4-sym-g32", None)]
)
def test_threads_change_nothing(rounding, name, signs):
    if not LEVELS:
        pytest.skip("no compiled library")
    x, before, found = random(64, 33, 40), native.threads(), []
    try:
        for threads in (1, 2, 3):
            native.set_threads(threads)
            found.append(formats.round_blocks(x, name, axis=1, rounding=rounding, signs=signs, seed=3))
    finally:
        native.set_threads(before)
    assert same_bits(found[0], found[1]) and same_bits(found[0], found[2])


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4-2d", "mxfp4", "e4m3-g64", "int4-sym-g32"])
def test_draws_take_neighbours_only_and_keep_the_mean(name):
    """A million draws of values inside one block's range; each mean within four of its standard errors."""
    each, draws = 16, 62_500
    row = torch.linspace(-0.8, 0.93, each)
    row[0] = 1.0 if name != "int4-sym-g32" else -1.0
    width = formats.get(name).group
    x = row.repeat(draws, max(1, width // each)) if name != "nvfp4-2d" else row.repeat(draws, 1)
    axis = (0, 1) if name == "nvfp4-2d" else 1
    got = formats.round_blocks(x, name, axis=axis, rounding="stochastic", seed=11).double()[:, 1:each]
    low, high = got.min(0).values, got.max(0).values
    assert ((got == low) | (got == high)).all()
    p = (row[1:].double() - low) / (high - low)
    assert (p >= 0).all() and (p <= 1).all() and ((p > 0.05) & (p < 0.95)).sum() > 5
    error = (high - low) * (p * (1 - p) / draws).sqrt() + 1e-12
    # values are means of `draws`; together they are 10^6 draws. 2^-19 of a step: what sums of 22 bits of chance may be rounded by
    assert ((got.mean(0) - row[1:].double()).abs() <= 4 * error + (high - low) * 2**-19).all()
    together = ((got.mean(0) - row[1:].double()).sum().abs() / (error**2).sum().sqrt()).item()
    assert together < 4


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4", "int4-sym-g32", "e4m3-g64"])
def test_two_draws_of_one_word_are_independent(name):
    """Elements half a block apart: how often both go up, of a million pairs, within 2^-10 (the bits they share) and five standard errors."""
    width, pairs = formats.get(name).group, 1 << 20
    row = torch.full((width,), 0.41)
    row[0], row[1] = -1.0 if name.startswith("int") else 1.0, 0.29
    row[width // 2 + 1 :] = 0.47
    x = row.repeat(pairs // (width // 2 - 2), 1)
    got = formats.round_blocks(x, name, axis=1, rounding="stochastic", seed=29)
    first, second = got[:, 2 : width // 2].flatten(), got[:, width // 2 + 2 :].flatten()
    a, b = ((part > part.min()).double() for part in (first, second))
    assert 0 < a.mean() < 1 and 0 < b.mean() < 1
    apart = (a * b).mean() - a.mean() * b.mean()
    error = (a.var() * b.var() / len(a)).sqrt()
    assert abs(apart) < 5 * error + 2**-10 * (a.var() * b.var()).sqrt()


def test_rounding_to_nearest_is_biased_where_draws_are_not():
    x = torch.full((4096, 32), 1.3)
    x[:, 16] = 6.0  # a scale of 1 in the second block of a row
    x[:, 0] = 2688.0
    assert (formats.round_blocks(x, "nvfp4", axis=1)[:, 17:] == 1.5).all()
    drawn = formats.round_blocks(x, "nvfp4", axis=1, rounding="stochastic", seed=6)[:, 17:].double()
    assert drawn.unique().tolist() == [1.0, 1.5]
    assert abs(drawn.mean() - 1.3) < 4 * 0.5 * (0.6 * 0.4 / drawn.numel()) ** 0.5  # four standard errors


def test_a_draw_depends_on_seed_and_place_alone():
    x = random(32, 64)
    a = formats.round_blocks(x, "nvfp4", axis=1, rounding="stochastic", seed=1)
    assert torch.equal(a, formats.round_blocks(x, "nvfp4", axis=1, rounding="stochastic", seed=1))
    assert not torch.equal(a, formats.round_blocks(x, "nvfp4", axis=1, rounding="stochastic", seed=2))
    even = torch.full((64, 64), 1.0)
    even[0, 0], even[:, ::16] = 2688.0, 3.5  # 3.5 is no grid value under scale 3.5 / 6: what lies between is drawn
    up = formats.round_blocks(even * 0.31, "nvfp4", axis=1, rounding="stochastic", seed=5)[1:].reshape(-1, 16)[:, 1:]
    first = x.clone()
    first[1:, :] = 0  # what else there is, and its shape, do not count
    first[0, 0] = x.abs().max()
    assert torch.equal(
        formats.round_blocks(first, "nvfp4", axis=1, rounding="stochastic", seed=1)[0, 16:],
        formats.round_blocks(torch.cat([first[:1], x[1:3]]), "nvfp4", axis=1, rounding="stochastic", seed=1)[0, 16:],
    )
    columns = (up > up.mean()).double()
    correlations = torch.corrcoef(columns.T) - torch.eye(15)
    assert correlations.abs().max() < 6 / math.sqrt(len(columns))  # six standard errors


def test_the_transform_is_its_own_undoing_and_leaves_products_alone():
    """In float64 and without rounding, to 1e-10: a^T b of operands turned alike."""
    a, b = random(96, 24, seed=6).double(), random(96, 40, seed=7).double()
    bits = _round.requested("nvfp4", "amax", SIGNS).signs
    plan = [layout(tuple(t.shape), t.stride(), 0, 1, 1) for t in (a, b)]
    blocks = [_round_reference._blocked(p.view(t), p, 16) for p, t in zip(plan, (a, b), strict=True)]
    turned = [_round_reference._turn(t, p, bits, back=False) for p, t in zip(plan, blocks, strict=True)]
    there = [_round_reference._unblocked(t, p)[0, 0, 0] for p, t in zip(plan, turned, strict=True)]
    assert (there[0].T @ there[1] - a.T @ b).abs().max() < 1e-10
    assert not torch.allclose(there[0], a)
    again = [_round_reference._turn(t, p, bits, back=True) for p, t in zip(plan, turned, strict=True)]
    assert (again[0] - blocks[0]).abs().max() < 1e-12


def test_rounding_between_the_transforms_is_the_product_of_what_was_rounded():
    import scipy.linalg

    # whole numbers: their sums are exact in any order, so the same values are rounded whichever way they were turned
    x = torch.randint(-200, 200, (64, 48), generator=torch.Generator().manual_seed(8)).float()
    matrix = torch.tensor(scipy.linalg.hadamard(16) / 4.0) * torch.tensor(SIGNS)
    there = (x.double().reshape(64, 3, 16) @ matrix.T).reshape(64, 48)
    want = torch.tensor(number_formats.quantized("nvfp4", there.float().numpy())).reshape(64, 3, 16) @ matrix
    got = formats.round_blocks(x, "nvfp4", axis=1, signs=SIGNS)
    # turned back in float32: four sums of numbers up to 16 / 4 times the largest
    assert (got - want.reshape(64, 48)).abs().max() < 4 * 2**-24 * 4 * float(there.abs().max())


def test_what_is_left_of_a_short_block_is_not_turned():
    x = random(4, 27, seed=9)
    x[:, 16:] = torch.tensor([6.0, *[0.5] * 10])
    x[0, 16] = 2688.0
    got = formats.round_blocks(x, "nvfp4", axis=1, signs=SIGNS)
    plain = formats.round_blocks(torch.cat([x[:, 16:], torch.zeros(4, 5)], 1), "nvfp4", axis=1)[:, :11]
    assert torch.equal(got[:, 16:], plain)  # 2688 is the largest in both, so that S is 1
    assert not torch.equal(got[:, :16], formats.round_blocks(x, "nvfp4", axis=1)[:, :16])


def test_with_outliers_the_transform_flushes_fewer_values_to_zero():
    generator = torch.Generator().manual_seed(10)
    x = torch.randn(256, 64, generator=generator)
    x = torch.where(torch.rand(x.shape, generator=generator) < 0.1, 15 * x, x)
    plan, bits = layout(tuple(x.shape), x.stride(), 1, 1, 1), _round.requested("nvfp4", "amax", SIGNS).signs
    turned = _round_reference._turn(_round_reference._blocked(plan.view(x), plan, 16), plan, bits, back=False)
    there = _round_reference._unblocked(turned, plan).reshape(x.shape)
    plain, spread = ((formats.round_blocks(t, "nvfp4", axis=1) == 0).float().mean() for t in (x, there))
    assert plain > 0.3 and spread < plain / 2


def test_four_over_six_takes_for_each_block_what_errs_less():
    """Against a loop over blocks in NumPy, and for two blocks whose errors can be seen."""
    x = random(64, 75, seed=12, spread=0.3)
    got = formats.round_blocks(x, "nvfp4", axis=1, rule="four-over-six")
    np.testing.assert_array_equal(got.numpy(), number_formats.four_over_six(x.numpy()))
    known = torch.zeros(3, 32)
    known[0, 0] = 1536.0  # S is 1
    known[1, :16] = torch.tensor(
        [6.0] + [5.0] * 15
    )  # 6 is 4 units of 1.5: 5 becomes 4.5, where units of 1 have but 4 and 6
    known[2, :16] = torch.tensor([6.0, 2.0, 3.0, 1.0] * 4)  # exact under 6
    got = formats.round_blocks(known, "nvfp4", axis=1, rule="four-over-six")
    assert got[1, :16].tolist() == [6.0] + [4.5] * 15
    assert got[2, :16].tolist() == known[2, :16].tolist()


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4-2d"])
@pytest.mark.parametrize("shape", [(48, 64), (40, 72)])
def test_codes_under_scales_of_four_over_six_give_the_same_values(name, shape):
    x = random(*shape, seed=5, spread=0.3)
    format = formats.get(name if shape[0] == 48 else f"{name}-ragged")
    params = formats.fit(x, format, rule="four-over-six")
    packed = formats.unpack(formats.pack(formats.encode(x, params, format)), format, shape)
    want = formats.round_blocks(x, name, axis=(0, 1) if name == "nvfp4-2d" else 1, rule="four-over-six")
    assert same_bits(packed.decode(torch.float32), want)
    if name == "nvfp4":
        np.testing.assert_array_equal(want.numpy(), number_formats.four_over_six(x.numpy()))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mxfp4", {"rule": "four-over-six"}, "is NVFP4's"),
        ("nvfp4", {"rule": "four_over_six"}, "'amax' or 'four-over-six'"),
        ("nvfp4", {"rule": "four-over-six", "ratio": 0.9}, "leave ratio out"),
    ],
)
def test_rules_that_a_fit_does_not_have_are_refused(name, options, message):
    with pytest.raises(FormatError, match=message):
        formats.fit(random(4, 32), formats.get(name), **options)


def test_four_over_six_draws_without_bias():
    row = torch.linspace(0.5, 1.0, 16).repeat(62_500, 1)
    drawn = formats.round_blocks(row, "nvfp4", axis=1, rule="four-over-six", rounding="stochastic", seed=4).double()
    error = drawn.std(0) / math.sqrt(len(row)) + 1e-12
    assert ((drawn.mean(0) - row[0].double()).abs() <= 4 * error + 2**-19).all()  # the maximum too: nothing is cut off


def test_clipping_shrinks_the_range():
    x = random(16, 64)
    ratio = formats.fit(x, formats.get("nvfp4"), ratio=0.7)
    want = formats.encode(x, ratio, formats.get("nvfp4")).decode()
    assert torch.equal(formats.round_blocks(x, "nvfp4", axis=1, rule="clip:0.7"), want)
    assert torch.equal(formats.round_blocks(x, "nvfp4", axis=1, rule=0.7), want)


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4-2d", "mxfp4", "int8-sym-tensor", "e4m3-tensor"])
def test_samples_are_rounded_as_if_alone(name):
    x = random(5, 16, 6, 7, seed=13) * torch.tensor([1, 10, 100, 1e-3, 1e-6]).reshape(5, 1, 1, 1)
    axis = (1, 2) if name == "nvfp4-2d" else 1
    got = formats.round_blocks(x, name, axis=axis, samples=5)
    alone = [formats.round_blocks(one[None], name, axis=axis) for one in x]
    assert torch.equal(got, torch.cat(alone))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("name", "signs"),
    [("nvfp4", None), ("nvfp4", SIGNS), ("int8-sym-tensor", None), ("e4m3-g64", None), ("mxfp8-e4m3", None)],
)
def test_what_is_not_finite_spoils_its_sample_and_no_other(bad, name, signs):
    x = random(3, 8, 32)
    x[1, 2, 3] = bad
    whole = formats.round_blocks(random(3, 8, 32), name, axis=2, samples=3, signs=signs)
    for got in (way(x, name, axis=2, samples=3, signs=signs) for way in (formats.round_blocks, reference)):
        assert got[1].isnan().all() and whole.isfinite().all()
        assert same_bits(got[[0, 2]], whole[[0, 2]])


def test_the_result_may_take_the_place_of_what_was_rounded():
    x = random(64, 40, 3)
    for name, axis in (("nvfp4", 1), ("nvfp4-2d", (0, 1)), ("e4m3-tensor", 0)):
        want, place = formats.round_blocks(x, name, axis=axis), x.clone()
        assert formats.round_blocks(place, name, axis=axis, out=place) is place
        assert torch.equal(place, want)


def test_without_the_library_the_plain_form_serves(monkeypatch):
    x = random(9, 50)
    names = ("nvfp4", "int8-sym-g32")
    want = [formats.round_blocks(x, name, axis=0, rounding="stochastic", seed=2) for name in names]
    monkeypatch.setattr(native, "missing", lambda: "not here")
    monkeypatch.setattr(_round_native, "_library", None)
    got = [formats.round_blocks(x, name, axis=0, rounding="stochastic", seed=2) for name in names]
    assert all(same_bits(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nvfp4", {"axis": 2}, "the tensor has 2 dimensions"),
        ("nvfp4", {"axis": (0, 1)}, "one axis"),
        ("nvfp4-2d", {"axis": 1}, "two axes"),
        ("nvfp4-2d", {"axis": (1, -1)}, "the same"),
        ("nvfp4", {"axis": 0, "samples": 4}, "use samples=1"),
        ("nvfp4", {"axis": 1, "samples": 3}, "does not divide"),
        ("int4-g32", {"axis": 1}, "symmetric"),
        ("nvfp4", {"axis": 1, "rule": "max"}, "four-over-six"),
        ("mxfp4", {"axis": 1, "rule": "four-over-six"}, "NVFP4"),
        ("nvfp4", {"axis": 1, "rule": "clip:-1"}, "part of the maximum"),
        ("nvfp4", {"axis": 1, "signs": (1, -1)}, "16 numbers"),
        ("nvfp4-2d", {"axis": (0, 1), "signs": SIGNS}, "one axis"),
        ("nvfp4", {"axis": 1, "rounding": "up"}, "stochastic"),
    ],
)
def test_what_cannot_be_done_is_said(name, options, message):
    with pytest.raises(FormatError, match=message):
        formats.round_blocks(random(4, 32), name, **options)


def test_an_unknown_format_offers_the_nearest():
    with pytest.raises(UnknownName, match="nvfp4"):
        formats.round_blocks(random(4, 32), "nvfp5", axis=1)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize(
    ("name", "signs", "rule"),
    [(name, None, "amax") for name in NAMES]
    + [
        ("nvfp4", SIGNS, "amax"),
        ("mxfp4", SIGNS, "clip:0.8"),
        ("nvfp4", None, "four-over-six"),
        ("nvfp4-2d", None, 0.5),
    ],
)
def test_a_look_inside_shows_what_the_rounding_does(name, signs, rule, rounding):
    x = random(4, 24, 6, 5, seed=11).to(memory_format=torch.channels_last)
    axis = (0, 1) if name == "nvfp4-2d" else 1
    how = {
        "axis": axis,
        "rounding": rounding,
        "seed": 5,
        "signs": signs,
        "rule": rule,
        "samples": 2 if "2d" not in name else 1,
    }
    out = formats.round_blocks(x, name, **how)
    before, after, end = formats.look_at_blocks(x, name, **how)
    assert before.numel() == after.numel() == end.numel() == x.numel()
    if signs is None:
        pairs = [
            sorted(zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)) for a, b in ((x, out), (before, after))
        ]
        assert pairs[0] == pairs[1]
    else:  # the transform keeps lengths
        assert (after - before).double().norm() == pytest.approx((out - x).double().norm().item(), rel=1e-5)
        assert not torch.equal(before.flatten().sort().values, x.flatten().sort().values)
    assert (after.abs() <= end * (1 + 2**-20)).all()


def test_the_end_of_a_block_is_that_of_its_scale_and_not_of_what_lies_in_it():
    """MXFP4 rounds a largest value of 4.5 down to 4, which cuts nothing off; 7 lies beyond 6."""
    x = torch.zeros(2, 32)
    x[0, 0], x[1, 0] = 4.5, 7.0
    before, after, end = formats.look_at_blocks(x, "mxfp4", axis=1)
    assert before.flatten().sort().values[-2:].tolist() == [4.5, 7.0]
    assert after.flatten().sort().values[-2:].tolist() == [4.0, 6.0] and (end == 6).all()


@pytest.mark.parametrize("name", ["int8-sym-tensor", "int4-sym-g32", "int8-sym-channel"])
@pytest.mark.parametrize("scale", [1e-30, 3e-6, 1.0, 1e7, 1e30])
def test_scales_that_no_file_holds_are_of_float32(name, scale):
    x = random(8, 64, seed=3) * scale
    bits, lines = int(name[3]), x.reshape(1, -1) if name.endswith("tensor") else x
    group = 32 if name.endswith("g32") else lines.shape[1]
    got = formats.round_blocks(x, name, axis=1, scales="float32")
    want = number_formats.signed_integers(lines.numpy(), bits, group).reshape(x.shape)
    np.testing.assert_array_equal(got.numpy(), want)
    assert (
        0 < float((got - x).double().norm() / x.double().norm()) < 2 ** (3 - bits)
    )  # a step of the largest is 2^(1 - bits) of it
    assert same_bits(got, reference(x, name, axis=1, scales="float32"))


def test_scales_of_another_kind_are_refused():
    with pytest.raises(FormatError, match="scales = 'float16'"):
        formats.round_blocks(torch.ones(32), "nvfp4", axis=0, scales="float16")
