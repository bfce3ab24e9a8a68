"""Versions of the libraries that decode media, on which colours and samples depend to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def _av() -> str:
    import av  # noqa: PLC0415  # an extra

    numbers: Mapping[str, tuple[int, ...]] = av.library_versions
    return ", ".join(f"{name} {'.'.join(map(str, number))}" for name, number in sorted(numbers.items()))


def _pillow() -> str:
    from PIL import features  # noqa: PLC0415  # an extra

    found: Any = features.version("libjpeg_turbo") or features.version("jpg")
    return f"libjpeg {found}"


def _soundfile() -> str:
    import soundfile  # noqa: PLC0415  # an extra

    return f"libsndfile {soundfile.__libsndfile_version__}"


INNER: dict[str, Callable[[], str]] = {"av": _av, "pillow": _pillow, "soundfile": _soundfile}
"""By package, what it is built on."""
DECODERS = tuple(INNER)


def versions(packages: Sequence[str] = DECODERS) -> dict[str, str]:
    """Return the versions of packages and of the libraries they are built on, where they can be imported.

    Examples
    --------
    >>> list(versions(["scipy", "no-such-package"]))
    ['scipy']
    """
    found = {}
    for package in packages:
        try:
            inner = f" ({INNER[package]()})" if package in INNER else ""
            found[package] = version(package) + inner
        except (ImportError, PackageNotFoundError, OSError):  # soundfile raises OSError where its library is missing
            continue
    return found
