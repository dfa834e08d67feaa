"""asv: one task at a time, as adaptive control calls it."""

from __future__ import annotations

import fastmaml as fm

from .workloads import DTYPES, problem


class Latency:
    """One task of the ``sin`` workload."""

    params = (DTYPES,)
    param_names = ("dtype",)

    def setup(self, dtype: str) -> None:
        work = problem("sin", dtype, "relu")
        self.model = fm.MLP(work.layers, work.activation)
        self.maml = fm.MAML(self.model, inner_lr=work.inner_lr, steps=work.steps)
        self.theta = work.theta
        self.x, self.y, self.x_new = work.x[:1], work.y[:1], work.x_query[:1]
        self.adapted = self.maml.adapt(self.theta, self.x, self.y)
        self.model.predict(self.adapted, self.x_new)
        self.maml.predict(self.theta, self.x, self.y, self.x_new)

    def time_adapt(self, dtype: str) -> None:
        self.maml.adapt(self.theta, self.x, self.y)

    def time_predict_adapted(self, dtype: str) -> None:
        self.model.predict(self.adapted, self.x_new)

    def time_adapt_and_predict(self, dtype: str) -> None:
        self.maml.predict(self.theta, self.x, self.y, self.x_new)
