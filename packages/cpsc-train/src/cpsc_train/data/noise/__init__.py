"""Noise on one modality: named kinds, reproducible for each sample, clipped to the valid range."""

from cpsc_train.data.noise.base import KINDS, LEVELS, Corruption, fitting, register
from cpsc_train.data.noise.images import BLUR, CONTRAST, DARKNESS, JPEG, OCCLUSION
from cpsc_train.data.noise.noise import Condition, Noise
from cpsc_train.data.noise.sound import BABBLE, CLIPPING, DROPPED_FRAMES, IMPULSES, SNR
from cpsc_train.data.noise.values import DEAD_AXIS, DRIFT, DROPOUT, DROPPED, GAUSSIAN, MASKED, MISTYPED, SALT_AND_PEPPER

register(GAUSSIAN, SALT_AND_PEPPER, DROPOUT)
register(BLUR, DARKNESS, CONTRAST, JPEG, OCCLUSION)
register(SNR, IMPULSES, CLIPPING, BABBLE, DROPPED_FRAMES)
register(MASKED, DROPPED, MISTYPED)
register(DEAD_AXIS, DRIFT)

__all__ = ["KINDS", "LEVELS", "Condition", "Corruption", "Noise", "fitting", "register"]
