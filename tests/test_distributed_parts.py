"""What a fleet is made of, without a cluster: shares, who has them, and sums in a fixed order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmaml.distributed.shares import as_shares, assign, cut
from fastmaml.distributed.sums import TreeSum


def total(terms, owners, order):
    """The sum of terms as their owners would add them up, who answer in any order."""
    parts = {owner: TreeSum(len(terms)) for owner in set(owners)}
    for place in order:
        parts[owners[place]].put((0, place), terms[place])
    whole = TreeSum(len(terms))
    for owner in dict.fromkeys(owners[place] for place in order):
        for node, term in parts[owner].nodes.items():
            assert whole.total is None
            whole.put(node, term)
    assert len(whole.nodes) == 1
    return whole.total


@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_sum_has_the_same_bits_whoever_adds_it_up(n_terms, random):
    terms = [
        np.array([random.uniform(-1, 1) * 10 ** random.uniform(-9, 9)]) for _ in range(n_terms)
    ]
    owners = [random.randrange(5) for _ in terms]
    order = random.sample(range(n_terms), n_terms)
    expected = total(terms, [0] * n_terms, range(n_terms))
    assert total(terms, owners, order).tobytes() == expected.tobytes()
    np.testing.assert_allclose(expected, np.sum(terms), atol=1e-6)


def test_who_has_a_run_of_terms_keeps_few_sums():
    part = TreeSum(64)
    for place in range(3, 61):
        part.put((0, place), np.ones(1))
    assert sorted(part.nodes) == [(0, 3), (0, 60), (2, 1), (2, 14), (3, 1), (3, 6), (4, 1), (4, 2)]


@pytest.mark.parametrize("n_shares", [1, 2, 3, 7])
def test_tasks_are_cut_into_runs(n_shares):
    x, y = np.arange(7.0).reshape(7, 1, 1), [np.full((1, 1), i) for i in range(7)]
    shares = cut((x, y, None, None), n_shares)
    lengths = [len(share[0]) for share in shares]
    assert len(shares) == n_shares
    assert max(lengths) - min(lengths) <= 1
    np.testing.assert_array_equal(np.concatenate([share[0] for share in shares]), x)
    np.testing.assert_array_equal(np.concatenate([share[1] for share in shares]), y)
    assert all(share[2:] == (None, None) for share in shares)


def test_what_is_cut_is_a_copy():
    x = np.zeros((2, 1, 1))
    (share,) = cut((x, [x[0], x[1]]), 1)
    x[...] = 1
    assert not np.any(share[0])
    assert not np.any(share[1])


@given(
    st.integers(1, 30),
    st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True),
    st.dictionaries(st.integers(0, 29), st.integers(0, 9)),
)
def test_all_shares_are_assigned_in_equal_numbers(n_shares, workers, owners):
    plan = assign(range(n_shares), workers, owners)
    assert sorted(share for part in plan.values() for share in part) == list(range(n_shares))
    assert set(plan) <= set(workers)
    assert max(map(len, plan.values())) == -(-n_shares // len(workers))


def test_no_share_moves_without_need():
    plan = assign(range(10), ["a", "b"], {})
    owners = {share: worker for worker, part in plan.items() for share in part}
    assert assign(range(10), ["b", "a"], owners) == plan
    after = assign(range(10), ["a", "c"], owners)  # b is gone, and c has come
    assert after == {"a": plan["a"], "c": plan["b"]}
    more = assign(range(10), ["a", "b", "c"], owners)
    assert set(more["a"]) < set(plan["a"])
    assert set(more["b"]) < set(plan["b"])


def test_shares_of_a_batch():
    assert as_shares("batch", None, 3) == [0, 1, 2]
    assert as_shares("batch", (2, 0), 3) == [0, 2]
    assert as_shares("batch", np.array([1]), 3) == [1]


@pytest.mark.parametrize("given", [[], [3], [-1], [0, 0], 1, [0.5], "01", [[0]], [True], object()])
def test_what_is_no_share(given):
    accepted = "accepted are distinct integers from 0 to 2, the shares of the batch, and None"
    with pytest.raises(ValueError, match=accepted):
        as_shares("batch", given, 3)
