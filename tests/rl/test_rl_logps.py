import numpy as np
import pytest

from tinyllm.errors import UserError
from tinyllm.rl import completion_logps, completion_mask, entropy, last_index, token_logps
from worked import close, slopes, worked


def test_the_first_end_token_is_kept_and_nothing_after_it():
    inputs, outputs = worked("01_eos_mask")
    mask, truncated = completion_mask(inputs["responses"].astype(int), inputs["eos"])
    assert (mask == outputs["mask"]).all()
    assert (truncated == outputs["truncated"]).all()
    assert (last_index(mask) == outputs["last_index"]).all()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_token_logps_equal_the_worked_example(temperature):
    inputs, outputs = worked("02_token_logps")
    ids, prompt, mask = inputs["input_ids"].astype(int), inputs["prompt_len"], inputs["completion_mask"]
    expected = outputs[f"temp_{temperature}"]
    logps = completion_logps(inputs["logits"], ids, prompt, temperature)
    close(logps, expected["token_logps"])
    close((logps.numpy() * mask).sum(1), expected["masked_sum"])
    close((logps.numpy() * mask).sum(1) / mask.sum(1), expected["masked_mean"])
    close(entropy(inputs["logits"][:, prompt - 1:-1], temperature), expected["token_entropy"])


def test_the_gradient_by_the_logits_carries_one_over_the_temperature():
    inputs, outputs = worked("02_token_logps")
    ids, mask = inputs["input_ids"].astype(int), inputs["completion_mask"]
    _, (grad,) = slopes(lambda z: (completion_logps(z, ids, inputs["prompt_len"], 0.7) * mask).sum(), inputs["logits"])
    close(grad, outputs["grad_sum_wrt_logits_temp_0.7"])


def test_entropy_of_a_certain_and_of_an_even_choice():
    close(entropy(np.array([[[100.0, 0.0, 0.0], [2.0, 2.0, 2.0]]])), [[0.0, np.log(3)]])


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(UserError, match="temperature is 0; expected a number above 0"):
        token_logps(np.zeros((1, 1, 3)), np.zeros((1, 1), int), 0)
    with pytest.raises(UserError, match="prompt_length 0"):
        completion_logps(np.zeros((1, 2, 3)), np.zeros((1, 2), int), 0)
