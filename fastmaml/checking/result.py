"""What a check found: a table, and an error for whoever wants one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["NOT_JUDGED", "RIGHT", "WRONG", "CheckResult", "Finding"]

RIGHT, WRONG, NOT_JUDGED = "right", "wrong", "not judged"


class Finding(NamedTuple):
    """One comparison.

    Attributes
    ----------
    part : str
        What was compared.
    check : str
        With what.
    error : float
        The largest error, relative to the largest number of what was compared; NaN if nothing was.
    accepted : float
        What is accepted of it: rounding, or what the differences are off by.
    verdict : {"right", "wrong", "not judged"}
        The last if differences are not exact enough to tell, as at the kinks of relu.
    note : str
        Where the error is, and the two numbers.

    Examples
    --------
    >>> import fastmaml as fm
    >>> fm.check_model(fm.MLP([1, 4, 1])).findings[0].verdict
    'right'
    """

    part: str
    check: str
    error: float
    accepted: float
    verdict: str
    note: str = ""


@dataclass(frozen=True)
class CheckResult:
    """What `check_model` or `check_gradient` found; prints as a table.

    Attributes
    ----------
    subject : str
        What was checked.
    findings : tuple of Finding
        The comparisons.
    wrong : tuple of str
        The parts that are wrong.
    notes : tuple of str
        What should be known besides.

    Raises
    ------
    AssertionError
        In ``raise_if_wrong``, unless all is right.

    Examples
    --------
    >>> import fastmaml as fm
    >>> result = fm.check_model(fm.MLP([1, 4, 1]))
    >>> result.ok, result.wrong
    (True, ())
    >>> result.raise_if_wrong()  # for a test of your own
    """

    subject: str
    findings: tuple[Finding, ...]
    wrong: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong, and something was found right."""
        return not self.wrong and any(each.verdict == RIGHT for each in self.findings)

    def raise_if_wrong(self) -> None:
        """Raise AssertionError, with the table, unless `ok`."""
        if not self.ok:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        head = ("part", "check", "error", "accepted", "")
        rows = [
            (each.part, each.check, _number(each.error), _number(each.accepted), each.verdict)
            for each in self.findings
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [self._verdict()]
        for row, note in zip(
            (head, *rows), ("", *(each.note for each in self.findings)), strict=True
        ):
            cells = "  ".join(
                cell.rjust(width) if i in (2, 3) else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append(f"{cells}  {note}".rstrip())
        return "\n".join([*lines, *self.notes])

    __repr__ = __str__

    def _verdict(self) -> str:
        if self.wrong:
            return f"{self.subject}: wrong is {', '.join(self.wrong)}"
        return f"{self.subject}: {'right' if self.ok else 'could not be judged'}"


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.1e}"
