"""NYU Depth V2: ten kinds of rooms, in colour and depth."""

from __future__ import annotations

from dataclasses import dataclass

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.media.files import check_root
from cpsc_train.data.media.rgbd import SceneConfig, Scenes
from cpsc_train.errors import UserError


@dataclass(frozen=True, kw_only=True)
class NYUDepthV2Config(SceneConfig, name="nyu-depth-v2"):
    """Ten folders of images a part; their names, sorted, are the classes."""

    root: str = "data/nyud2_trainvaltest"
    """Holds ``{train,val,test}/CLASS/*.png``, colour in the left half and depth in the right one; ``val`` may be
    absent."""

    def open(self) -> Dataset:
        """List the files; images are read when they are needed."""
        train = check_root(self.root) / "train"
        classes = sorted(path.name for path in train.iterdir() if path.is_dir()) if train.is_dir() else []
        if len(classes) < 2:
            raise UserError(f"{train}: must hold a folder of images for each class, and has {len(classes)}")
        return Scenes(self, classes)
