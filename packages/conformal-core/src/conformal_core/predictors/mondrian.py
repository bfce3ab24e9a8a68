"""Mondrian conformal prediction: a predictor and a guarantee for each group of rows."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from conformal_core._arrays import array_namespace, as_array, device, to_host
from conformal_core._convert import Name, as_names
from conformal_core._settings import Saved
from conformal_core._state import State, load_together, read_states, refuse_if
from conformal_core.checks import check_type
from conformal_core.predictors._base import Predictor, check_one_alpha

Array = Any
Groups = Name | Sequence[Name] | Any  # or an array, tensor or column of them


class Mondrian(Saved):
    """A copy of a predictor for each group of rows, such as a site, an age band or the available modalities.

    Groups are integers or strings, and need not be listed: a new one gets a fresh copy.

    Parameters
    ----------
    predictor
        Predictor that is copied, such as ``SplitRegressor(CQR(), alpha=0.1)``, ``OnlineClassifier(LAC(), alpha=0.1)``,
        or :class:`ClassConditionalClassifier` for groups and classes together. It stays uncalibrated itself.

    Attributes
    ----------
    predictors : dict
        The predictor of each group.

    Raises
    ------
    TypeError
        If ``predictor`` is not one of those.

    Notes
    -----
    Guarantee: that of the predictor, within each group. A group that was not calibrated has full sets, with a warning,
    until its updates are enough. Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World* (2005), section
    4.5. Each call costs one call for each of its groups.

    Examples
    --------
    >>> import numpy as np
    >>> from conformal_core import AbsoluteResidual, SplitRegressor
    >>> predictor = Mondrian(SplitRegressor(AbsoluteResidual(), alpha=0.5))
    >>> predictor.calibrate(np.zeros(6), np.asarray([1.0, 2.0, 3.0, 10.0, 20.0, 30.0]), groups=["a"] * 3 + ["b"] * 3)
    >>> predictor.predict(np.asarray([5.0, 5.0]), groups=["b", "a"])
    array([[-15.,  25.],
           [  3.,   7.]])
    """

    _kind = "Mondrian"

    def __init__(self, predictor: Any) -> None:
        check_type("predictor", predictor, Predictor, "be a predictor such as SplitRegressor(CQR(), alpha=0.1)")
        check_one_alpha("predictor", predictor)
        self.predictor = predictor
        self.predictors: dict[Name, Any] = {}

    @property
    def qhat(self) -> Array:
        """Threshold of each group, (G, ...), in the order of ``predictors``; +∞ before calibration."""
        like = self._anyone.qhat
        each = [to_host(predictor.qhat) for predictor in self.predictors.values()]
        return array_namespace(like=like).asarray(np.stack(each), device=device(like)) if each else like

    def calibrate(self, rows: Array, labels: Array, *, groups: Groups, **options: Any) -> None:
        """Replace the calibration rows of all groups.

        Rows (N, ...), labels (N,) and ``options`` as for the predictor; an integer or string in ``groups`` for each
        row, or one for all. Raises TypeError or ValueError as the predictor, and for other groups; nothing changes
        then.
        """
        fresh = {}
        for part in _divided(groups, rows, labels):
            fresh[part.group] = self.predictor.__sklearn_clone__()
            fresh[part.group].calibrate(*part.arrays, **options)
        if not fresh:
            self.predictor._plan_update(rows, labels, **options)  # refuses what is no row
        self.predictors = fresh

    def predict(self, rows: Array, *, groups: Groups, **options: Any) -> Array:
        """Return sets or intervals of rows (N, ...), with a group each or one for all; options as for the predictor."""
        parts = list(_divided(groups, rows, **options))
        predictors = [self._of(part.group) for part in parts]
        if not parts:
            return self._anyone.predict(rows, **options)
        plans = [p._plan_predict(*part.arrays, **part.options) for p, part in zip(predictors, parts, strict=True)]
        for part, predictor, (_, issue) in zip(parts, predictors, plans, strict=True):
            self.predictors[part.group] = predictor
            issue()
        return _joined(parts, [result for result, _ in plans])

    def update(self, rows: Array, labels: Array, *, groups: Groups, **options: Any) -> None:
        """Learn from rows (N, ...), labels (N,) and groups (N,), or one group; options as for the predictor."""
        plans = [
            (part.group, predictor := self._of(part.group), predictor._plan_update(*part.arrays, **part.options))
            for part in _divided(groups, rows, labels, **options)
        ]
        for group, predictor, change in plans:
            self.predictors[group] = predictor
            change()

    def p_values(self, rows: Array, targets: Array | None = None, *, groups: Groups, **options: Any) -> Array:
        """Return p-values of all labels of each row, or of ``targets`` for a regressor, against the rows of its group.

        ``u`` is a number, or an array with an entry for each row.
        """
        parts = list(_divided(groups, rows, targets, **options))
        if not parts:
            return self._anyone.p_values(rows, *([] if targets is None else [targets]), **options)
        return _joined(parts, [self._of(part.group).p_values(*part.arrays, **part.options) for part in parts])

    @property
    def _anyone(self) -> Any:
        """Predictor that returns an empty result for no rows."""
        return next(iter(self.predictors.values()), self.predictor)

    def _of(self, group: Name) -> Any:
        return self.predictors[group] if group in self.predictors else self.predictor.__sklearn_clone__()

    def _learned(self) -> State:
        states = [predictor.state_dict() for predictor in self.predictors.values()]
        return {"groups": list(self.predictors), "predictors": states}

    def _restore(self, state: State) -> None:
        names: Any = as_names("groups", state["groups"])
        single = not isinstance(names, list)
        refuse_if(single or len(set(names)) != len(names), state, "a list of different groups")
        fresh = {name: self.predictor.__sklearn_clone__() for name in names}
        load_together(*zip(fresh.values(), read_states(state, "predictors", len(fresh)), strict=True))
        self.predictors = fresh


class _Part(NamedTuple):
    """Rows of one group: their places (None for all rows as they are), and the arguments of a call."""

    group: Name
    places: list[int] | None
    arrays: list[Array]
    options: dict[str, Any]


def _divided(groups: Groups, rows: Array, labels: Array | None = None, **options: Any) -> Iterator[_Part]:
    names = as_names("groups", groups)
    if not isinstance(names, list):
        yield _Part(names, None, [rows] if labels is None else [rows, labels], options)
        return
    rows = as_array("rows", rows)
    arrays = {"rows": rows} if labels is None else {"rows": rows, "labels": as_array("labels", labels, rows)}
    count = len(names)
    for argument, array in arrays.items():
        if array.ndim == 0 or array.shape[0] != count:
            raise ValueError(f"{argument} must have a row for each of the {count} groups, got {tuple(array.shape)}")
    ids = None if options.get("ids") is None else as_names("ids", options["ids"])
    if ids is not None and (not isinstance(ids, list) or len(ids) != count):
        raise ValueError(f"ids must name each of the {count} rows, got {len(ids) if isinstance(ids, list) else 1}")
    where: dict[Name, list[int]] = {}
    for place, name in enumerate(names):
        where.setdefault(name, []).append(place)
    for group, places in where.items():
        own = dict(options)
        if ids is not None:
            own["ids"] = [ids[place] for place in places]
        if getattr(options.get("u"), "ndim", 0):
            own["u"] = _taken(options["u"], places)
        yield _Part(group, places, [_taken(array, places) for array in arrays.values()], own)


def _taken(array: Array, places: list[int]) -> Array:
    xp = array_namespace(array=array)
    return xp.take(array, xp.asarray(places, dtype=xp.int64, device=device(array)), axis=0)


def _joined(parts: list[_Part], results: list[Array]) -> Array:
    if parts[0].places is None:
        return results[0]
    order = np.argsort(np.concatenate([part.places for part in parts]))
    return _taken(array_namespace(result=results[0]).concat(results), order.tolist())
