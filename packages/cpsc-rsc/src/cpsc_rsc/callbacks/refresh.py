"""Schedule on which the quantiles of a model are computed during training."""

from __future__ import annotations

from conformal_core.checks import check_count


class RefreshSchedule:
    """Refresh every few optimizer steps, after a warm-up.

    Parameters
    ----------
    every_n_steps : int
        Optimizer steps from one refresh to the next, at least 1.
    warmup_steps : int
        Optimizer steps before the first refresh, at least 0.

    Raises
    ------
    TypeError, ValueError
        If a number of steps is not an integer or out of range.

    Examples
    --------
    >>> schedule = RefreshSchedule(every_n_steps=5, warmup_steps=10)
    >>> [step for step in range(30) if schedule.due(step)]
    [10, 15, 20, 25]
    """

    def __init__(self, *, every_n_steps: int, warmup_steps: int = 0) -> None:
        self.every_n_steps = check_count("every_n_steps", every_n_steps)
        self.warmup_steps = check_count("warmup_steps", warmup_steps, least=0)
        self._last: int | None = None

    def due(self, step: int) -> bool:
        """Return whether to refresh now, after `step` optimizer steps; true once for each step.

        With accumulated gradients, a loop may ask several times in one step.
        """
        since = step - self.warmup_steps
        if since < 0 or since % self.every_n_steps or step == self._last:
            return False
        self._last = step
        return True
