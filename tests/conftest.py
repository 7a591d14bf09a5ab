"""What tests in several directories share."""

import pytest

from tinyllm.engine.state import fused


@pytest.fixture
def kernels():
    """The kernels run, also where TINYLLM_FUSED=0 makes definitions the default: for tests that are about the kernels."""
    with fused(True):
        yield
