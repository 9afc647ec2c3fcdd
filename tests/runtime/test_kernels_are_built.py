"""An installation without kernels skips their tests; that it has none must then be what was asked for."""

import os

import pytest

from netweight.runtime import kernels


@pytest.mark.skipif(
    "NETWEIGHT_NO_EXT" in os.environ, reason="NETWEIGHT_NO_EXT asks for an installation without kernels"
)
def test_the_compiled_kernels_are_there():
    assert kernels.missing() is None
    assert "portable" in kernels.levels()
