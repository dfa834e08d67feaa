"""A made calibration table: what a maker of gas sensors has in a file, with a file's troubles.

80 devices of three types were each held into 12 to 40 mixtures of a known concentration. A device
answers in millivolts, with a gain, an offset, a curvature and a temperature drift of its own. Asked
for is the concentration from reading, temperature, pressure and type. Six of a hundred measured
cells are missing, one more device has a single row, and the rows lie in the order of time.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_DEVICES, ROWS, MISSING = 80, (12, 40), 0.06
TYPES = ("MX-2", "MX-3", "TGS")
GAIN = np.array([12.0, 15.0, 9.0])  # mV per ppm, of each type
DRIFT = np.array([-1.5, -0.5, 2.0])  # mV per kelvin
MEASURED = ("reading_mV", "temperature_C", "pressure_kPa", "concentration_ppm")
COLUMNS = ("device", "type", *MEASURED)

Columns = dict[str, NDArray[Any]]


def calibration_table(seed: int = 0) -> Columns:
    """Return the columns by name: text, and float64 with NaN for a cell that is missing."""
    rng = np.random.default_rng(seed)
    counts = np.append(rng.integers(ROWS[0], ROWS[1] + 1, N_DEVICES), 1)
    n = len(counts)
    kind = rng.integers(len(TYPES), size=n)
    gain = GAIN[kind] * rng.lognormal(0.0, 0.15, n)
    offset = rng.normal(2300.0, 120.0, n)
    curvature = rng.normal(-0.03, 0.02, n)  # mV per ppm²
    drift = DRIFT[kind] + rng.normal(0.0, 0.8, n)

    device = rng.permutation(np.repeat(np.arange(n), counts))
    concentration = rng.uniform(0.0, 80.0, len(device))
    temperature = rng.uniform(-20.0, 60.0, len(device))
    pressure = rng.uniform(90.0, 110.0, len(device))
    amount = (concentration - 40.0) * pressure / 101.3
    reading = offset[device] + gain[device] * amount + curvature[device] * amount**2
    warmer = temperature - 20.0
    reading += drift[device] * warmer + 0.02 * warmer**2
    reading += rng.normal(0.0, 8.0, len(device))

    columns = {
        "device": np.array([f"dev-{i + 1:03d}" for i in range(n)])[device],
        "type": np.array(TYPES)[kind[device]],
        "reading_mV": reading.round(1),
        "temperature_C": temperature.round(1),
        "pressure_kPa": pressure.round(2),
        "concentration_ppm": concentration.round(2),
    }
    for name in MEASURED:
        # The lone row stays whole, so that it is the lone row and not a missing cell that is met.
        columns[name][(rng.random(len(device)) < MISSING) & (device < N_DEVICES)] = np.nan
    return columns


def write_csv(path: Path, columns: Columns) -> None:
    """Write a table as a CSV file; a missing cell is empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in zip(*(column.tolist() for column in columns.values()), strict=True):
            writer.writerow("" if cell != cell else cell for cell in row)


def complete_rows(columns: Columns) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return X, y and devices of the rows without a missing cell; the type is one column each."""
    whole = np.isfinite([columns[name] for name in MEASURED]).all(axis=0)
    inputs = [columns[name] for name in MEASURED[:-1]]
    inputs += [(columns["type"] == kind).astype(float) for kind in TYPES]
    x = np.stack(inputs, axis=1)[whole]
    return x, columns[MEASURED[-1]][whole], columns["device"][whole]
