"""The picture of a stream."""

from __future__ import annotations

import numpy as np
import pytest

from cpsc_train.experiments.evidence import Course, Evidence
from cpsc_train.experiments.predictors import Followed
from cpsc_train.experiments.stream import Watched
from cpsc_train.experiments.stream_picture import picture, rolling_mean

pytest.importorskip("matplotlib")


@pytest.mark.parametrize("window", [1, 3, 50])
def test_a_rolling_mean_is_over_the_last_rows_that_are_there(window):
    rng = np.random.default_rng(0)
    values = np.where(rng.random(40) < 0.3, np.nan, rng.random(40))
    parts = [values[max(0, end - window) : end] for end in range(1, 41)]
    expected = [part[~np.isnan(part)].mean() if (~np.isnan(part)).any() else np.nan for part in parts]
    np.testing.assert_allclose(rolling_mean(values, window), expected, rtol=1e-12)


def watched(modalities: int) -> Watched | None:
    rng = np.random.default_rng(0)
    trust = {f"m${place}_": rng.random(60) for place in range(modalities)}
    evidence = {m: Evidence(np.linspace(0, 5, 60), 30 if place else None) for place, m in enumerate(trust)}
    course = Course.drifting(np.arange(60), 2)
    return Watched(course, ["clean", "a", "b"], followed(), trust, evidence, 0.1) if modalities else None


def followed() -> dict[str, Followed]:
    rng = np.random.default_rng(0)
    return {name: Followed(rng.random(60) < 0.9, np.ones(60, int)) for name in ("split", "aci")}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("modalities", [0, 1, 3])
def test_it_is_as_wide_as_a_report(theme, modalities):
    png = picture(followed(), watched(modalities), target=0.9, window=20, theme=theme)
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") == 720
    assert int.from_bytes(png[20:24], "big") == (1104 if modalities else 520)
