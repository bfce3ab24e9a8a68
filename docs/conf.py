"""Configuration of the documentation. Build: python -m nox -s docs."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "Conformal self-calibration"
copyright = "the CPSC developers"  # Sphinx reads this name
extensions = [
    "myst_parser",
    "sphinx-mathjax-offline",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "Conformal self-calibration"
html_static_path = []

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes and ranges are in the text, which says more than `Tensor`
autodoc_class_signature = "separated"
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True

# A dangling reference to one of our own names is an error; other projects' pages need a network to look up.
nitpick_ignore_regex = [("py:.*", r"(?!conformal_core|cpsc_).*")]


def setup(app):
    """Draw the pictures before pages are read."""
    import pictures  # noqa: PLC0415  # draws with what only a build needs

    app.connect("builder-inited", lambda _: pictures.draw(HERE / "_pictures"))
