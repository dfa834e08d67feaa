"""The comparison that tests of states trust: what it tells apart, and what it does not."""

from collections import namedtuple

import numpy as np
import pytest
from same import bits

State = namedtuple("State", ["values", "n"])
Other = namedtuple("Other", ["values", "n"])


def test_same_states_are_the_same_whatever_their_objects() -> None:
    array = np.arange(3.0)
    shared, copied = (array, array), (array, array.copy())
    assert bits(shared) == bits(copied)
    assert bits(np.nan) == bits(float("nan"))
    assert bits({"a": [1, None, "b"]}) == bits({"a": [1, None, "b"]})
    assert bits(np.asfortranarray(np.eye(2))) == bits(np.eye(2))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.0, -0.0),
        (1, 1.0),
        (1, True),
        (1.0, np.float64(1.0)),
        (1.0, np.nextafter(1.0, 2.0)),
        (np.float64(1.0), np.array(1.0)),
        (np.zeros(2), np.zeros(2, np.float32)),
        (np.zeros(2), np.zeros((2, 1))),
        (np.zeros(1), -np.zeros(1)),
        ((1, 2), [1, 2]),
        ((1, 2), (1, 2, None)),
        (State(1, 2), Other(1, 2)),
        (State(1, 2), (1, 2)),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 2}),
        (None, 0),
        ("1", 1),
    ],
    ids=repr,
)
def test_other_states_differ(one: object, other: object) -> None:
    assert bits(one) != bits(other)


@pytest.mark.parametrize("state", [{1}, np.array([None]), object], ids=["set", "objects", "type"])
def test_what_has_no_bits_is_named(state: object) -> None:
    with pytest.raises(TypeError, match="state holds "):
        bits([state])
