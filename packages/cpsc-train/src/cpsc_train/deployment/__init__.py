"""Trained models as files that other programs run."""

from cpsc_train.deployment.files import Format, export
from cpsc_train.deployment.model import DeployedModel

__all__ = ["DeployedModel", "Format", "export"]
