"""The training loop: what one step does, what stops it, and what it refuses."""

import io

import numpy as np
import pytest

from tinyllm.engine.random import Generator, manual_seed
from tinyllm.errors import UserError, WorkError
from tinyllm.models import GPT, GPTConfig
from tinyllm.text.batches import EvalWindows, RandomWindows
from tinyllm.train.loop import TrainConfig, Trainer, evaluate

IDS = np.arange(300) % 7


def model(dropout=0.0):
    return GPT(GPTConfig(vocab_size=7, n_layer=1, n_head=1, n_embd=8, block_size=4, dropout=dropout), Generator(0))


def trainer(batch=2, validation=None, **settings):
    config = TrainConfig(**{"steps": 20, "batch": batch, "warmup": 0, "eval_every": 5, **settings})
    return Trainer(model(), RandomWindows(IDS, 4, batch, Generator(0)), validation, config, out=io.StringIO())


def weights(trainer):
    return {name: array.copy() for name, array in trainer.model.state_dict().items()}


def test_accumulating_two_batches_is_one_batch_of_twice_the_size():
    small, large = trainer(batch=2, accumulate=2), trainer(batch=4)
    for _ in range(3):
        one, two = small.train_step(), large.train_step()
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=1e-4)
    for name, array in weights(small).items():
        assert np.allclose(array, weights(large)[name], atol=1e-5)


def test_a_sequence_that_repeats_is_learned():
    validation = EvalWindows(IDS, 4, 8)
    learner = trainer(validation=validation, steps=300, lr=1e-2, batch=8, eval_every=300)
    before = evaluate(learner.model, validation)
    assert abs(before - np.log(7)) < 0.1
    assert learner.fit() < 0.05


def test_evaluation_is_the_mean_over_all_targets_that_count():
    m, windows = model(dropout=0.5), EvalWindows(IDS[:31], 4, 3)
    losses = []
    m.eval()
    for start in range(0, 30, 4):                       # by hand: each target once, from the windows' inputs
        first = min(start, 26)
        logits = m(IDS[None, first:first + 4]).numpy()[0].astype(np.float64)
        for place in range(start - first, 4):
            z = logits[place]
            losses.append(np.log(np.exp(z).sum()) - z[IDS[first + place + 1]])
    m.train()
    assert len(losses) == 30
    assert evaluate(m, windows) == pytest.approx(np.mean(losses), rel=1e-6)
    assert m.training


def test_decay_touches_matrices_and_leaves_vectors():
    quiet = trainer(lr=0.1, weight_decay=0.5, betas=(0.0, 0.0))
    for parameter in quiet.model.parameters():
        parameter.grad = np.zeros_like(parameter.data)
    before = weights(quiet)
    quiet.optimizer.step()
    for name, array in weights(quiet).items():
        assert np.allclose(array, before[name] * (0.95 if array.ndim == 2 else 1)), name


def test_the_schedules_start_peak_and_end_where_they_say():
    for schedule in ("cosine", "linear", "wsd"):
        rates = trainer(schedule=schedule, steps=100, warmup=9, lr=1.0, min_lr=0.1).schedule
        assert rates(0) == pytest.approx(0.1) and rates(9) == pytest.approx(1.0) and rates(100) == pytest.approx(0.1)
        assert all(rates(step) >= rates(step + 1) for step in range(9, 100))
    assert trainer(schedule="constant", warmup=0, lr=0.3).schedule(17) == 0.3


def test_a_nan_stops_before_the_update_and_names_the_operation():
    broken = trainer()
    broken.train_step()
    before = weights(broken)

    original = broken.model.loss
    broken.model.loss = lambda ids, targets: original(ids, targets) + (broken.model.wte.weight * 0.0 - 1.0).log().sum()
    with np.errstate(invalid="ignore"), pytest.raises(WorkError, match=r"step 2: loss nan.*forward of log.*Nothing was updated"):
        broken.train_step()
    assert broken.step == 1
    for name, array in weights(broken).items():
        assert (array == before[name]).all()


def test_a_gradient_that_overflows_is_named_too():
    broken = trainer()
    original = broken.model.loss
    broken.model.loss = lambda ids, targets: original(ids, targets) + ((broken.model.wte.weight * 0.0).abs()).sqrt().sum()
    with np.errstate(all="ignore"), pytest.raises(WorkError, match="step 1: .*backward of sqrt"):
        broken.train_step()


def test_a_parameter_that_is_already_nan_is_named():
    broken = trainer()
    with_nan = broken.model.blocks[0].mlp.fc.weight
    with_nan.data[0, 0] = np.nan
    with pytest.raises(WorkError, match="parameter blocks.0.mlp.fc.weight already has a NaN"):
        broken.train_step()


def test_bad_steps_may_be_skipped_so_many_and_no_more():
    broken = trainer(skip_bad_steps=2)
    broken.train_step()
    before = weights(broken)
    original = broken.model.loss
    broken.model.loss = lambda ids, targets: original(ids, targets) * float("nan")
    assert broken.train_step()["skipped"] and broken.train_step()["skipped"]
    assert broken.step == 3 and all((array == before[name]).all() for name, array in weights(broken).items())
    with pytest.raises(WorkError, match="step 4"):
        broken.train_step()


def test_early_stopping_waits_as_long_as_it_is_told():
    random = np.random.default_rng(0).integers(0, 7, 300)       # nothing to learn here: soon no evaluation is a new best
    learner = trainer(validation=EvalWindows(random, 4, 8), steps=1000, early_stop=3, eval_every=2, lr=1e-2)
    best = learner.fit()
    assert learner.waited == 3 and learner.step == learner.best["step"] + 6 < 1000
    assert best == learner.best["loss"]


def test_spikes_of_the_gradient_are_marked():
    learner = trainer()
    for _ in range(3):
        assert "spike" not in learner.train_step()
    original = learner.model.loss
    learner.model.loss = lambda ids, targets: original(ids, targets) * 1000.0
    assert learner.train_step()["spike"]


@pytest.mark.parametrize("setting", [{"steps": 0}, {"batch": 0}, {"accumulate": -1}, {"lr": -1.0}, {"lr": float("nan")}, {"betas": (0.9, 1.0)},
                                     {"betas": (0.9,)}, {"schedule": "square"}, {"eval_every": 0}, {"clip": -1.0}])
def test_settings_that_make_no_sense_are_refused_by_name(setting):
    with pytest.raises(UserError, match=next(iter(setting))):
        TrainConfig(**setting)


def test_dropout_masks_come_from_the_seed():
    losses = []
    for _ in range(2):
        manual_seed(3)
        m = GPT(GPTConfig(vocab_size=7, n_layer=1, n_head=1, n_embd=8, block_size=4, dropout=0.5))
        losses.append(m.loss(IDS[None, :4], IDS[None, 1:5]).item())
    assert losses[0] == losses[1]
