"""Run the demo as a user would, and keep what it measured: its claims, its time, its peak memory, its report's size.

python benchmarks/demo.py --out benchmarks/records/<date>_demo_<hardware>
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from netweight.claim import Claim, read_claims, write_claims
from netweight.provenance import environment

ROOT = Path(__file__).resolve().parents[1]
ARTIFACTS = ("nvfp4", "int3-g64")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="record folder")
    parser.add_argument("--preset", default="default")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "demo-out"
        begun = time.monotonic()
        command = [sys.executable, str(ROOT / "examples" / "demo.py"), "--out", str(work), "--preset", args.preset]
        subprocess.run(command, check=True)
        seconds = time.monotonic() - begun
        claims: dict[str, Claim] = {}
        for name in ARTIFACTS:
            claims |= {claim.to_json(): claim for claim in read_claims(work / name / "claims.jsonl")}
        runs = {name: json.loads((work / name / "run.json").read_text(encoding="utf-8")) for name in ARTIFACTS}
        size = (work / "report.html").stat().st_size
    args.out.mkdir(parents=True, exist_ok=True)
    write_claims(args.out / "claims.jsonl", claims.values())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    facts = {
        "seconds": seconds,
        "peak_bytes": peak,
        "report_bytes": size,
        "compress": runs,
        "environment": environment(),
        "command": shlex.join(["python", "benchmarks/demo.py", "--preset", args.preset, "--out", args.out.name]),
    }
    (args.out / "facts.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{seconds:.0f} s, {peak / 1e9:.2f} GB at most, report {size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
