"""Random learned models as C, with a fixed seed: as near to Python as is promised."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from exported import exported, random_rows, random_subject

import fastmaml as fm
from fastmaml.saving import predicted

SEED = int(os.environ.get("FUZZ_SEED", "0"))
N_OBJECTIVES = 200
#: relative to the largest number, or to the scale of y; Python computes in float64 for both
TOLERANCES = {"float64": 1e-12, "float32": 1e-5}


@pytest.mark.fuzz
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_exported_objectives(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng([SEED, 13])
    subjects = [random_subject(rng) for _ in range(N_OBJECTIVES)]
    models = exported(tmp_path, subjects, [dtype] * N_OBJECTIVES)
    for i, (subject, model) in enumerate(zip(subjects, models, strict=True)):
        head = isinstance(subject.learner, fm.BayesianLastLayer)
        theta = subject.theta.astype(np.float64)
        x, y = random_rows(rng, subject, int(rng.integers(1, 12)))
        x_new, _ = random_rows(rng, subject, 4)
        assert model.adapt(x, y) == 0, (i, subject)
        found = model.predict(x_new, std=head)
        wanted = predicted(subject.learner, theta, subject.scaling, x, y, x_new, head)
        pairs = list(zip(found, wanted, strict=True)) if head else [(found, wanted)]
        for place, (one, other) in enumerate(pairs):
            least = 0.0
            scaling = subject.scaling_of("y")
            if scaling is not None and place == 0:
                one, other = scaling.scale_y(one), scaling.scale_y(other)
                least = 1.0
            size = max(np.abs(other).max(), least)
            assert np.abs(one - other).max() <= TOLERANCES[dtype] * size, (i, subject)
