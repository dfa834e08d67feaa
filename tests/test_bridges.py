"""The bridges to other libraries, where these are not installed."""

import pytest
from processes import python

LIBRARIES = {"torch": "PyTorch", "jax": "JAX"}


@pytest.mark.parametrize("library", LIBRARIES)
def test_without_the_extra_the_error_names_it(library):
    code = f"""
import sys
sys.modules[{library!r}] = None  # as if it were not installed
import fastmaml, fastmaml.learn, fastmaml.datasets
try:
    import fastmaml.{library}
except ImportError as error:
    print(error)
"""
    assert python(code) == (
        f"fastmaml.{library} needs {LIBRARIES[library]}, which comes with "
        f'pip install "fastmaml[{library}]"\n'
    )


def test_none_is_imported_with_the_package():
    code = f"""
import sys
import fastmaml as fm
maml = fm.MAML(fm.Linear(1))
maml.evaluate(maml.model.init(0), [[[1.0]]], [[1.0]])
print([name for name in {sorted(LIBRARIES)} if name in sys.modules])
"""
    assert python(code) == "[]\n"
