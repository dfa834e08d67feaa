"""Losses beside the squared errors against JAX's automatic differentiation of their definitions.

The squared ones are in ``test_jax.py``. Query losses are others than those of the inner steps in a
third of the cases.
"""

import jax_reference
import pytest
from cases import METHODS, draw, relative_error

import fastmaml as fm

pytestmark = pytest.mark.peers

TOLERANCE = {"float64": 1e-11, "float32": 2e-4}
OBJECTS = (
    fm.Huber(), fm.Huber(delta=0.3, mean=False), fm.PseudoHuber(), fm.PseudoHuber(2.0, mean=False),
    fm.LogCosh(), fm.LogCosh(mean=False), fm.Quantile(0.9, 0.3), fm.Quantile(0.5, mean=False),
    fm.GaussianNLL(), fm.GaussianNLL(mean=False), fm.Logistic(), fm.Logistic(mean=False),
    fm.Softmax(), fm.Softmax(mean=False), fm.Poisson(), fm.Poisson(mean=False),
)  # fmt: skip
COUPLED = (fm.GaussianNLL, fm.Softmax)
CASES = range(128)


def case_of(number):
    """The problem of a number: losses, steps, momentum and outputs go by it, the rest is drawn."""
    loss = OBJECTS[number % len(OBJECTS)]
    round_ = number // len(OBJECTS)
    query_loss = OBJECTS[(number * 7 + 3) % len(OBJECTS)] if round_ % 3 == 2 else None
    coupled = isinstance(loss, COUPLED) or isinstance(query_loss, COUPLED)
    fixed = {"loss": loss, "steps": round_ % 6, "n_outputs": 2 if coupled else 1 + round_ % 3}
    if query_loss is not None:
        fixed |= {"query_loss": query_loss, "query": ("equal", "ragged")[number % 2]}
    if number % 4 == 3:
        fixed["inner_momentum"] = 0.5
    return draw(30_000 + number, **fixed)


@pytest.mark.parametrize("number", CASES)
def test_losses(number):
    case = case_of(number)
    *want, adapted = jax_reference.evaluate(case)
    for method, forms in METHODS.items():
        if case.form not in forms or (method == "factored" and case.inner_momentum):
            continue
        maml = case.maml(method)
        for dtype, tolerance in TOLERANCE.items():
            theta = case.theta.astype(dtype)
            got = maml.evaluate(theta, *case.data)
            for one, other, name in zip(got, want, got._fields, strict=True):
                assert relative_error(one, other) <= tolerance, (method, dtype, name)
            found = maml.adapt(theta, *case.data[:2])
            assert relative_error(found, adapted) <= tolerance, (method, dtype)


def test_all_kinds_are_drawn():
    cases = [case_of(number) for number in CASES]
    kinds = {type(each) for each in OBJECTS}
    assert {type(case.loss) for case in cases} == kinds
    assert {type(case.query_loss) for case in cases if case.query_loss is not None} == kinds
    assert {case.steps for case in cases} == set(range(6))
    assert any(case.step_weights is not None for case in cases)
