"""What was promised to be gone is gone."""

import importlib
import pkgutil
from importlib.metadata import version

from conformal_core import deprecation


def test_nothing_is_overdue_in_any_package():
    for name in ("conformal_core", "cpsc_gsc", "cpsc_rsc", "cpsc_train"):
        package = importlib.import_module(name)
        for module in pkgutil.iter_modules(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    assert [one.message for one in deprecation.OPEN if one.overdue(version(one.package))] == []
