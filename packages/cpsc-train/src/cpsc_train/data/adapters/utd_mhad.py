"""UTD-MHAD: 27 actions as depth video, skeleton and inertial sensor, recorded together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpsc_train.data.dataset import DataConfig, check_modalities
from cpsc_train.data.families.arrays import Arrays, View
from cpsc_train.data.families.series import column, resampled
from cpsc_train.data.modality import Modality
from cpsc_train.data.readers import Reader, SeriesReader
from cpsc_train.data.storage.npz import read_npz
from cpsc_train.errors import DataError, UserError

MODALITIES = ("depth", "skeleton", "inertial")
SERIES = "utd_mhad_labels_inertial_skeleton.npz"
DEPTH = "utd_mhad_depth16.npz"
FRAMES = (16, 48, 64)
"""Frames, height and width of a depth video."""
JOINTS = 20
HIP = 3
"""Joint from which positions are measured, in the first frame."""
SUBJECTS = 8
# fmt: off
ACTIONS = (
    "swipe left", "swipe right", "wave", "clap", "throw", "arms cross", "basketball shoot", "draw x",
    "draw circle clockwise", "draw circle counter-clockwise", "draw triangle", "bowling", "boxing",
    "baseball swing", "tennis swing", "arm curl", "tennis serve", "push", "knock", "catch", "pick up and throw",
    "jog", "walk", "sit to stand", "stand to sit", "lunge", "squat",
)
# fmt: on


@dataclass(frozen=True, kw_only=True)
class UTDMHADConfig(DataConfig, name="utd-mhad"):
    """Actions as depth video (16 frames of 48×64), skeleton (20 joints) and inertial sensor (6 axes).

    The folder holds ``utd_mhad_labels_inertial_skeleton.npz`` and ``utd_mhad_depth16.npz``, one row per recording.
    """

    modalities: tuple[str, ...] = MODALITIES
    """Two or three of depth, skeleton, inertial."""
    root: str = "data/utd-mhad"
    """Folder of both files."""
    test_subjects: tuple[int, ...] = (2, 4, 6, 8)
    """Test subjects, by default those of the official division; test rows are then not exchangeable with calibration
    rows. A single subject gives one fold of leave-one-subject-out evaluation."""
    skeleton_steps: int = 32
    """Steps of a skeleton after linear resampling; recordings have 41 to 125."""
    inertial_steps: int = 64
    """Steps of the inertial sensor after linear resampling; recordings have 107 to 326."""

    def __post_init__(self) -> None:
        check_modalities(self.modalities, MODALITIES)
        for name in ("skeleton_steps", "inertial_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"data.{name} must be at least 1, got {getattr(self, name)}")
        chosen = set(self.test_subjects)
        if not chosen < set(range(1, SUBJECTS + 1)) or not chosen:
            raise UserError(f"data.test_subjects must be some of 1…{SUBJECTS}, got {self.test_subjects}")

    def readers(self, modalities: Mapping[str, Modality]) -> dict[str, Reader]:
        """Return readers of videos in their shape, and of skeletons (steps, 20, 3) and sensors (steps, 6)."""
        kinds: dict[str, Callable[[Modality], Reader]] = {
            "depth": Reader,
            "skeleton": lambda modality: SeriesReader(modality, (JOINTS, 3), _centred),
            "inertial": lambda modality: SeriesReader(modality, (6,)),
        }
        return {name: kinds[name](modality) for name, modality in modalities.items()}

    def load(self) -> Arrays:
        """Read both files, and resample the recordings."""
        file = Path(self.root) / SERIES
        arrays = read_npz(file)
        action = column(arrays, "action", file, low=1, high=len(ACTIONS))
        subject = column(arrays, "subject", file, low=1, high=SUBJECTS)
        trial = column(arrays, "trial", file, low=1, high=9)
        rows = len(action)
        views = {}
        for name in self.modalities:
            if name == "depth":
                views[name] = _depth(Path(self.root) / DEPTH, rows)
            elif name == "skeleton":
                steps = resampled(arrays, name, file, rows=rows, shape=(JOINTS, 3), length=self.skeleton_steps)
                centred = _centred(steps)
                views[name] = View(_series(centred), centred, f"{file}: {name}")
            else:
                steps = resampled(arrays, name, file, rows=rows, shape=(6,), length=self.inertial_steps)
                views[name] = View(_series(steps), steps, f"{file}: {name}")
        tested = np.isin(subject, self.test_subjects)
        return Arrays(
            [f"a{a}_s{s}_t{t}" for a, s, t in zip(action, subject, trial, strict=True)],
            action - 1,
            ACTIONS,
            views,
            parts={"train": np.flatnonzero(~tested), "test": np.flatnonzero(tested)},
            groups=[f"subject {number}" for number in subject],
        )


def _centred(steps: NDArray[np.float32]) -> NDArray[np.float32]:
    return (steps - steps[:, :1, HIP : HIP + 1]).reshape(*steps.shape[:2], JOINTS * 3)


def _series(values: NDArray[np.float32]) -> Modality:
    return Modality(kind="vector", shape=values.shape[1:], axis=1)


def _depth(file: Path, rows: int) -> View:
    arrays = read_npz(file)
    if "depth" not in arrays:
        raise DataError(f"{file}: has no array 'depth' (it holds: {', '.join(arrays)})", "missing")
    depth = arrays["depth"]
    if depth.shape != (rows, *FRAMES) or depth.dtype != np.uint8:
        raise DataError(f"{file}: depth must have shape {(rows, *FRAMES)} of uint8, got {depth.dtype} of {depth.shape}")
    return View(Modality(kind="image", shape=FRAMES, bounds=(0.0, 255.0)), depth, f"{file}: depth")
