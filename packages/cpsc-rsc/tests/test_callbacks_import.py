"""Frameworks are imported by their own module only, and named where they are missing."""

import importlib
import subprocess
import sys

import pytest

CHECK = "import sys, cpsc_rsc.callbacks; print(sorted({'lightning', 'transformers', 'accelerate'} & set(sys.modules)))"


def test_the_package_imports_no_framework():
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("name", "missing"), [("lightning", "lightning.pytorch"), ("transformers", "accelerate.utils")]
)
def test_a_missing_framework_is_named_with_its_extra(monkeypatch, name, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, f"cpsc_rsc.callbacks.{name}", raising=False)
    with pytest.raises(ImportError, match=rf"pip install 'cpsc-rsc\[{name}\]'"):
        importlib.import_module(f"cpsc_rsc.callbacks.{name}")
