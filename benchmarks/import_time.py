"""Time ``import netweight``: processor time of a fresh interpreter with the import, less one without, interleaved.

python benchmarks/import_time.py --out benchmarks/records/<date>_import-time_<hardware>
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

from netweight.claim import Claim, write_claims
from netweight.provenance import environment, sha256_of_bytes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for claims.jsonl; nothing is written without it")
    parser.add_argument("--repetitions", type=int, default=41)
    args = parser.parse_args()
    bare, ours = [], []
    for _ in range(args.repetitions):
        bare.append(processor_s("pass"))
        ours.append(processor_s("import netweight"))
    extra = np.array(ours) - np.array(bare)
    draws = np.random.default_rng(0).choice(extra, (4000, len(extra)))
    low, high = np.quantile(np.median(draws, 1), (0.025, 0.975))
    print(f"import netweight: {np.median(extra) * 1e3:.1f} ms (95 % interval {low * 1e3:.1f} to {high * 1e3:.1f})")
    claim = Claim(
        metric="import_time",
        value=float(np.median(extra)),
        unit="s",
        n=args.repetitions,
        low=float(low),
        high=float(high),
        interval="percentile bootstrap of the median, 4000 resamples",
        subject="import netweight",
        subject_sha256=sha256_of_bytes(b"import netweight"),
        better="lower",
        environment=environment(),
        command=shlex.join(["python", *sys.argv]),
    )
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        write_claims(args.out / "claims.jsonl", [claim])
    return 0


def processor_s(code: str) -> float:
    """User and system time of an interpreter that runs this code."""
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    sys.exit(main())
