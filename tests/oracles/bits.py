"""How many bits netweight's formats and their authorities disagree on: for tests (few values) and records (10^6)."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from oracles import minifloats
from oracles import number_formats as nf
from oracles.reading import read, with_codes

AUTHORITY = {
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e8m0": ml_dtypes.float8_e8m0fnu,
}
COLUMNS = 256


def cast_inputs(kind: str, n: int, seed: int) -> np.ndarray:
    """Finite float32: half any bit pattern, half near the format's own values, plus every midpoint and its neighbours.

    E8M0 gets positive numbers up to its largest value, without exact ties: there ml_dtypes does not round to even
    (1.5 and 3 both go up).
    """
    rng = np.random.default_rng(seed)
    patterns = rng.integers(0, 2**32, n // 2, dtype=np.uint32).view(np.float32)
    grid = minifloats.magnitudes(kind)
    middles = ((grid[:-1] + grid[1:]) / 2).astype(np.float32)
    near = (rng.choice(grid, n - n // 2) * rng.uniform(0.9, 1.1, n - n // 2)).astype(np.float32)
    near *= rng.choice(np.array([-1, 1], dtype=np.float32), near.shape)
    up, down = np.nextafter(middles, np.float32(np.inf)), np.nextafter(middles, np.float32(0))
    x = np.concatenate([patterns, near, middles, -middles, up, down])
    x = x[np.isfinite(x)]
    if kind == "e8m0":
        x = np.abs(x)
        x = x[(x >= 2.0**-126) & (x <= 2.0**127) & ~np.isin(x, middles)]
    return x


def cast_differences(kind: str, n: int, seed: int) -> int:
    """Codes of ``formats.cast`` that differ from ml_dtypes, beyond the range by its rule (NaN, infinity)."""
    import torch

    from netweight import formats

    x = cast_inputs(kind, n, seed)
    overflow = "nonfinite" if kind in ("e4m3", "e5m2") else "saturate"
    got = formats.cast(torch.from_numpy(x), kind, overflow=overflow).numpy()
    with np.errstate(all="ignore"):
        want = x.astype(AUTHORITY[kind]).view(np.uint8)
    return int((got != want).sum())


def saturating_differences(kind: str, n: int, seed: int) -> int:
    """Codes of ``formats.cast(overflow="saturate")`` that differ from the oracle's search in the list of values."""
    import torch

    from netweight import formats

    x = cast_inputs(kind, n, seed)
    got = formats.cast(torch.from_numpy(x), kind, overflow="saturate").numpy()
    return int((got != minifloats.nearest(kind, x)).sum())


def code_differences(kind: str) -> int:
    """Codes whose value by ``formats.uncast`` differs from ml_dtypes (NaN equals NaN, -0 differs from 0)."""
    import torch

    from netweight import formats

    codes = np.arange(minifloats.code_count(kind), dtype=np.uint8)
    got = formats.uncast(torch.from_numpy(codes), kind).double().numpy()
    want = codes.view(AUTHORITY[kind]).astype(np.float64)
    same = np.where(np.isnan(want), np.isnan(got), (got == want) & (np.signbit(got) == np.signbit(want)))
    return int((~same).sum())


def weights(name: str, n: int, seed: int) -> np.ndarray:
    """(O, 256) float32, about n values: heavy tails, rows of all sizes, exact ties, zero groups, one-sided rows."""
    rng = np.random.default_rng(seed)
    rows = max(16, -(-n // COLUMNS) // 16 * 16)
    w = rng.standard_t(3, (rows, COLUMNS))
    if name.startswith("ternary"):  # sums must be exact in any order, for the scale is a mean
        return (np.rint(np.clip(w, -8, 8) * 256) / 256).astype(np.float32)
    w *= 10 ** rng.uniform(-3, 2, (rows, 1)) if nf.parse(name).group != -1 else 1
    w[1::8] = np.rint(np.clip(w[1::8] * 4, -64, 64)) / 8
    w[2::8] = np.abs(w[2::8])
    w[3::16, :64] = 0
    w[4::16] = -np.abs(w[4::16])
    return w.astype(np.float32)


def format_differences(name: str, n: int, seed: int) -> dict[str, int]:
    """Scales, zeros, codes and value bits of ``formats.quantize`` that differ from the oracle, and how many were seen.

    A format with a scale per tensor is given many tensors of 16 rows, one wrong tensor scale in a million being easily
    missed. Codes are compared where the scale is not 0: elsewhere every code stands for the value 0, which is compared.
    """
    w = weights(name, n, seed)
    row = nf.parse(name)
    if row.group >= 0 and row.kind != "nvfp4":
        return _differences(name, w)
    size = np.random.default_rng(seed).uniform(0.5, 2, len(w) // 16).astype(np.float32)
    if row.kind == "ternary":
        size[:] = 1
    total: dict[str, int] = {}
    for k, factor in enumerate(size):
        for key, count in _differences(name, w[16 * k : 16 * k + 16] * factor).items():
            total[key] = total.get(key, 0) + count
    return total


def _differences(name: str, w: np.ndarray) -> dict[str, int]:
    import torch

    from netweight import formats

    got = read(formats.quantize(torch.from_numpy(w), formats.get(name)))
    fitted = nf.fit(name, w)
    codes = nf.codes(fitted, w)
    values = nf.values(fitted, codes)
    alive = fitted.scale_OI > 0
    scale = fitted.compact(fitted.scale_OI)
    out = {"elements": w.size, "scales": int((got.scale.reshape(scale.shape) != scale).sum())}
    if got.zero is not None:
        assert fitted.zero_OI is not None
        zero = fitted.compact(fitted.zero_OI)
        out["zeros"] = int((got.zero.reshape(zero.shape) != zero).sum())
    if fitted.tensor_scale is not None:
        out["tensor scale"] = int(got.tensor_scale != float(fitted.tensor_scale))
    out["codes"] = int(((got.codes != codes) & alive).sum())
    out["values"] = int((got.values != values.astype(np.float64)).sum())
    return out


def decode_differences(name: str, seed: int) -> int:
    """Values of every code at 64 random scales that differ from the oracle (NaN equals NaN)."""
    import torch

    from netweight import formats

    row = nf.parse(name)
    w = weights(name, 64 * COLUMNS, seed)
    format = formats.get(name)
    q = formats.quantize(torch.from_numpy(w), format)
    fitted = nf.fit(name, w)
    count = 3 if row.kind == "ternary" else 2**row.bits
    codes = np.add.outer(np.arange(w.shape[0]), np.arange(w.shape[1])).astype(np.int64) % count
    got = with_codes(q, torch.from_numpy(codes.astype(np.uint8))).decode(torch.float32).numpy()
    with np.errstate(invalid="ignore"):
        want = nf.values(fitted, codes.astype(np.uint8))
    return int((~((got == want) | (np.isnan(got) & np.isnan(want)))).sum())
