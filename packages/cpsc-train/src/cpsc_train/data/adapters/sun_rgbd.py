"""SUN RGB-D: 19 kinds of rooms, in colour and depth."""

from __future__ import annotations

from dataclasses import dataclass

from cpsc_train.data.dataset import Dataset
from cpsc_train.data.media.rgbd import SceneConfig, Scenes

CLASSES = (
    *("bathroom", "bedroom", "classroom", "computer_room", "conference_room", "corridor", "dining_area"),
    *("dining_room", "discussion_area", "furniture_store", "home_office", "kitchen", "lab", "lecture_theatre"),
    *("library", "living_room", "office", "rest_space", "study_space"),
)


@dataclass(frozen=True, kw_only=True)
class SUNRGBDConfig(SceneConfig, name="sun-rgbd"):
    """The 19 classes of the scene classification benchmark."""

    root: str = "data/sun_rgbd"
    """Holds ``{train,val,test}/CLASS/*.png``, colour in the left half and depth in the right one; ``val`` may be
    absent."""

    def open(self) -> Dataset:
        """List the files; images are read when they are needed."""
        return Scenes(self, CLASSES)
