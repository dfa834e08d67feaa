"""The examples as notebooks, as the site offers them, run from the first cell to the last."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

notebook = pytest.importorskip("sphinx_gallery.notebook")

EXAMPLES = Path(__file__).parents[1] / "examples"
#: less of what takes long: what is replaced, and by what
SHORTER = {
    "adapt_to_a_wave": [("10_000", "60"), ("3000", "60")],
    "digits": [(" else [])", ' else ["--quick"])')],
    "fertility": [(" else [])", ' else ["--quick"])')],
    "million_tasks": [("default=1_000_000", "default=4000"), ("default=10_000", "default=200")],
    "pytorch_training_loop": [("else 200", "else 5")],
    "tensorboard_log": [("        1000,", "        60,")],
}
#: libraries of extras that not everybody who runs the tests has
NEEDS = {
    "digits": "sklearn",
    "fertility": "statsmodels",
    "grey_box": "sympy",
    "million_tasks": "distributed",
    "pytorch_training_loop": "torch",
    "tensorboard_log": "tensorboardX",
}
# As Jupyter runs it: cell by cell, without a file, and with a command line that is the kernel's.
RUN = """
import json, sys, warnings
file = sys.argv[1]
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")
sys.argv[1:] = ["-f", "/tmp/kernel-1.json"]
space = {"__name__": "__main__"}
for cell in json.load(open(file, encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), "cell", "exec"), space)
"""


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_runs_top_to_bottom(name: str, tmp_path: Path) -> None:
    pytest.importorskip(NEEDS.get(name, "numpy"))
    shutil.copy(EXAMPLES / f"{name}.py", tmp_path)
    notebook.python_to_jupyter_cli([str(tmp_path / f"{name}.py")])
    made = tmp_path / f"{name}.ipynb"
    content = json.loads(made.read_text(encoding="utf-8"))
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    first = "".join(content["cells"][0]["source"])
    assert content["cells"][0]["cell_type"] == "markdown"
    assert first.lstrip().startswith("# ")
    for old, new in SHORTER.get(name, []):
        assert sum("".join(cell["source"]).count(old) for cell in code) > 0, old
        for cell in code:
            cell["source"] = "".join(cell["source"]).replace(old, new)
    made.write_text(json.dumps(content), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(made)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg"},
    )
    assert done.returncode == 0, done.stderr
