"""The command line: ``fastmaml init``, ``train``, ``resume``, ``evaluate``, ``adapt``, and others.

Exit codes: 0 done, 2 for an error (one line, ``fastmaml: error: ...``), 130 after Ctrl-C, 143 after
SIGTERM and 129 after SIGHUP.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import sys
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

import numba

from .. import runtime
from ..divergence import DivergenceWarning
from ..kernels.compile import jit
from ..methods.choose import ALL
from ..version import __version__
from . import adaptation, evaluation, export, sinusoid, starter, training
from .common import CommandError, meant, say
from .signals import Ended, as_ctrl_c

__all__ = ["main"]

#: what data, files, arguments and the machine can raise; anything else is a bug, with its traceback
_ERRORS = (
    CommandError, ValueError, TypeError, OSError, ImportError, RuntimeError, ArithmeticError,
    MemoryError, DivergenceWarning,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process when left out.
    """
    arguments = _parsed(argv)
    try:
        with as_ctrl_c(), warnings.catch_warnings():
            warnings.simplefilter("error", DivergenceWarning)
            arguments.run(arguments)
            if sys.stdout is not None:
                sys.stdout.flush()  # here a full disk or a closed pipe is an error like others
    except KeyboardInterrupt:
        say("interrupted")
        code = 130
    except Ended as signal:
        say(f"ended by {signal}")
        code = 128 + signal.number
    except _ERRORS as error:
        say(f"error: {' '.join(str(error).split()) or type(error).__name__}")
        code = 2
    else:
        return 0
    _let_go_of_stdout()
    return code


def _let_go_of_stdout() -> None:
    """If standard output takes no more, keep Python from trying once more when it exits."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):  # ValueError: it is closed
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, the same for every subcommand."""

    def error(self, message: str) -> NoReturn:
        say(f"error: {message} (see {self.prog} --help)")
        sys.exit(2)


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse; of a misspelt command or option, say what may have been meant."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    if given and not given[0].startswith("-") and given[0] not in commands.choices:
        known = list(commands.choices)
        parser.error(
            f"there is no command {given[0]!r:.60}; accepted are {', '.join(known)}"
            f"{meant(given[0], known)}"
        )
    arguments, rest = parser.parse_known_args(given)
    if rest:
        options = re.findall(r"--[\w-]+", commands.choices[arguments.command].format_help())
        hint = meant(rest[0].partition("=")[0], options) if rest[0].startswith("-") else ""
        parser.error(f"unrecognized arguments: {' '.join(rest):.200}{hint}")
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastmaml",
        description="Exact MAML meta-gradients.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fastmaml {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for module in (starter, training, evaluation, adaptation, export):
        module.add(commands)
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
    for option, accepted in (("methods", tuple(ALL)), ("dtypes", ("float64", "float32"))):
        default = [word for word in accepted if word not in ("explicit", "closed_form")]
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
