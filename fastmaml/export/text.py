"""C as text: numbers, tables of them, comments and names, of which nothing depends on a locale."""

from __future__ import annotations

import json
import re
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import FLOAT32, shape_text, shown

__all__ = ["Dialect", "as_prefix", "comment", "rounded"]

#: C99 tells external names apart by their first 31 characters, and ours come behind the prefix
LONGEST = 20

#: functions of math.h, whose names end in f for float
FUNCTIONS = ("cos", "erfc", "exp", "expm1", "fabs", "hypot", "log1p", "sin", "sqrt", "tanh")


def as_prefix(name: str, prefix: Any) -> str:
    """Return what all names of a C file begin with."""
    if not isinstance(prefix, str):
        raise TypeError(f"{name} is {shown(prefix)}; accepted is a text")
    if not re.fullmatch(rf"[A-Za-z][A-Za-z0-9_]{{0,{LONGEST - 1}}}", prefix, re.ASCII):
        raise ValueError(
            f"{name} is {shown(prefix)}; accepted are a letter and up to {LONGEST - 1} letters, "
            "digits and _, of ASCII, as names in C have them"
        )
    return prefix


def comment(text: str) -> str:
    """Return a text so that it ends no comment, and is ASCII without trigraphs, on one line."""
    text = json.dumps(text)[1:-1]
    for of_two in ("*/", "/*", "??"):
        while of_two in text:
            text = text.replace(of_two, " ".join(of_two))
    return text


def rounded(name: str, values: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return numbers in the dtype of the C code, where each must be finite."""
    with np.errstate(all="ignore"):
        array = np.asarray(values, np.float64).astype(dtype)
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        given = np.asarray(values)[where]
        raise ValueError(
            f"{name} holds {float(given):.6g}{f' at {shape_text(where)}' if where else ''}; "
            f"accepted are numbers that {dtype} can hold"
        )
    return array


class Dialect:
    """The names and numbers of one exported file: its prefix, and double or float."""

    def __init__(self, prefix: str, dtype: np.dtype[Any]) -> None:
        self.prefix, self.dtype = prefix, dtype
        single = dtype == FLOAT32
        self.real = "float" if single else "double"
        self._words = {name: f"{name}f" if single else name for name in FUNCTIONS}
        self._words |= {"p": prefix, "P": prefix.upper(), "real": self.real}
        self._words["huge"] = "HUGE_VALF" if single else "HUGE_VAL"  # infinity, of math.h
        self._words |= {"zero": self.number(0.0), "one": self.number(1.0)}

    def number(self, value: Any) -> str:
        """Return a literal that a C compiler reads back to the same bits."""
        number = self.dtype.type(value)
        text = np.format_float_scientific(number, unique=True, trim="0")
        if 1e-4 <= abs(number) < 1e7 or number == 0:
            text = np.format_float_positional(number, unique=True, trim="0")
        return f"{text}f" if self.real == "float" else text

    def fill(self, template: str, **words: Any) -> str:
        """Fill a template in: ``$real``, ``$p`` the prefix, ``$P`` its capitals, functions, words.

        ``$zero`` and ``$one`` are literals, and so become words that are floats.
        """
        texts = {n: self.number(w) if isinstance(w, float) else w for n, w in words.items()}
        return Template(template).substitute(self._words, **texts)

    def table(self, name: str, values: NDArray[Any], note: str) -> str:
        """Return the definition of a constant array, which ``rounded`` has checked."""
        flat = [self.number(value) for value in values.reshape(-1)]
        lines, line = [], ""
        for text in flat:
            if len(line) + len(text) > 90:
                lines.append(line.rstrip())
                line = ""
            line += f"{text}, "
        lines.append(line.rstrip(", "))
        rows = "\n".join(f"    {each}" for each in lines)
        head = f"static const {self.real} {self.prefix}_{name}[{len(flat)}]"
        return f"/* {note} */\n{head} = {{\n{rows}\n}};\n"
