"""Changes by dotted key: values as they are, and settings that are read by the type of their field."""

from __future__ import annotations

import pytest

from cpsc_train.config import apply_settings, override
from cpsc_train.errors import UserError
from cpsc_train.recipes import recipe

CREMA = recipe("crema-d")


def value(config, key):
    for part in key.split("."):
        config = config[part] if isinstance(config, dict) else getattr(config, part)
    return config


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("data.root=2024", "2024"),
        ("data.root=true", "true"),
        ("data.root=none", "none"),
        ("data.root=s3://a/b?c=[1]", "s3://a/b?c=[1]"),
        ('data.root="a b"', "a b"),
        ("data.root='2024'", "2024"),
        ('data.root="open', '"open'),
        ("data.cache=1.5", "1.5"),
        ("data.root=", ""),
        ("data.split=speaker", "speaker"),
        ("epochs=3", 3),
        ("patience=none", None),
        ("patience=4", 4),
        ("leave_out=false", False),
        ("optimizer.lr=1e-3", 0.001),
        ("optimizer.lr=1", 1.0),
        ("optimizer.lr=.1", 0.1),
        ("optimizer.lr=1.", 1.0),
        ("splits.validation=.1", 0.1),
        ("optimizer.clip_norm=+.5E+1", 5.0),
        ("encoders.video.depth=34", 34),
        ('data.modalities=["video", "audio"]', ("video", "audio")),
        ("conformal.quantile=released", "released"),
        ("conformal={quantile = 'released'}", "released"),
        ("encoders.audio.weights=7", "7"),
    ],
)
def test_a_setting_is_read_by_the_type_of_its_field(setting, expected):
    key = setting.partition("=")[0]
    changed = apply_settings(CREMA, [setting])
    assert value(changed, "conformal.quantile" if key == "conformal" else key) == expected


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs=many", "epochs must be int, got 'many'"),
        ("epochs=3.5", "epochs must be int, got 3.5"),
        ("epochs=3.", "epochs must be int, got '3.'"),
        ("optimizer.lr=.", "optimizer.lr must be float, got '.'"),
        ("leave_out=1", "leave_out must be bool, got 1"),
        ("optimizer.kind=2", "optimizer.kind must be one of adam, adamw, sgd, adagrad, got '2'"),
        ("encoders.video.depth=20", "must be one of 18, 34, 50, 152, got 20"),
        ("epoch=3", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("data.rot=x", "unknown key 'data.rot'; did you mean 'data.root'?"),
        ("method.top_kk=3", "unknown key 'method.top_kk'; did you mean 'method.top_k'?"),
        ("encoders.vidio.depth=34", "unknown key 'encoders.vidio'; did you mean 'encoders.video'?"),
        ("encoders.vidio.name=mlp", "unknown modality 'encoders.vidio'; did you mean 'encoders.video'?"),
        ("encoders.video.deep=34", "unknown key 'encoders.video.deep'; did you mean 'encoders.video.depth'?"),
        ("optimiser.lr=0.1", "unknown key 'optimiser'; did you mean 'optimizer'?"),
        ("epochs.more=1", "epochs.more: epochs is a value, not a table"),
        ("method=joint", "method must be a table, got 'joint'"),
        ("method.name=jiont", "unknown method 'jiont'; did you mean 'joint'?"),
        ("a", "a setting must read key=value, got 'a'"),
        ("=1", "a setting must read key=value, got '=1'"),
        ("noise=[{modality = 'video', kind = 'gaussian', severity = 1, shaer = 1}]", "unknown key 'noise[0].shaer'"),
        ("optimizer.lr=nan", "optimizer.lr must be finite, got nan"),
        ("optimizer.weight_decay=nan", "optimizer.weight_decay must be finite, got nan"),
        ("method.a=inf", "method.a must be finite, got inf"),
        ("splits.calibration=inf", "splits.calibration must be finite, got inf"),
        ("splits.seed=-1", "splits.seed must lie in [0, 2^63), got -1"),
        ("corruption.seed=-1", "corruption.seed must lie in [0, 2^63), got -1"),
        ("noise=[{modality='video',kind='gaussian',severity=1.0,seed=-1}]", "noise[0].seed must lie in"),
        ("data.size=99999999999999999999", "data.size must be below 2^63"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(setting, message):
    with pytest.raises(UserError) as error:
        apply_settings(CREMA, [setting])
    assert message in str(error.value)


def test_values_are_taken_as_they_are():
    values = {"data.root": "2024", "epochs": 3, "patience": None, "data.modalities": ("video", "audio")}
    changed = override(CREMA, values)
    assert (changed.data.root, changed.epochs, changed.patience) == ("2024", 3, None)
    assert changed.data.modalities == ("video", "audio")
    with pytest.raises(UserError, match=r"data\.root must be str, got 2024"):
        override(CREMA, {"data.root": 2024})
    with pytest.raises(UserError, match="did you mean 'epochs'"):
        override(CREMA, {"epoch": 3})
    assert override(CREMA, {}) == apply_settings(CREMA, []) == CREMA
    with pytest.raises(UserError, match="epochs must be at least 1, got '3'"):
        recipe("handwritten", epochs="3")


def test_a_default_that_is_replaced_by_none_stays_none():
    changed = apply_settings(CREMA, ["method.name=ogm-ge", "method.end=none"])
    assert changed.method.end is None
    assert type(changed).from_plain(changed.to_plain()) == changed


def test_another_name_drops_the_options_of_the_former_member():
    changed = apply_settings(CREMA, ["method.name=qmf", "method.ranking=0.5"])
    assert (changed.method.name, changed.method.ranking) == ("qmf", 0.5)
    same = apply_settings(CREMA, ["method.top_k=5", "method.name=cpsc"])
    assert same.method.top_k == 5
    own = apply_settings(CREMA, ["encoders.audio.name=import", "encoders.audio.path=a:b", "encoders.audio.options.x=2"])
    assert (own.encoders["audio"].path, own.encoders["audio"].options) == ("a:b", {"x": 2})
