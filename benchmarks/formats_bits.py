"""Count the bits in which number formats differ from their authorities, over all codes and 10^6 values each.

    python benchmarks/formats_bits.py --out benchmarks/records/<date>_formats-bits_<hardware>

Casts of small floats are compared with ml_dtypes; every format of the catalogue with the NumPy oracle of tests/oracles,
which the tests hold against ml_dtypes, gfloat and the ONNX reference vectors. Exits with 1 when a bit differs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from netweight import formats
from netweight.claim import Claim, write_claims
from netweight.provenance import environment, sha256_of_bytes
from oracles import bits, minifloats

COUNTED = "a count over fixed pseudo-random values: nothing is estimated"
WITHOUT_ORACLE = {"nf4"}  # its table is published to five digits only; the tests check it to that


def main() -> int:
    """0 when nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for claims.jsonl; nothing is written without it")
    parser.add_argument("--values", type=int, default=1_000_000, help="random values per format")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    claims = [*_casts(args.values, args.seed), *_formats(args.values, args.seed)]
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        write_claims(args.out / "claims.jsonl", claims)
    return int(any(claim.value for claim in claims))


def _casts(n: int, seed: int):
    for kind in bits.AUTHORITY:
        codes = minifloats.code_count(kind)
        values = len(bits.cast_inputs(kind, n, seed))
        details = {"all codes": bits.code_differences(kind), "random values": bits.cast_differences(kind, n, seed)}
        yield _claim(kind, f"ml_dtypes {importlib.metadata.version('ml_dtypes')}", codes + values, details, seed)


def _formats(n: int, seed: int):
    for format in formats.catalogue():
        if format.name in WITHOUT_ORACLE:
            continue
        details = bits.format_differences(format.name, n, seed)
        values = details.pop("elements")
        details["all codes"] = bits.decode_differences(format.name, seed)
        yield _claim(format.name, "NumPy oracle (tests/oracles/number_formats.py)", values, details, seed)


def _claim(subject: str, authority: str, n: int, details: dict[str, int], seed: int) -> Claim:
    differing = sum(details.values())
    print(f"{subject:24} {n:>9} values   {differing:>7} differ   {details if differing else ''}", flush=True)
    return Claim(
        metric="differing bits",
        value=float(differing),
        unit="scales, zeros, codes and values that differ",
        n=n,
        low=None,
        high=None,
        interval=COUNTED,
        subject=subject,
        subject_sha256=sha256_of_bytes(subject.encode()),
        better="lower",
        settings={"differences": details, "authority": authority},
        seeds={"values": seed},
        environment=environment(),
        command=shlex.join(["python", *sys.argv]),
    )


if __name__ == "__main__":
    sys.exit(main())
