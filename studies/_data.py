"""Data sets of the studies, and their kinds of noise.

Features of pretrained encoders need the stored corruptions that ``cpsc data features`` extracts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LEVELS = "1,3,5"


@dataclass(frozen=True)
class Data:
    """A data set of a study."""

    options: tuple[str, ...]
    """Options of ``cpsc``, without the root."""
    seen: Mapping[str, tuple[str, float]]
    """By modality, the kind of noise used in tuning and augmentation, and the severity for augmentation."""
    held_out: Mapping[str, tuple[str, ...]]
    """By modality, the other kinds."""
    epochs: int = 20
    settings: tuple[str, ...] = field(default_factory=tuple)

    def protocols(self) -> list[str]:
        """Return all conditions: each kind on each modality, and the seen ones on all modalities at once."""
        texts = [
            f"{modality}:{kind}@{LEVELS}"
            for modality, (seen, _) in self.seen.items()
            for kind in (seen, *self.held_out[modality])
        ]
        return [*texts, self.together(3)]

    def together(self, level: int, *, held_out: bool = False) -> str:
        """Return the condition in which all modalities are corrupted, by the seen kinds or the first held-out ones."""
        kinds = {m: self.held_out[m][0] if held_out else kind for m, (kind, _) in self.seen.items()}
        return "+".join(f"{modality}:{kind}@{level}" for modality, kind in kinds.items())

    def command(self, root: str | None, jobs: int, protocols: list[str]) -> list[str]:
        """Return the options that all steps share."""
        shared = [*self.options, *(("--root", root) if root else ()), "--jobs", str(jobs)]
        # A run takes seconds and restarts instead of resuming, so it needs no checkpoints.
        for setting in (
            f"epochs={self.epochs}",
            f"checkpoints.every_epochs={self.epochs}",
            "noise=[]",
            f"protocols={protocols}",
            *self.settings,
        ):
            shared += ["--set", setting]
        return shared

    def augmentation(self, share: float) -> str:
        """Return the setting that corrupts a fraction of the training rows of each modality by its seen kind."""
        parts = ",".join(
            f'{{modality="{modality}",kind="{kind}",severity={severity:g},share={share:g}}}'
            for modality, (kind, severity) in self.seen.items()
        )
        return f"augment=[{parts}]"


VECTORS = {"gaussian": ("gaussian", 1.5), "dropout": ("dropout", 0.5)}
DATA = {
    "handwritten": Data(
        ("--recipe", "handwritten", "--modalities", "fou,zer"),
        dict.fromkeys(("fou", "zer"), VECTORS["gaussian"]),
        dict.fromkeys(("fou", "zer"), ("dropout",)),
    ),
    "mvsa-single": Data(
        ("--recipe", "mvsa-single-features"),
        {"image": ("gaussian", 0.18), "text": ("words", 0.5)},
        {"image": ("salt-and-pepper", "blur", "darkness"), "text": ("words-dropped", "words-mistyped")},
        epochs=10,
    ),
    "nyu-depth-v2": Data(
        ("--recipe", "nyu-depth-v2-features"),
        dict.fromkeys(("rgb", "depth"), ("gaussian", 0.18)),
        {"rgb": ("salt-and-pepper", "blur", "darkness"), "depth": ("salt-and-pepper", "occlusion")},
        epochs=15,
    ),
    "scene15": Data(
        ("--recipe", "arrays"),
        dict.fromkeys(("gist20", "phog59", "lbp40"), VECTORS["gaussian"]),
        dict.fromkeys(("gist20", "phog59", "lbp40"), ("dropout",)),
        epochs=15,
    ),
    "avletters": Data(
        ("--recipe", "avletters"),
        {"audio": VECTORS["gaussian"], "lips": ("gaussian", 0.18)},
        {"audio": ("dropout",), "lips": ("blur", "occlusion")},
    ),
    "handwritten-pix-fou": Data(
        ("--recipe", "handwritten", "--modalities", "pix,fou"),
        {"pix": ("gaussian", 0.18), "fou": VECTORS["gaussian"]},
        {"pix": ("occlusion", "blur"), "fou": ("dropout",)},
    ),
    "avletters-speaker": Data(
        ("--recipe", "avletters"),
        {"audio": VECTORS["gaussian"], "lips": ("gaussian", 0.18)},
        {"audio": ("dropout",), "lips": ("blur", "occlusion")},
        settings=("data.split=speaker",),
    ),
    "utd-mhad": Data(
        ("--recipe", "utd-mhad"),
        {"depth": ("gaussian", 0.18), "skeleton": VECTORS["gaussian"], "inertial": VECTORS["gaussian"]},
        {"depth": ("occlusion",), "skeleton": ("dead-axis", "drift"), "inertial": ("dead-axis", "drift")},
        epochs=15,
    ),
    "av-digits": Data(
        ("--recipe", "av-digits"),
        {"audio": VECTORS["gaussian"], "image": ("gaussian", 0.18)},
        {"audio": ("clipping", "dropped-frames"), "image": ("occlusion", "blur")},
        epochs=8,
    ),
    "av-digits-speaker": Data(
        ("--recipe", "av-digits"),
        {"audio": VECTORS["gaussian"], "image": ("gaussian", 0.18)},
        {"audio": ("clipping", "dropped-frames"), "image": ("occlusion", "blur")},
        epochs=8,
        settings=("data.split=speaker",),
    ),
}
"""By name."""
