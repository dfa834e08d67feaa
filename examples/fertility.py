"""
The fertility of countries
==========================

Real repeated measures: forecast the fertility of a country from its first ten years.
docs/fertility.md has the table and the picture and says who wins; it takes most of a minute, so
where the site is built this program is shown and not run.

Each task is a country of statsmodels' data set ``fertility``: births per woman and year, 1960 to
2011, from the World Bank. Contenders learn from 100 countries, whole, and then forecast 88 others
from 1970 on, of which they see 1960 to 1969. Needs the extra ``examples``::

    python examples/fertility.py                        the table, in less than a minute
    python examples/fertility.py --picture errors.png   and a picture
    python examples/fertility.py --quick                far too little training, to see it run
"""

# sphinx_gallery_thumbnail_path = "fertility.png"

import argparse
import warnings

import numpy as np
import statsmodels.api as sm
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

import fastmaml as fm
from fastmaml.learn import Adam, MAMLRegressor, Scaling, train

# Not countries: the rows of these names are aggregates of others.
AGGREGATES = [
    "Latin America & Caribbean (all income levels)",
    "OECD members",
    "Other small states",
    "Pacific island small states",
    "Sub-Saharan Africa (IFC classification)",
]
YEARS = np.arange(1960, 2012)
KNOWN = 10  # years of a new country
TIME = np.linspace(-1.0, 1.0, len(YEARS))
N_TRAINING = 100
SEEDS = range(3)  # of the networks


def load():
    """Names and births per woman, (n_countries, n_years), of the countries without gaps."""
    table = sm.datasets.fertility.load_pandas().data.set_index("Country Name")
    table = table.drop(index=AGGREGATES)[[str(year) for year in YEARS]].astype(float).dropna()
    return table.index.to_numpy(), table.to_numpy()


# The contenders: whole curves of the training countries, first years of others -> later years -----


def last_value(curves, first, seed, quick):
    return np.repeat(first[:, -1:], len(YEARS) - KNOWN, axis=1)


def ridge(curves, first, seed, quick):
    """A line for each country, by ridge regression on its own years."""
    x, x_later = TIME[:KNOWN, None], TIME[KNOWN:, None]
    return np.array([Ridge(alpha=0.1).fit(x, own).predict(x_later) for own in first])


def empirical_bayes(curves, first, seed, quick, degree=3):
    """Cubics whose coefficients are normal over countries, the prior estimated by moments.

    y = A b + noise, b ~ N(mean, covariance): mean and covariance are those of the training
    countries' least-squares coefficients, less what the noise adds. A new country gets E[b | y].
    """
    basis = np.polynomial.legendre.legvander(TIME, degree)
    coefficients = np.linalg.lstsq(basis, curves.T)[0].T
    residuals = curves - coefficients @ basis.T
    noise = np.sum(residuals**2) / (len(curves) * (len(YEARS) - degree - 1))
    mean = coefficients.mean(axis=0)
    covariance = np.cov(coefficients.T) - noise * np.linalg.inv(basis.T @ basis)
    values, vectors = np.linalg.eigh(covariance)
    covariance = vectors * np.maximum(values, 0.0) @ vectors.T
    own, later = basis[:KNOWN], basis[KNOWN:]
    gain = covariance @ own.T @ np.linalg.inv(own @ covariance @ own.T + noise * np.eye(KNOWN))
    return (mean + (first - own @ mean) @ gain.T) @ later.T


def told_network(curves, first, seed, quick):
    """A network whose inputs are the ten known values and the year to forecast."""

    def rows(values):
        later = np.tile(TIME[KNOWN:, None], (len(values), 1))
        return np.hstack([np.repeat(values, len(YEARS) - KNOWN, axis=0), later])

    inputs = StandardScaler().fit(rows(curves[:, :KNOWN]))
    target = StandardScaler().fit(curves[:, KNOWN:].reshape(-1, 1))
    network = MLPRegressor(
        hidden_layer_sizes=(40, 40),
        activation="tanh",
        max_iter=2 if quick else 60,
        random_state=seed,
    )
    network.fit(
        inputs.transform(rows(curves[:, :KNOWN])),
        target.transform(curves[:, KNOWN:].reshape(-1, 1)).ravel(),
    )
    later = network.predict(inputs.transform(rows(first)))
    return target.inverse_transform(later[:, None]).reshape(len(first), -1)


def long_format(curves, years):
    """Rows of one input, the year, their targets, and the number of the country of each."""
    groups = np.repeat(np.arange(len(curves)), len(years))
    return np.tile(years.astype(np.float32)[:, None], (len(curves), 1)), curves.ravel(), groups


def adapted(regressor, first):
    x_later, _, groups = long_format(np.empty((len(first), len(YEARS) - KNOWN)), YEARS[KNOWN:])
    later = regressor.adapt_predict(*long_format(first, YEARS[:KNOWN]), x_later, groups)
    return later.reshape(len(first), -1)


def pooled(curves, seed):
    """All rows of all countries in one network: MAML without inner steps."""
    regressor = MAMLRegressor(
        (20, 20),
        steps=0,
        shots=len(YEARS) // 2,  # which serve nothing here; the others are learned from
        learning_rate_init=0.01,
        max_iter=600,
        random_state=seed,
    )
    return regressor.fit(*long_format(curves, YEARS))


def pooled_network(curves, first, seed, quick):
    return adapted(pooled(curves, seed), first)


def fine_tuned_network(curves, first, seed, quick):
    """The pooled network after a hundred gradient steps on the country's own years."""
    return adapted(pooled(curves, seed).set_params(steps=100, inner_lr=0.2), first)


def maml(curves, first, seed, quick):
    """The same network, meta-trained: five gradient steps on the country's own years."""
    regressor = MAMLRegressor(
        (20, 20),
        steps=5,
        inner_lr=0.05,
        shots=KNOWN,
        shuffle=False,
        learning_rate_init=0.01,
        max_iter=40 if quick else 1500,
        random_state=seed,
    )
    return adapted(regressor.fit(*long_format(curves, YEARS)), first)


def closed_form(curves, first, seed, quick):
    """The same network and a linear layer; the output layer alone adapts, to its optimum."""
    model = fm.MLP([1, 20, 20, 20, 1], ["tanh", "tanh", "identity"])
    head = fm.BayesianLastLayer(model, loss="mse", task_mean=True)
    x, y = np.tile(YEARS[:, None], (len(curves), 1, 1)), curves[:, :, None]
    scaling = Scaling.fit(x, y)
    x, y = scaling.scale_x(x), scaling.scale_y(y)
    tasks = x[:, :KNOWN], y[:, :KNOWN], x[:, KNOWN:], y[:, KNOWN:]

    rng = np.random.default_rng(seed)
    order = rng.permutation(len(curves))
    aside, others = np.split(order, [len(curves) // 10])  # a tenth says which parameters are kept

    def batch():
        drawn = rng.choice(others, 25, replace=False)
        return tuple(rows[drawn] for rows in tasks)

    result = train(
        head,
        head.init(rng),
        batch,
        Adam(0.01),
        40 if quick else 1500,
        clip_norm=10.0,
        validation=tuple(rows[aside] for rows in tasks),
        validate_every=20 if quick else 50,
        patience=20,
    )
    later = head.predict(
        result.best.theta,
        np.tile(x[:1, :KNOWN], (len(first), 1, 1)),
        scaling.scale_y(first[:, :, None]),
        x[0, KNOWN:],
    )
    return scaling.unscale_y(later)[:, :, 0]


CONTENDERS = {
    "last value": last_value,
    "ridge, own years": ridge,
    "pooled network": pooled_network,
    "pooled, fine-tuned": fine_tuned_network,
    "MAML": maml,
    "closed form": closed_form,
    "empirical Bayes": empirical_bayes,
    "network told the years": told_network,
}
NETWORKS = (pooled_network, fine_tuned_network, maml, closed_form, told_network)


# The comparison ----------------------------------------------------------------------------------


def forecasts(curves, first, quick):
    """Forecasts (n_seeds, n_countries, n_later) of each contender; one seed if it has no chance."""
    return {
        name: np.array(
            [
                contender(curves, first, seed, quick)
                for seed in (SEEDS if contender in NETWORKS and not quick else [0])
            ]
        )
        for name, contender in CONTENDERS.items()
    }


def interval(errors, n_draws=10_000):
    """95 % of the mean of (n_countries,) numbers, by bootstrap over countries."""
    rng = np.random.default_rng(0)  # the same countries for all: the intervals are paired
    draws = rng.integers(len(errors), size=(n_draws, len(errors)))
    return np.quantile(errors[draws].mean(axis=1), [0.025, 0.975])


def table(errors):
    lines = [f"{'':22}  {'error':>5}  {'95 %':^13}  {'minus MAML':>10}  {'95 %':^15}"]
    for name, own in errors.items():
        line = "{:22}  {:5.3f}  {:5.3f} – {:5.3f}".format(name, own.mean(), *interval(own))
        if name != "MAML":
            difference = own - errors["MAML"]
            line += "  {:+10.3f}  {:+6.3f} – {:+6.3f}".format(
                difference.mean(), *interval(difference)
            )
        lines.append(line)
    return "\n".join(lines)


COLOURS = {
    "last value": "#9a9a9a",
    "ridge, own years": "#b8b08d",
    "pooled network": "#c7a0c0",
    "pooled, fine-tuned": "#7b3294",
    "MAML": "#d6301d",
    "closed form": "#e08214",
    "empirical Bayes": "#2166ac",
    "network told the years": "#1b7837",
}
SHOWN = (
    "last value",
    "pooled, fine-tuned",
    "MAML",
    "closed form",
    "empirical Bayes",
    "network told the years",
)


def picture(path, names, truth, predicted, errors):
    """Errors with intervals, errors by year, and the first six of the new countries."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 9), dpi=120, layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.35])
    left, right = top.subplots(1, 2)
    for place, (name, own) in enumerate(reversed(errors.items())):
        left.plot(interval(own), [place, place], color=COLOURS[name], linewidth=3)
        left.plot(own.mean(), place, "o", color=COLOURS[name])
        by_year = np.sqrt(np.mean((predicted[name] - truth[:, KNOWN:]) ** 2, axis=(0, 1)))
        right.plot(YEARS[KNOWN:], by_year, color=COLOURS[name], linewidth=1.8)
    left.set_yticks(range(len(errors)), reversed(errors))
    left.set_xlim(0, None)
    left.set_xlabel("mean error of a country, births per woman, with 95 % interval")
    right.set_ylim(0, None)
    right.set_ylabel("RMSE over countries")
    right.set_title("Error by forecast year", fontsize=10)
    left.set_title(f"{len(truth)} new countries, 1970 to 2011", fontsize=10)
    panels = bottom.subplots(2, 3, sharex=True, sharey=True)
    for i, axes in enumerate(panels.flat):
        axes.plot(YEARS, truth[i], color="#222222", linewidth=4, alpha=0.25, label="truth")
        axes.plot(YEARS[:KNOWN], truth[i, :KNOWN], ".", color="#222222", label="known")
        for name in SHOWN:
            axes.plot(YEARS[KNOWN:], predicted[name][0, i], color=COLOURS[name], label=name)
        axes.set_title(names[i], fontsize=10)
        axes.set_ylim(0, 9)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    bottom.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    bottom.supylabel("births per woman", fontsize=10)
    for axes in (left, right, *panels.flat):
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description="Forecast the fertility of countries.")
    parser.add_argument("--quick", action="store_true", help="hardly any training")
    parser.add_argument("--picture", metavar="FILE", help="write a picture")
    arguments = parser.parse_args(None if "__file__" in globals() else [])  # a notebook has none
    # Its number of epochs was chosen, it is not meant to converge.
    warnings.simplefilter("ignore", ConvergenceWarning)

    names, curves = load()
    order = np.random.default_rng(0).permutation(len(curves))
    training, new = order[:N_TRAINING], order[N_TRAINING:]
    truth = curves[new]
    predicted = forecasts(curves[training], truth[:, :KNOWN], arguments.quick)
    # The error of a country: the root mean square over its later years, averaged over seeds.
    errors = {
        name: np.sqrt(np.mean((later - truth[:, KNOWN:]) ** 2, axis=2)).mean(axis=0)
        for name, later in predicted.items()
    }
    print(
        f"{len(training)} countries to learn from, {len(new)} new ones, of which "
        f"{YEARS[0]} to {YEARS[KNOWN - 1]} are known\n"
        f"Error of the forecast, {YEARS[KNOWN]} to {YEARS[-1]}, births per woman\n\n"
        f"{table(errors)}"
    )
    if arguments.picture:
        picture(arguments.picture, names[new], truth, predicted, errors)


if __name__ == "__main__":
    main()
