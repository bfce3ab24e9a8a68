"""Leave out the module that needs scikit-learn, where that is not installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("sklearn") else ["src/conformal_core/sklearn.py"]
