import pytest

from cpsc_train.errors import UserError, needs


def test_an_extra_that_is_missing_is_named_with_its_command():
    said = r'nowhere is not installed: pip install "cpsc-train\[report\]"'
    with pytest.raises(UserError, match=said), needs("nowhere", extra="report"):
        import nowhere  # noqa: F401, PLC0415


def test_a_package_that_memory_is_too_small_for_is_not_called_missing():
    with pytest.raises(ImportError), needs("torch", extra="report"):
        raise ImportError("libtorch_cpu.so: failed to map segment from shared object")


def test_other_errors_pass():
    with pytest.raises(KeyError), needs("nowhere", extra="report"):
        raise KeyError
