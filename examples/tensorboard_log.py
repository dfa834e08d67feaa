"""
A training in TensorBoard
=========================

Watch a meta-training: a callback that writes scalars. On the command line::

    python examples/tensorboard_log.py runs/one      needs tensorboardX, from the extra `examples`
    tensorboard --logdir runs                        in another terminal; pip install tensorboard

PyTorch's ``torch.utils.tensorboard.SummaryWriter`` does as well.
"""

import sys
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from tensorboardX import SummaryWriter

import fastmaml as fm
from fastmaml.datasets import Sinusoid
from fastmaml.learn import Adam, chain, train


def tensorboard_log(writer):
    """Return a callback that writes what it sees of each iteration."""

    def log(state):
        writer.add_scalar("training", state.value, state.iteration)
        writer.add_scalar("diverged", len(state.diverged), state.iteration)
        for layer, rate in enumerate(np.ravel(state.inner_lr), start=1):
            writer.add_scalar(f"inner_rate/layer_{layer}", rate, state.iteration)
        if state.validation_value is not None:
            writer.add_scalar("validation", state.validation_value, state.iteration)

    return log


# %%
# Where to: the folder of the command line, if there is one.

named = len(sys.argv) == 2 and "__file__" in globals()
folder = sys.argv[1] if named else tempfile.mkdtemp()
rates = []

rng = np.random.default_rng(0)
training = Sinusoid(part="train")
maml = fm.MAML(fm.MLP([1, 40, 40, 1]), inner_lr=[0.01, 0.01, 0.01], loss="mse", task_mean=True)
with SummaryWriter(folder) as writer:
    result = train(
        maml,
        maml.model.init(rng),
        lambda: training.sample(25, n_support=10, n_query=10, rng=rng),
        Adam(0.001),
        1000,
        chain(tensorboard_log(writer), lambda state: rates.append(np.ravel(state.inner_lr))),
        rate_optimizer=Adam(0.01),
        on_divergence="skip",
        validation=Sinusoid(part="test").sample(100, n_support=10, n_query=10, rng=1),
        validate_every=50,
    )
    print(f"best validation {result.best.value:.3f} at iteration {result.best.iteration}")

# %%
# One of the things that TensorBoard shows, without it: the inner rates as they are learned.

figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
axes.semilogy(rates, label=["layer 1", "layer 2", "layer 3"])
axes.set(xlabel="iteration", ylabel="inner rate")
axes.legend()
plt.show()
