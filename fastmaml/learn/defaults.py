"""What learns well on tables of repeated measures: one place for all that needs defaults.

The estimators and the configuration that ``fastmaml init`` writes begin with these. They suppose
standardised data.
"""

from __future__ import annotations

HIDDEN_LAYER_SIZES = (40, 40)
ACTIVATION = "tanh"
#: where the inner rates start that are then learned, one for each step and layer
INNER_LR = 0.05
STEPS = 5
META_BATCH = 25
LEARNING_RATE = 1e-3
#: the logarithms of the inner rates are learned so much faster than the parameters
RATE_FACTOR = 10.0
CLIP_NORM = 10.0
ITERATIONS = 5000
#: share of the tasks that validate
VALIDATION_FRACTION = 0.1
#: iterations from one validation to the next, or a twentieth of all if that is less
CHECK_EVERY = 50
#: validations without a new best after which a training ends
PATIENCE = 20
#: the layers of a Bayesian last layer: those above, and a linear one of 20 features
HEAD_LAYER_SIZES = (*HIDDEN_LAYER_SIZES, 20)
#: of its training, in which the noise comes down from 1: at 1e-3 by a factor of e in 1000 updates
HEAD_LEARNING_RATE = 3e-3
