"""The command line: ``fastmaml train``, ``resume``, ``evaluate``, ``adapt``, and others.

Exit codes: 0 done, 2 for an error (one line, ``fastmaml: error: ...``), 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

import numba

from .. import runtime
from ..kernels import jit
from ..plan import METHODS
from ..version import __version__
from . import sinusoid, training
from .common import CommandError, say

__all__ = ["main"]

#: what data, files, arguments and the machine can raise; anything else is a bug, with its traceback
_ERRORS = (
    CommandError, ValueError, TypeError, OSError, ImportError, RuntimeError, ArithmeticError,
    MemoryError,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process when left out.
    """
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except _ERRORS as error:
        say(f"error: {' '.join(str(error).split()) or type(error).__name__}")
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, the same for every subcommand."""

    def error(self, message: str) -> NoReturn:
        say(f"error: {message} (see {self.prog} --help)")
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastmaml",
        description="Exact MAML meta-gradients for squared-error regression.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    training.add(commands)
    sinusoid.add(commands)
    info = commands.add_parser(
        "info",
        help="print versions, threads and the cache folder",
        description="Print versions, threading layer, number of threads and cache folder.",
        allow_abbrev=False,
    )
    info.set_defaults(run=_info)
    warmup = commands.add_parser(
        "warmup",
        help="compile ahead, so that no later process waits for it",
        description="Compile the kernels and keep them in the cache folder (see fastmaml info).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    for option, accepted in (("methods", METHODS[1:]), ("dtypes", ("float64", "float32"))):
        default = [word for word in accepted if word != "explicit"]
        warmup.add_argument(
            f"--{option}", nargs="+", choices=accepted, default=default, help=f"{option} to compile"
        )
    warmup.set_defaults(run=_warmup)
    return parser


def _info(_arguments: argparse.Namespace) -> None:
    lines = {"fastmaml": __version__}
    lines |= {name: version(name) for name in ("numpy", "numba", "llvmlite")}
    lines["python"] = platform.python_version()
    lines["platform"] = platform.platform()
    lines["threading layer"] = jit.threading_layer()
    lines["threads"] = str(numba.get_num_threads())
    lines["cache folder"] = str(jit.cache_folder() or "none, kernels are not kept")
    width = max(map(len, lines))
    for name, text in lines.items():
        print(f"{name:<{width}}  {text}")


def _warmup(arguments: argparse.Namespace) -> None:
    folder = jit.cache_folder()
    if folder is None:
        raise CommandError("there is no cache folder (see fastmaml info) to keep kernels in")
    start = time.perf_counter()
    runtime.warmup(arguments.methods, arguments.dtypes)
    print(f"kernels are in {folder} after {time.perf_counter() - start:.1f} s")
