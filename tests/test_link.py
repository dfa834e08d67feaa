"""What a linked function returns: by its annotation, never otherwise in silence."""

import numba
import pytest
from fastmaml.kernels.compile import cache, link

compiled_only = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiling")


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)


def by_type(x) -> float:
    return 2.0 * x


def by_name(x) -> "float":
    return 2.0 * x


def by_integer(x) -> float:
    return 2


@pytest.mark.parametrize("function", [by_type, by_name, by_integer])
def test_a_float_is_annotated_by_its_type_or_name(function):
    found = link.linked(function)(1.0)
    assert found == 2.0


def nothing(x):
    x[0] = 3


def none(x) -> None:
    x[0] = 3


def named_none(x) -> "None":
    x[0] = 3


@pytest.mark.parametrize("function", [nothing, none, named_none])
def test_nothing_is_returned_without_an_annotation(function):
    assert link._result_of(function) is numba.types.void


def an_integer(x) -> int:
    return 1


def an_integer_by_name(x) -> "int":
    return 1


@pytest.mark.parametrize(
    ("function", "given"), [(an_integer, "<class 'int'>"), (an_integer_by_name, "'int'")]
)
def test_any_other_annotation_is_refused_where_it_stands(function, given):
    message = f"{function.__name__} is annotated -> {given}, a linked function returns float or"
    with pytest.raises(TypeError, match=message):
        link.linked(function)


def unannotated(x):
    return 2.0 * x


def unannotated_in_one_branch(x):
    if x > 0:
        return 2.0 * x


def annotated_for_nothing(x) -> float:
    x + 1


@compiled_only
@pytest.mark.parametrize(
    "function", [unannotated, unannotated_in_one_branch, annotated_for_nothing]
)
def test_another_result_than_the_annotation_says_is_not_compiled(function):
    with pytest.raises(numba.TypingError, match="No conversion from"):
        link._Piece(function).require((numba.types.float64,))


@compiled_only
def test_an_address_is_of_a_function_that_returns_what_the_caller_takes():
    function = link.linked(unannotated_nothing)
    error = r"unannotated_nothing returns none; accepted is float64"
    with pytest.raises(TypeError, match=error):
        link.addresses_of([link.Asked(function, (numba.types.float64,), numba.types.float64)])


def unannotated_nothing(x):
    x + 1
