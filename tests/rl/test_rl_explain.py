import numpy as np
import pytest

from tinyllm.errors import UserError
from tinyllm.rl import explain_token
from worked import close, slopes, worked
from tinyllm.rl import ppo_loss

INPUTS, OUTPUTS = worked("06_ppo")
ARRAYS = {"logps": INPUTS["new_logps"], "old_logps": INPUTS["old_logps"], "advantages": INPUTS["advantages"], "mask": INPUTS["mask"]}


def test_every_number_of_the_worked_example_is_told():
    for i, t in np.argwhere(INPUTS["mask"] == 1):
        text = explain_token(i, t, **ARRAYS)
        assert f"= {OUTPUTS['metrics']['ratio'][i, t]:.4f}:" in text
        assert f"= {OUTPUTS['clip_0.2']['token_loss'][i, t]:.4f}\n" in text
        slope = OUTPUTS["clip_0.2"]["grad_token_mean"][i, t] * INPUTS["mask"].sum()
        assert ("∂l/∂log π = 0" in text) == (slope == 0)
        assert slope == 0 or f"-A r = {slope:.4f}:" in text


@pytest.mark.parametrize("ratio, advantage, words", [
    (1.0, 1.0, "as likely as it was"), (0.5, 1.0, "less likely\n  A = 1.0000: better"), (1.5, 1.0, "has gained enough"),
    (0.5, -1.0, "turned away from this token far enough"), (1.5, 0.0, "neither better nor worse")])
def test_the_words_fit_the_numbers(ratio, advantage, words):
    arrays = dict(logps=[[np.log(ratio)]], old_logps=[[0.0]], advantages=[advantage], mask=[[1]])
    assert words in explain_token(0, 0, **arrays)


def test_the_slope_told_is_the_slope_of_the_loss():
    _, (grad,) = slopes(lambda logps: ppo_loss(logps, [[-1.0]], [-0.5], [[1]]), [[-0.7]])
    text = explain_token(0, 0, logps=np.array([[-0.7]]), old_logps=np.array([[-1.0]]), advantages=np.array([-0.5]), mask=[[1]], tokens=[["x"]])
    close(float(text.split("-A r = ")[1].split(":")[0]), grad.item(), tolerance=5e-5)      # as many digits as are printed
    assert text.startswith("token 0 of completion 0 ('x')")


def test_masked_tokens_and_places_that_are_not_there():
    assert "masked" in explain_token(0, 3, **ARRAYS)
    with pytest.raises(UserError, match="there are 2 completions of 4 places"):
        explain_token(2, 0, **ARRAYS)
