"""``import netweight`` is nearly free: under 100 ms, and neither torch nor pydantic is loaded."""

from __future__ import annotations

import statistics

import netweight
from contracts.cost import output, processor_s

BUDGET_S = 0.100
HEAVY = ("torch", "pydantic", "numpy", "transformers", "scipy", "rich", "typer", "jinja2", "matplotlib", "safetensors")


def _loaded(code: str) -> set[str]:
    return set(output("-c", f"import sys\n{code}\nprint(*sys.modules)").split())


def test_importing_netweight_takes_less_than_a_tenth_of_a_second():
    bare, ours = (processor_s("-c", code, repetitions=7) for code in ("pass", "import netweight"))
    assert (
        statistics.median(ours) - statistics.median(bare) < BUDGET_S
    )  # seconds; the interpreter's own start does not count


def test_importing_netweight_loads_nothing_heavy():
    assert _loaded("import netweight; dir(netweight)").isdisjoint(HEAVY)


def test_looking_at_a_verb_loads_nothing_heavy():
    assert _loaded("import netweight; netweight.compress, netweight.evaluate").isdisjoint(HEAVY)


def test_help_is_printed_without_torch():
    loaded = _loaded("import sys\nfrom netweight.cli import main\nmain(['compress', '--help'])")
    assert loaded.isdisjoint({"torch", "transformers", "numpy", "scipy", "matplotlib"})


def test_claims_and_ledgers_are_read_without_torch():
    assert _loaded("import netweight; netweight.Claim, netweight.Ledger").isdisjoint({"torch", "pydantic", "numpy"})


def test_an_unknown_attribute_is_an_attribute_error():
    assert not hasattr(netweight, "compres")


def test_a_verb_keeps_its_name_after_the_room_of_that_name_was_imported():
    room_first = "import importlib, netweight; importlib.import_module('netweight.evaluate'); print(netweight.evaluate)"
    verb_first = (
        "import importlib, netweight; netweight.evaluate; importlib.import_module('netweight.evaluate');"
        "print(netweight.evaluate)"
    )
    assert output("-c", room_first).startswith("<function evaluate")
    assert output("-c", verb_first).startswith("<function evaluate")
