"""Sphinx configuration. Build the documentation with ``python -m nox -s docs``."""

import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "Conformal self-calibration"
copyright = "the CPSC developers"  # the name that Sphinx expects
extensions = [
    "myst_nb",  # also parses Markdown
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = "Conformal self-calibration"
html_static_path = []
versions = json.loads(os.environ.get("DOCS_VERSIONS", "[]"))  # of a site with several, see tools/site_versions.py
html_context = {"versions": versions}
if versions:
    blocks = ("brand", "search", "scroll-start", "navigation", "scroll-end")
    html_sidebars = {"**": [*(f"sidebar/{block}.html" for block in blocks), "versions.html"]}

# Notebooks are text without outputs; they are run when Sphinx reads them.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds for a cell
nb_merge_streams = True
# Where their cells find the command `cpsc`.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"  # beside the text, which gives shapes and ranges
autodoc_class_signature = "separated"
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True

# Unresolved references to our own names are errors; resolving those to other projects would need a network.
nitpick_ignore_regex = [("py:.*", r"(?!conformal_core|cpsc_).*")]


def plain_type(app, env, node, contnode):
    """Show a type of a signature that is not in the reference as text; what a page refers to must exist."""
    return None if "refexplicit" in node else contnode


def setup(app):
    """Draw the figures before Sphinx reads the pages."""
    import pictures  # noqa: PLC0415  # needs packages that only a build has

    app.connect("builder-inited", lambda _: pictures.draw(HERE / "_pictures"))
    app.connect("missing-reference", plain_type)
