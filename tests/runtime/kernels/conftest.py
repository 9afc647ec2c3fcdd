"""Every kernel test runs at every instruction set this CPU has, each forced in turn."""

import pytest

from netweight.runtime import kernels

LEVELS = kernels.levels() if kernels.missing() is None else ()


def pytest_collection_modifyitems(items):
    if LEVELS:
        return
    for item in items:
        if "runtime/kernels" in str(item.path):
            item.add_marker(pytest.mark.skip(reason=f"no compiled kernels: {kernels.missing()}"))


@pytest.fixture(params=LEVELS or ("none",))
def isa(request):
    """One level, in use for the test."""
    before = kernels.isa()
    kernels.set_isa(request.param)
    yield request.param
    kernels.set_isa(before)


@pytest.fixture(params=(1, 2, 3, 4))
def threads(request):
    before = kernels.threads()
    kernels.set_threads(request.param)
    yield request.param
    kernels.set_threads(before)
