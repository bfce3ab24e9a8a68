"""What a run says: its folder, its progress, its tables."""

from cpsc_train.observability.observer import Observer, Observers
from cpsc_train.observability.run_folder import RunFolder

__all__ = ["Observer", "Observers", "RunFolder"]
