"""What the tests of the gradient check share."""

import numpy as np
import pytest
import tinyllm as tl
from tinyllm.engine.gradcheck import GradcheckError, gradcheck

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def registry_as_it_was():
    """Primitives that a test defines go again when it ends; every test starts from the same random numbers."""
    rng.bit_generator.state = np.random.default_rng(0).bit_generator.state
    before = dict(tl.primitives)
    yield
    tl.primitives.clear()
    tl.primitives.update(before)


def failure(fn, inputs, **options):
    """The report of a check that must fail."""
    with pytest.raises(GradcheckError) as caught:
        gradcheck(fn, inputs, **options)
    assert not caught.value.report.ok
    assert str(caught.value) == str(caught.value.report)
    return caught.value.report
