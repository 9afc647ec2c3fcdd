"""The ledger has one row per module, and survives the file."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from netweight.errors import ArtifactError
from netweight.ledger import Ledger, Row, merge

DONE = Row(
    "a", "linear", (4, 8), "quantized", "int4-g64", ("awq", "gptq"), 128, 20, 0.09, 0.04, 1024, notes=("damped",)
)
LEFT = Row("head", "linear", (4, 8), "left", reason="skip pattern 'head'")
FELL_BACK = Row("b", "linear", (4, 8), "quantized", "int4-g64", fallback=True)
LEDGER = Ledger((DONE, LEFT, FELL_BACK))


def test_a_ledger_is_read_back_as_it_was_written():
    assert Ledger.from_jsonl(LEDGER.to_jsonl()) == LEDGER


def test_equal_ledgers_are_equal_bytes():
    assert Ledger((DONE, LEFT, FELL_BACK)).to_jsonl() == LEDGER.to_jsonl()


def test_rows_are_found_by_what_happened():
    assert (LEDGER.quantized(), LEDGER.left(), LEDGER.fallbacks()) == ((DONE, FELL_BACK), (LEFT,), (FELL_BACK,))


def test_merging_keeps_the_order():
    assert list(merge([Ledger((LEFT,)), Ledger((DONE,))])) == [LEFT, DONE]
    assert len(LEDGER) == 3


@pytest.mark.parametrize("line", ["{", "{}", "[]", json.dumps({**asdict(DONE), "colour": "red"})])
def test_what_is_not_a_row_is_refused(line: str):
    with pytest.raises(ArtifactError, match="not a ledger row"):
        Ledger.from_jsonl(line)
