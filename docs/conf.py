"""How the site is built: `make docs`. Sphinx reads this file, and the Markdown beside it stays."""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import files
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
import stand_ins  # noqa: E402

project = "fastmaml"
author = "The fastmaml developers"
copyright = "the fastmaml developers, BSD 3-Clause"
release = version = version_of("fastmaml")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    # our own, in _ext/
    "docstrings",
    "links_out",
    "public_names",
    "side_by_side",
]
exclude_patterns = [
    "_build",
    "_ext",
    "_static",
    "_templates",
    "gallery/**/*.ipynb",
    "gallery/**/*.py",
]
templates_path = ["_templates"]
default_role = "py:obj"  # `MAML` in a docstring is a link, if there is such a name
add_module_names = False
toc_object_entries_show_parents = "hide"

# Markdown, as GitHub reads it
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

# The reference: a page for each public object
autosummary_generate = True
autodoc_typehints = "none"  # the docstrings have types, and say more
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    # not what comes from Python, PyTorch and scikit-learn
    "inherited-members": "object,tuple,dict,Exception,Warning,RuntimeWarning,Module,BaseEstimator,"
    "RegressorMixin,ClassifierMixin,MultiOutputMixin,MetaEstimatorMixin,Protocol",
}
# PyTorch and JAX are not needed to read docstrings.
MISSING = stand_ins.put()
numpydoc_show_class_members = False

# The gallery: examples/, run when they change, but for those that take minutes or what is not here
NOT_RUN = ["digits", "fertility"]
if "torch" in MISSING:
    NOT_RUN.append("pytorch_training_loop")
RUN = rf"/(?!{'|'.join(NOT_RUN)})\w+\.py$"
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": RUN,
    "within_subsection_order": "gallery.Order",
    "reset_argv": "gallery.arguments",
    "image_scrapers": ("matplotlib",),
    "matplotlib_animations": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "min_reported_time": 1,
    "download_all_examples": True,
    "plot_gallery": "True",
}

# Equations without a network: MathJax comes in a package, as one file that needs no fonts.
MATHJAX = "tex-svg-full.js"
(mathjax_file,) = (file for file in files("sphinx-mathjax-offline") or () if file.name == MATHJAX)
mathjax_path = MATHJAX
mathjax3_config = {"tex": {"tags": "none"}, "options": {"enableMenu": False}}

# What comes out
html_theme = "furo"
html_title = "fastmaml"
html_static_path = ["_static", str(mathjax_file.locate())]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None
html_theme_options = {
    "light_logo": "favicon.svg",
    "dark_logo": "favicon.svg",
    "navigation_with_keys": True,
}
pygments_style = "friendly"
pygments_dark_style = "native"
# prompts and results are not copied
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True


def setup(app: Any) -> None:
    """Have all pages read anew when what our extensions make of them may have changed."""
    texts = b"".join(path.read_bytes() for path in sorted((HERE / "_ext").glob("*.py")))
    app.add_config_value("our_extensions", hashlib.sha256(texts).hexdigest(), "env")
