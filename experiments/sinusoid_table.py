"""The sinusoid table of the MAML paper at 70 000 iterations: exact and first-order MAML.

``python -m experiments.sinusoid_table`` trains three seeds of each, keeps the parameters that were
best on validation tasks, and prints the error on 600 new tasks after 1, 5 and 10 steps. The
published errors of MAML with 5 shots are 0.67, 0.38 and 0.35 (Finn, Abbeel, Levine, ICML 2017,
section 5.1 and figure 3). Support and query both have the shots that the test has.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from fastmaml.experiments import (
    DATASET,
    TEST_STEPS,
    SinusoidExperiment,
    heldout_errors,
    initial_parameters,
)
from fastmaml.learn import Adam, train

N_VALIDATION = 200


def best_on_validation(experiment: SinusoidExperiment) -> tuple[np.ndarray, float]:
    """Meta-train; return the parameters with the least validation error, and the seconds taken."""
    rng = np.random.default_rng(experiment.seed)
    theta = initial_parameters(rng)
    # A stream that neither a training nor the test draws from.
    stream = np.random.default_rng(np.random.SeedSequence(2017, spawn_key=(2,)))
    validation = DATASET.sample(N_VALIDATION, experiment.shots, 100, stream)
    maml = experiment.maml(experiment.inner_steps)
    start = time.perf_counter()
    result = train(
        maml,
        theta,
        lambda: DATASET.sample(experiment.meta_batch, experiment.shots, experiment.shots, rng),
        Adam(experiment.outer_lr),
        experiment.iterations,
        validation=validation,
        validate_every=1000,
    )
    assert result.best is not None  # there was validation
    return result.best.theta, time.perf_counter() - start


def main() -> None:
    """Train, test, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=70_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--orders", nargs="+", default=["exact", "first"])
    parser.add_argument("--shots", type=int, default=5)
    options = parser.parse_args()
    print("| order | seed | steps | mean ± 95 % | median | diverged | training, s |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for order in options.orders:
        means = []
        for seed in options.seeds:
            experiment = SinusoidExperiment(options.iterations, seed, order, options.shots)
            theta, seconds = best_on_validation(experiment)
            tested = [s for s in heldout_errors(experiment, theta) if s.shots == options.shots]
            means.append([summary.mean for summary in tested])
            for s in tested:
                print(
                    f"| {order} | {seed} | {s.steps} | {s.mean:.3f} ± {s.half_width:.3f} | "
                    f"{s.median:.3f} | {s.n_diverged} | {seconds:.1f} |",
                    flush=True,
                )
        for steps, mean in zip(TEST_STEPS, np.mean(means, axis=0), strict=True):
            print(f"| {order} | mean of {len(means)} | {steps} | {mean:.3f} | | | |", flush=True)


if __name__ == "__main__":
    main()
