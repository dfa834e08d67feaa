"""One C99 file and its header: a learned model that adapts and predicts without Python."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import IO, Any, NamedTuple

from numpy.typing import ArrayLike, DTypeLike

from ..checks import as_float_dtype
from ..files import write_whole
from ..learn import Scaling
from ..maml import MAML
from ..version import __version__
from .last_layer import last_layer_parts
from .parts import Parts
from .steps import steps_parts
from .subject import Subject, subject_of
from .text import Dialect, as_prefix, comment

__all__ = ["Sources", "sources_of", "to_c"]

HEADER = """\
/* $title

$about */

#ifndef ${P}_H
#define ${P}_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ${P}_N_INPUTS $n_inputs
#define ${P}_N_OUTPUTS $n_outputs
#define ${P}_N_TARGETS $n_targets /* of a row of y */

/* All that changes, and all memory to work in: one for each task, used by one thread at a time */
typedef struct {
$members
} ${p}_state;
$prototypes
#ifdef __cplusplus
}
#endif

#endif
"""

SOURCE = """\
/* $title See ${p}.h. */

#include "$header"

#include <math.h>

$tables$functions"""


class Sources(NamedTuple):
    """The two files, as texts."""

    header: str
    source: str


def to_c(
    objective: Any,
    theta: ArrayLike | None = None,
    *,
    path: str | Path,
    prefix: str | None = None,
    dtype: DTypeLike | None = None,
    scaling: Scaling | None = None,
) -> None:
    """Write a learned model as one C99 file and its header, which adapt and predict.

    The code needs ``math.h`` and nothing else; it neither allocates nor recurses, and all its
    memory is a struct that the caller has. The comment in the header says how large that is, what
    the constants take, and what each call costs. A `MAML` adapts by its gradient steps, a
    `BayesianLastLayer` in closed form, or a row at a time, with standard deviations.

    Parameters
    ----------
    objective : MAML, BayesianLastLayer or Reptile
        With the inner rates that were learned, and an `MLP` or a `Linear` as its model. Or, alone,
        what has all that follows: ``fastmaml.load(path)``, or a fitted regressor of
        `fastmaml.learn`.
    theta : array_like, shape (P,)
        The meta-parameters.
    path : str or Path
        Of the C file, a name that ends in ``.c``. The header is the same with ``.h``. Existing
        files are replaced.
    prefix : str, optional
        What all names begin with; by default the name of the file.
    dtype : dtype, optional
        float64 for ``double``, float32 for ``float``; by default that of theta.
    scaling : Scaling, optional
        Then what goes in and comes out is in the user's units.

    Raises
    ------
    TypeError, ValueError
        For arguments of another kind, another model or loss than can be written, and numbers that
        the dtype cannot hold.
    OSError
        If a file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import fastmaml as fm
    >>> maml = fm.MAML(fm.MLP([1, 8, 1]), inner_lr=0.01)
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> fm.export.to_c(maml, maml.model.init(0), path=folder / "servo.c", dtype="float32")
    >>> sorted(file.name for file in folder.iterdir())
    ['servo.c', 'servo.h']
    >>> "int servo_adapt(servo_state *s, " in (folder / "servo.h").read_text()
    True
    """
    target = Path(path)
    if target.suffix != ".c":
        raise ValueError(f"path is {str(target)!r}; accepted are names that end in .c")
    if not re.fullmatch(r"[A-Za-z0-9_.+ -]+", target.name):  # it stands in an #include
        raise ValueError(
            f"path is {str(target)!r}; accepted are names of letters, digits and _ . + - of ASCII, "
            "and blanks"
        )
    subject = subject_of(objective, theta, scaling)
    chosen = subject.theta.dtype if dtype is None else as_float_dtype("dtype", dtype)
    begin = as_prefix("prefix", target.stem if prefix is None else prefix)
    header = target.with_suffix(".h")
    sources = sources_of(subject, Dialect(begin, chosen), header.name)

    def write(file: IO[bytes]) -> None:
        file.write(sources.source.encode("ascii"))
        file.flush()
        # Before the name of the C file is taken: if one cannot be written, neither is.
        write_whole(header, lambda beside: beside.write(sources.header.encode("ascii")))

    write_whole(target, write)


def sources_of(subject: Subject, c: Dialect, header: str | None = None) -> Sources:
    """Return the texts of the header and of the C file, which includes it by the name `header`."""
    gradient_steps = isinstance(subject.learner, MAML)
    parts = (steps_parts if gradient_steps else last_layer_parts)(c, subject)
    title = f"{c.prefix}: a learned model, written by fastmaml {__version__}."
    members = "\n".join(
        f"    {c.real} {name}[{size}]; /* {note} */" for name, size, note in parts.members
    )
    return Sources(
        header=c.fill(
            HEADER, title=title, about=_about(c, subject, parts), members=members,
            prototypes=parts.prototypes, n_inputs=str(subject.model.n_inputs),
            n_outputs=str(subject.model.n_outputs), n_targets=str(subject.learner._n_targets),
        ),
        source=c.fill(
            SOURCE, title=title, header=header or f"{c.prefix}.h", tables=parts.tables,
            functions=_tidy(parts.functions),
        ),
    )  # fmt: skip


def _tidy(code: str) -> str:
    """Return C code without the zeros that templates add, and the ones that they multiply by."""
    return re.sub(r" (\+ 0|\* 1)(?=[,;\]])", "", code.replace("[0 + ", "["))


def _about(c: Dialect, subject: Subject, parts: Parts) -> str:
    """The comment at the top of the header: what it is, what it takes, how it is called."""
    learner: Any = subject.learner
    if isinstance(learner, MAML):
        moves = next((size for name, size, _ in parts.members if name == "w"), 0)
        how = f"gradient steps, {learner.steps} of them, move {moves} of its {len(subject.theta)} "
        how += "parameters."
    else:
        how = f"the last layer, on {learner.n_features} features, adapts in closed form."
    units = "in its own units (scaled inside)"
    kept = "as in the training"
    size = c.dtype.itemsize
    n_constants = sum(map(int, re.findall(r"\[(\d+)\] = \{", parts.tables)))
    n_state = sum(member.size for member in parts.members)
    facts = [
        f"{type(learner).__name__} of {learner.model!r}, in {c.real}: {how}",
        *(
            f"{side}, {kept if subject.scaling_of(side) is None else units}: "
            + ", ".join(map(comment, names))
            for side, names in (("x", subject.inputs), ("y", subject.outputs))
        ),
        f"Constants: {size * n_constants} bytes. State: {size * n_state} bytes, with all memory to "
        "work in but for some words of stack. Nothing is allocated, and no function calls itself.",
        *(f"Cost of {line}." for line in parts.costs),
    ]
    lines = [line for fact in facts for line in textwrap.wrap(fact, 92, break_long_words=True)]
    usage = [f"static {c.prefix}_state state;", *parts.usage]
    shown = [*lines, "", *(f"    {line}" for line in usage)]
    return "\n".join(f"   {comment(line)}".rstrip() for line in shown)
