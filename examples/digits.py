"""
Digits of which there is a glimpse
==================================

Few-shot classification of scikit-learn's digits: tell classes apart of which there is an image or
five. docs/digits.md has the table and says who wins; it takes some minutes, so where the site is
built this program is shown and not run.

A task is a handful of digits, which its labels number in an order of its own: what is 0 in one task
may be 1 in the next, so nothing can be predicted before a task has been adapted to. Contenders see
one or five images of each class, and are judged by others.

* Pairs: MAML learns from pairs of six digits, and is tried on pairs of the four others.
* Fives: any five of the ten digits. The digits are known then; images and their numbering are new.

Needs the extra ``examples``::

    python examples/digits.py            the table, in some minutes
    python examples/digits.py --quick    far too little training, to see it run
"""

import argparse
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from fastmaml.learn import MAMLClassifier

SHOTS = (1, 5)
N_QUERY = 10  # images of each class in a task, beside those that are shown
SEEDS = range(3)  # of the digits that are held out, the tasks and the networks


def tasks(pools, n_ways, n_shots, n_tasks, rng):
    """Tasks as (images of support, their labels, images of query, their labels).

    `pools` has the images of each digit that may be drawn.
    """
    for _ in range(n_tasks):
        classes = rng.choice(len(pools), n_ways, replace=False)
        drawn = [rng.permutation(pools[c])[: n_shots + N_QUERY] for c in classes]
        support = np.concatenate([images[:n_shots] for images in drawn])
        query = np.concatenate([images[n_shots:] for images in drawn])
        label = np.arange(n_ways)
        yield support, label.repeat(n_shots), query, label.repeat(N_QUERY)


# The contenders: training pools, a new task -> labels of its query images -------------------------


def maml(pools, n_ways, n_shots, seed, quick):
    """One row an image, and the number of its task as its group."""
    rng = np.random.default_rng(seed)
    X, y, groups = [], [], []
    drawn = tasks(pools, n_ways, n_shots, 60 if quick else 300, rng)
    for i, (x, label, x_query, label_query) in enumerate(drawn):
        X += [x, x_query]
        y += [label, label_query]
        groups += [i] * (len(x) + len(x_query))
    classifier = MAMLClassifier(
        (64,), shots=n_ways * n_shots, random_state=seed, max_iter=50 if quick else 1500
    )
    return classifier.fit(np.concatenate(X), np.concatenate(y), groups).adapt


def logistic_regression(pools, n_ways, n_shots, seed, quick):
    return lambda x, label: LogisticRegression(max_iter=1000).fit(x, label)


def nearest_centroid(pools, n_ways, n_shots, seed, quick):
    def fit(x, label):
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            warnings.simplefilter("ignore", UserWarning)  # of the spread of one image, and of edges
            return NearestCentroid().fit(x, label)

    return fit


CONTENDERS = {
    "MAML": maml,
    "logistic regression": logistic_regression,
    "nearest centroid": nearest_centroid,
}


def pools_of(images, digits, which, seed):
    """Images of the digits to learn from, and of those to be tried on."""
    rng = np.random.default_rng([seed, 1])
    own = [rng.permutation(images[digits == digit]) for digit in range(10)]
    if which == "pairs":
        order = rng.permutation(10)
        return [own[d] for d in order[:6]], [own[d] for d in order[6:]]
    return [each[: len(each) // 2] for each in own], [each[len(each) // 2 :] for each in own]


def accuracies(which, n_ways, n_shots, n_tasks, quick):
    """Of each contender, the accuracy in each of the tasks of all seeds."""
    images, digits = load_digits(return_X_y=True)
    found = {name: [] for name in CONTENDERS}
    for seed in SEEDS[:1] if quick else SEEDS:
        known, new = pools_of(images / 16.0, digits, which, seed)
        for name, contender in CONTENDERS.items():
            fit = contender(known, n_ways, n_shots, seed, quick)
            rng = np.random.default_rng([seed, 2])
            for x, label, x_query, label_query in tasks(new, n_ways, n_shots, n_tasks, rng):
                found[name].append(np.mean(fit(x, label).predict(x_query) == label_query))
    return found


def main():
    parser = argparse.ArgumentParser(description="Few-shot classification of digits.")
    parser.add_argument("--quick", action="store_true", help="too little training, to see it run")
    quick = parser.parse_args(None if "__file__" in globals() else []).quick  # a notebook has none
    warnings.simplefilter("ignore", ConvergenceWarning)  # of the budget above
    if quick:
        warnings.filterwarnings("ignore", "the .* are predicted worse than")
    _, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axes, which, n_ways in zip(panels, ("pairs", "fives"), (2, 5), strict=True):
        print(f"{which}: accuracy in new tasks, and its standard error; by chance {1 / n_ways:.1f}")
        n_tasks = 20 if quick else 200
        columns = [accuracies(which, n_ways, shots, n_tasks, quick) for shots in SHOTS]
        print(f"{'':20}{'1 image a class':>20}{'5 images a class':>20}")
        for name in CONTENDERS:
            cells = [(np.mean(c[name]), np.std(c[name]) / np.sqrt(len(c[name]))) for c in columns]
            print(f"{name:20}" + "".join(f"{mean:12.3f} ± {error:.3f}" for mean, error in cells))
            axes.errorbar(SHOTS, *zip(*cells, strict=True), marker="o", capsize=3, label=name)
        axes.axhline(1 / n_ways, color="0.6", linestyle=":", label="by chance")
        axes.set(title=which, xlabel="images of each class", xticks=SHOTS, ylim=(0, 1))
    panels[0].set_ylabel("accuracy in new tasks")
    panels[0].legend(loc="lower right")
    plt.show()


if __name__ == "__main__":
    main()
