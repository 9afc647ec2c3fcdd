"""Write the README's tables from the benchmark records, between its ``<!-- NAME -->`` and ``<!-- /NAME -->`` marks.

python benchmarks/readme_tables.py            # rewrite
python benchmarks/readme_tables.py --check    # exit with 1 when the README is not what the records say
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from netweight.claim import Claim, read_claims

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "benchmarks" / "records"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the README differs")
    check = parser.parse_args().check
    path = ROOT / "README.md"
    before = path.read_text(encoding="utf-8")
    after = rendered(before)
    if check:
        return int(before != after)
    path.write_text(after, encoding="utf-8")
    return 0


def rendered(text: str) -> str:
    """The text with every marked table replaced by what the newest record of its kind says."""
    for name, table in TABLES.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = marked.sub(lambda found, table=table: found[1] + table() + found[2], text)
    return text


def newest(what: str) -> Path | None:
    """The latest record folder ``<date>_<what>_<hardware>``."""
    found = sorted(path for path in RECORDS.glob(f"*_{what}_*") if path.is_dir())
    return found[-1] if found else None


def demo() -> str:
    """Original and artifacts of the demo, one row per metric."""
    record = newest("demo")
    if record is None:
        return "No record yet: `make bench-demo`.\n"
    claims = read_claims(record / "claims.jsonl")
    subjects = list(dict.fromkeys(claim.subject for claim in claims))
    rows = list(dict.fromkeys((claim.metric, _data(claim)) for claim in claims if claim.metric in SHOWN))
    lines = ["| | " + " | ".join(subjects) + " |", "|---|" + "---|" * len(subjects)]
    for metric, data in rows:
        cells = [
            _cell(next((c for c in claims if (c.metric, _data(c), c.subject) == (metric, data, s)), None))
            for s in subjects
        ]
        lines.append(f"| {SHOWN[metric]}{f', {data}' if data else ''} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _origin(record, claims[0].environment)]) + "\n"


def page(what: str) -> str:
    """A record's own page without its title."""
    record = newest(what)
    if record is None:
        return "No record yet: see `benchmarks/README.md`.\n"
    text = (record / "README.md").read_text(encoding="utf-8")
    return text.split("\n", 2)[2].strip("\n") + f"\n\nRecord: `{record.relative_to(ROOT)}`.\n"


def _data(claim: Claim) -> str:
    return "/".join(part for part in (claim.data.get("source"), claim.data.get("split")) if part)


def _cell(claim: Claim | None) -> str:
    if claim is None:
        return ""
    if claim.value is None:
        return claim.provenance
    scale, digits = (1e-6, "{:.1f}") if claim.unit == "B" else (1, "{:.4g}")
    value = digits.format(claim.value * scale)
    if claim.low is None or claim.high is None:
        return value
    return f"{value} [{digits.format(claim.low * scale)}, {digits.format(claim.high * scale)}]"


def _origin(record: Path, environment: dict[str, Any]) -> str:
    return (
        f"95 % intervals; {environment.get('cpu')}, {environment.get('threads')} threads. "
        f"Record: `{record.relative_to(ROOT)}`."
    )


SHOWN = {
    "bytes_on_disk": "MB on disk",
    "perplexity": "perplexity",
    "kl_divergence": "KL from the original, nat/token",
    "top_token_agreement": "same top token",
    "multiple_choice_normalised": "accuracy",
    "lambada_accuracy": "last word right",
}
TABLES: dict[str, Callable[[], str]] = {
    "demo": demo,
    "peers": lambda: page("int3-g64-peers"),
    "steps": lambda: page("decode"),
}


if __name__ == "__main__":
    sys.exit(main())
