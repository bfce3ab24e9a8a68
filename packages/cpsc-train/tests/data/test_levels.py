"""Conditions at levels of severity."""

from __future__ import annotations

import numpy as np
import pytest

from cpsc_train.data import Dataset, Modality, conditions
from cpsc_train.data.noise.levels import parse_levels
from cpsc_train.errors import UserError

MODALITIES = {
    "pix": Modality(kind="image", shape=(1, 8, 8), bounds=(0.0, 6.0)),
    "fou": Modality(kind="vector", shape=(5,)),
    "text": Modality(kind="text", shape=(16,), vocabulary=100),
}


def parsed(text, **options):
    return {
        one.name: [(noise.modality, noise.kind, noise.severity) for noise in one.parts]
        for one in conditions(text, MODALITIES, **options)
    }


def test_levels_become_severities_of_the_modality():
    assert parsed("pix:gaussian@1-5") == {
        f"pix:gaussian@{level}": [("pix", "gaussian", severity)]
        for level, severity in enumerate((0.08, 0.12, 0.18, 0.26, 0.38), 1)
    }
    assert parsed("fou:gaussian@1,5") == {
        "fou:gaussian@1": [("fou", "gaussian", 0.5)],
        "fou:gaussian@5": [("fou", "gaussian", 3.0)],
    }
    assert parsed("pix:jpeg@3") == {"pix:jpeg@3": [("pix", "jpeg", 15)]}
    assert parsed("pix:blur:0.1") == {"pix:blur:0.1": [("pix", "blur", 0.1)]}


def test_all_stands_for_every_kind_that_fits():
    assert list(parsed("text:all@2,4")) == [
        f"text:{kind}@{level}" for kind in ("words", "words-dropped", "words-mistyped") for level in (2, 4)
    ]
    assert list(parsed("fou:all@3")) == ["fou:gaussian@3", "fou:dropout@3"]


def test_terms_joined_by_plus_corrupt_several_modalities_at_once():
    assert parsed("pix:gaussian@3+fou:gaussian:2") == {
        "pix:gaussian@3+fou:gaussian:2": [("pix", "gaussian", 0.18), ("fou", "gaussian", 2.0)]
    }
    both = parsed("pix:blur@1-5+text:words@1-5")
    assert list(both) == [f"pix:blur@{level}+text:words@{level}" for level in range(1, 6)]
    assert both["pix:blur@4+text:words@4"] == [("pix", "blur", 0.05), ("text", "words", 0.75)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pix:gaussian@0", "levels must be different numbers from 1 to 5, such as 1-5, 1,3,5 or 3, got '0'"),
        ("pix:gaussian@1,1", "levels must be different"),
        ("pix:gaussian@5-1", "levels must be different"),
        ("pix:gaussian@0.2", "levels must be different"),
        ("pix:blurr@1", "unknown noise kind 'blurr'; did you mean 'blur'"),
        ("pix:snr@1", "pix-snr-20: snr noise is for sound, and pix is image"),
        ("pix:gaussian@1-5+fou:gaussian@1", "must name as many levels each, of one kind each"),
        ("pix:all@1+fou:all@1", "must name as many levels each, of one kind each"),
        ("pix:gaussian@1+sound:snr@1", "unknown modality 'sound'"),
        ("pix:gaussian@1+", r"noise must read MODALITY:KIND@1-5, .* got 'pix:gaussian@1\+'"),
        ("foo:gaussian@1", "with modalities pix, fou, text, got 'foo:gaussian@1'"),
    ],
)
def test_other_texts_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        conditions(text, MODALITIES)


class Features(Dataset):
    """Two levels of Gaussian noise and one of blur are stored for ``fou``."""

    modalities = MODALITIES
    kept = ("gaussian-0.08", "gaussian-0.18", "blur-0.03")

    def read(self, modality, rows, /):
        raise NotImplementedError

    def stored(self, modality, /):
        return self.kept if modality == "fou" else ()

    def corrupted(self, modality, noise, rows, /):
        return np.zeros((len(rows), 5)) if f"{noise.kind}-{noise.severity:g}" in self.stored(modality) else None


def test_stored_kinds_have_the_levels_of_what_the_features_came_from():
    dataset = Features()
    assert parsed("fou:gaussian@3", dataset=dataset) == {"fou:gaussian@3": [("fou", "gaussian", 0.18)]}
    assert list(parsed("fou:all@3", dataset=dataset)) == ["fou:gaussian@3", "fou:blur@3"]
    with pytest.raises(UserError, match="gaussian noise on fou is stored at levels 1, 3, got 2"):
        parsed("fou:gaussian@2", dataset=dataset)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("fou:dropout@3", "fou-dropout-0.5"),
        ("fou:jpeg@3", "fou-jpeg-15"),
        ("fou:gaussian:0.5", "fou-gaussian-0.5"),
        ("pix:gaussian@3+fou:gaussian:2", "fou-gaussian-2"),
        ("qmf:GS@5", "fou-gaussian-0.5-of-0.5"),
    ],
)
def test_noise_is_not_computed_on_features_with_stored_corruptions(text, name):
    message = f"{name}: noise on fou must be one of its stored corruptions, gaussian-0.08, gaussian-0.18, blur-0.03"
    with pytest.raises(UserError, match=message):
        parsed(text, dataset=Features())
    assert parsed("pix:gaussian:0.5", dataset=Features())  # of which none is stored


def test_levels_are_read_in_their_order():
    assert parse_levels("5,1") == (5, 1)
    assert parse_levels("2-2") == (2,)
