"""Memories against a plain list, by random histories of insertion, eviction, overwriting, merging, saving, loading."""

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import reference
from conformal_core import CalibrationBuffer, Exponential, Fixed, History, Reservoir, Window

values = st.sampled_from([0.0, -0.0, 0.25, 0.5, 5e-324]) | st.floats(-10, 10)
levels = st.integers(-3, 23).map(lambda i: Fraction(i, 20))
STEPS = settings(max_examples=40, stateful_step_count=25, deadline=None)


def quantile(scores, alpha):
    """Any rational level: at most 0 means +∞, at least 1 means −∞."""
    k = math.ceil((len(scores) + 1) * (1 - alpha))
    return math.inf if k > len(scores) else -math.inf if k < 1 else sorted(scores)[k - 1]


def saved_and_loaded(memory, fresh):
    fresh.load_state_dict(memory.state_dict())
    return fresh


class SortedMachine(RuleBasedStateMachine):
    """What all memories of unweighted scores have in common; `model` is the plain list of what is remembered."""

    def build(self):
        raise NotImplementedError

    def remember(self, score):
        self.model.append(score)

    @initialize()
    def start(self):
        self.memory, self.model = self.build(), []

    @rule(score=values)
    def add(self, score):
        self.memory.add(score)
        self.remember(score)

    @rule(scores=st.lists(values, max_size=5))
    def extend(self, scores):
        self.memory.extend(np.asarray(scores, dtype=np.float64))
        for score in scores:
            self.remember(score)

    @rule(bad=st.sampled_from([math.nan, math.inf, -math.inf]))
    def a_bad_score_changes_nothing(self, bad):
        with pytest.raises(ValueError, match="scores must be finite"):
            self.memory.extend(np.asarray([0.5, bad]))

    @rule()
    def save_and_load(self):
        self.memory = saved_and_loaded(self.memory, self.build())

    @rule(alpha=levels)
    def ask(self, alpha):
        assert self.memory.quantile(alpha) == quantile(self.model, alpha)

    @rule(scores=st.lists(values, min_size=1, max_size=4), u=st.none() | st.sampled_from([0.0, 0.25, 1.0]))
    def judge(self, scores, u):
        got = self.memory.p_values(np.asarray(scores), u=u)
        wanted = [float(reference.p_value(self.model, s, u)) for s in scores]
        np.testing.assert_allclose(got, wanted, atol=1e-15, rtol=0)

    @invariant()
    def has_the_right_size(self):
        assert len(self.memory) == len(self.model)


class HistoryMachine(SortedMachine):
    def build(self):
        return History()

    @rule(parts=st.lists(st.lists(values, max_size=4), max_size=3))
    def merge(self, parts):
        others = []
        for part in parts:
            other = History()
            other.extend(np.asarray(part, dtype=np.float64))
            others.append(other)
            self.model += part
        self.memory.merge(*others)


class WindowMachine(SortedMachine):
    def build(self):
        return Window(5)

    def remember(self, score):
        self.model = [*self.model, score][-5:]


class ReservoirMachine(SortedMachine):
    def build(self):
        return Reservoir(4, seed=3)

    @initialize()
    def start(self):
        super().start()
        self.seen, self.all = 0, []

    def remember(self, score):
        self.seen += 1
        self.all.append(score)
        self.model = self.memory.state_dict()["scores"].tolist()

    @rule(scores=st.lists(values, max_size=5))
    def extend(self, scores):
        self.memory.extend(np.asarray(scores, dtype=np.float64))
        self.seen += len(scores)
        self.all += scores
        self.model = self.memory.state_dict()["scores"].tolist()

    @invariant()
    def holds_scores_that_were_seen(self):
        assert len(self.memory) == min(self.seen, 4)
        rest = list(self.all)
        for score in self.model:
            rest.remove(score)


class BufferMachine(RuleBasedStateMachine):
    """The calibration buffer against two lists: the scores, and the step each was made at."""

    @initialize()
    def start(self):
        self.buffer, self.scores, self.made, self.step = CalibrationBuffer(6), [math.inf] * 6, [-1] * 6, 0

    @rule(rows=st.dictionaries(st.integers(0, 5), values, max_size=6))
    def overwrite(self, rows):
        self.buffer.overwrite(np.asarray(list(rows), dtype=np.int64), np.asarray(list(rows.values()), dtype=np.float64))
        for row, score in rows.items():
            self.scores[row], self.made[row] = score, self.step

    @rule(first=st.integers(0, 5), scores=st.lists(values, min_size=1, max_size=6))
    def overwrite_a_slice(self, first, scores):
        scores = scores[: 6 - first]
        self.buffer.overwrite(slice(first, first + len(scores)), np.asarray(scores))
        for i, score in enumerate(scores):
            self.scores[first + i], self.made[first + i] = score, self.step

    @rule(steps=st.integers(0, 3))
    def advance(self, steps):
        self.buffer.advance(steps)
        self.step += steps

    @rule(index=st.sampled_from([[0, 0], [6, 1], [-1, 1]]), bad=st.booleans())
    def a_bad_overwrite_changes_nothing(self, index, bad):
        with pytest.raises(ValueError, match=r"index must|scores must"):
            self.buffer.overwrite(np.asarray([1, 2] if bad else index), np.asarray([0.5, math.nan if bad else 0.5]))

    @rule(split=st.integers(0, 6), scores=st.lists(values, min_size=6, max_size=6))
    def two_processes_score_disjoint_rows(self, split, scores):
        """After merging, the buffer is that of one process that scored all rows."""
        self.advance(1)
        halves = []
        for rows in (range(split), range(split, 6)):
            half = saved_and_loaded(self.buffer, CalibrationBuffer(6))
            half.overwrite(np.asarray(rows, dtype=np.int64), np.asarray([scores[i] for i in rows], dtype=np.float64))
            halves.append(half)
        self.buffer = halves[0]
        self.buffer.merge(halves[1])
        self.scores, self.made = list(scores), [self.step] * 6

    @rule()
    def save_and_load(self):
        self.buffer = saved_and_loaded(self.buffer, CalibrationBuffer(6))

    @invariant()
    def is_the_lists(self):
        if not hasattr(self, "scores"):
            return
        assert self.buffer.scores.tolist() == self.scores
        assert self.buffer.ages.tolist() == [self.step - made for made in self.made]
        assert int(self.buffer.staleness) == self.step - min(self.made)
        assert float(self.buffer.quantile(alpha=0.4)) == quantile(self.scores, Fraction(2, 5))


class ExponentialMachine(RuleBasedStateMachine):
    @initialize(decay=st.sampled_from([0.5, 0.9, 0.999, 0.01]))
    def start(self, decay):
        self.decay, self.memory, self.model = decay, Exponential(decay), []

    @rule(scores=st.lists(st.sampled_from([0.0, 0.25, 0.5]) | st.floats(-10, 10), min_size=1, max_size=90))
    def extend(self, scores):
        self.memory.extend(np.asarray(scores))
        self.model += scores

    @rule()
    def save_and_load(self):
        self.memory = saved_and_loaded(self.memory, Exponential(self.decay))

    @precondition(lambda self: self.model)
    @rule(alpha=st.integers(1, 22).map(lambda i: Fraction(i, 20)))
    def ask(self, alpha):
        weights = [Fraction(self.decay) ** age for age in range(len(self.model), 0, -1)][-300:]
        scores = self.model[-300:]  # of the decays above, only .999 reaches further back, and it is not run as long
        if alpha >= 1:
            assert self.memory.quantile(alpha) == -math.inf
            return
        got = self.memory.quantile(alpha)
        wanted = (1 - alpha) * (sum(weights) + 1)
        below = sum(w for s, w in zip(scores, weights, strict=True) if s <= got)
        under = sum(w for s, w in zip(scores, weights, strict=True) if s < got)
        slack = Fraction(1, 10**12) + (
            Fraction(self.decay) ** 300 / (1 - Fraction(self.decay)) if len(self.model) > 300 else 0
        )
        assert under < wanted + slack
        assert got == math.inf or below >= wanted - slack


for machine in (HistoryMachine, WindowMachine, ReservoirMachine, BufferMachine, ExponentialMachine):
    case = machine.TestCase
    case.settings = STEPS
    globals()[f"Test{machine.__name__}"] = case
del case


@given(st.lists(values, max_size=30), st.integers(1, 8), levels)
def test_a_window_is_rebuilt_from_its_last_scores(scores, size, alpha):
    window, rebuilt = Window(size), History()
    window.extend(np.asarray(scores, dtype=np.float64))
    rebuilt.extend(np.asarray(scores[-size:], dtype=np.float64))
    assert window.quantile(alpha) == rebuilt.quantile(alpha)


def test_every_score_has_the_same_chance_to_stay_in_a_reservoir():
    """1,000 seeds, 40 scores, room for 10: each stays 250 times, give or take five standard deviations (13.7)."""
    kept = np.zeros(40)
    for seed in range(1000):
        memory = Reservoir(10, seed=seed)
        memory.extend(np.arange(40.0))
        kept[memory.state_dict()["scores"].astype(int)] += 1
    assert abs(kept - 250).max() < 5 * math.sqrt(1000 * 0.25 * 0.75)


def test_exponential_weights_do_not_drift_over_a_long_stream():
    """After thousands of insertions and evictions the weights are those of a memory that saw the last scores only."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=20_000)
    long, short = Exponential(0.97), Exponential(0.97)
    long.extend(scores)
    short.extend(scores[-1400:])
    assert len(long) == len(short)
    for alpha in (Fraction(1, 20), Fraction(1, 3), Fraction(9, 10)):
        assert long.quantile(alpha) == short.quantile(alpha)


def test_a_fixed_memory_ignores_the_stream(lib):
    memory = Fixed()
    memory.extend(lib(np.asarray([0.3, 0.1, 0.2])))
    memory.add(0.9)
    assert len(memory) == 3
    assert float(lib.back(memory.quantile(Fraction(1, 4)))) == 0.3
    other = saved_and_loaded(memory, Fixed())
    assert lib.back(other.p_values(lib(np.asarray([0.2])))).tolist() == [0.75]


def test_a_fixed_memory_without_scores_promises_nothing():
    empty = Fixed()
    assert empty.quantile(Fraction(1, 10)) == math.inf
    assert empty.p_values(np.asarray([0.3, 0.9])).tolist() == [1.0, 1.0]


def test_overwriting_no_row_changes_nothing():
    buffer = CalibrationBuffer(3)
    buffer.overwrite(np.asarray([], dtype=np.int64), np.asarray([]))
    assert np.isinf(buffer.scores).all()


def test_equal_scores_of_a_stream_are_forgotten_oldest_first():
    """More of them than one bucket holds: the one that leaves lies anywhere among its like."""
    decay, n = 0.99, 6000
    memory, brief = Exponential(decay), Exponential(decay)
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 2, n) / 2
    memory.extend(scores)
    brief.extend(scores[-len(memory) :])
    assert len(memory) < n
    for alpha in (Fraction(1, 10), Fraction(1, 2), Fraction(9, 10)):
        assert memory.quantile(alpha) == brief.quantile(alpha)
    np.testing.assert_allclose(memory.p_values(np.asarray([0.0, 0.5])), brief.p_values(np.asarray([0.0, 0.5])))


@given(st.permutations(range(3)))
def test_buffers_merge_to_the_same_scores_in_any_order(order):
    """The newest score of a row counts, and of scores of one step the largest."""
    buffers = []
    for early, late in (([0.1, 0.2, 0.3], {1: 0.5}), ([0.3, 0.9, 0.1], {1: 0.4, 2: 0.0}), ([0.2, 0.1, 0.8], {})):
        buffers.append(CalibrationBuffer(4))
        buffers[-1].overwrite(slice(0, 3), np.asarray(early))
        buffers[-1].advance(len(late))
        for row, score in late.items():
            buffers[-1].overwrite(np.asarray([row]), np.asarray([score]))
    first, *others = (buffers[i] for i in order)
    first.merge(*others)
    assert first.step == 2
    assert first.scores.tolist() == [0.3, 0.4, 0.0, math.inf]
    assert first.ages.tolist() == [2, 0, 0, 3]


def test_a_buffer_lives_in_the_library_of_its_scores(lib):
    if lib.name in ("read-only", "strided", "torch-strided"):
        pytest.skip("the buffer keeps arrays of its own")
    buffer = CalibrationBuffer(3, like=lib(np.zeros(1, dtype=np.float32)))
    buffer.overwrite(lib(np.asarray([2, 0])), lib(np.asarray([0.5, 0.25], dtype=np.float32)))
    assert lib.back(buffer.scores).tolist() == [0.25, math.inf, 0.5]
    assert (lib.back(buffer.scores).dtype, lib.back(buffer.ages).dtype) == (np.float32, np.int64)
    assert type(buffer.quantile(alpha=0.5)) is type(lib(np.zeros(1)))
    assert float(lib.back(buffer.quantile(alpha=0.5))) == 0.5


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: Window(0), ValueError, "size must be at least 1, got 0"),
        (lambda: Window(2.0), TypeError, "size must be an integer, got float"),
        (lambda: Reservoir(True), TypeError, "size must be an integer, got bool"),
        (lambda: Reservoir(3, seed=-1), ValueError, "seed must be at least 0"),
        (lambda: Exponential(1.0), ValueError, r"decay must lie in \(0, 1\), got 1.0"),
        (lambda: Exponential("x"), TypeError, "decay must be a number"),
        (lambda: CalibrationBuffer(0), ValueError, "size must be at least 1"),
        (lambda: CalibrationBuffer(2).advance(-1), ValueError, "steps must be at least 0"),
        (
            lambda: CalibrationBuffer(2).merge(CalibrationBuffer(3)),
            ValueError,
            "buffers to merge must have size 2, got 3",
        ),
        (lambda: CalibrationBuffer(2).overwrite(np.asarray([0]), np.asarray([0.1, 0.2])), ValueError, "the same shape"),
        (
            lambda: CalibrationBuffer(2).overwrite(np.asarray([0.0]), np.asarray([0.1])),
            TypeError,
            "index must hold integers",
        ),
        (lambda: History().merge(Window(2)), TypeError, "others must be of kind History, got Window"),
        (lambda: History().extend(np.asarray([True])), TypeError, "scores must hold real floating-point"),
        (
            lambda: History().load_state_dict(Window(2).state_dict()),
            ValueError,
            "state must be of kind 'History', got 'Window'",
        ),
        (
            lambda: Window(2).load_state_dict(Window(3).state_dict()),
            ValueError,
            "state of Window must have size = 2 as here, got 3",
        ),
        (
            lambda: History().load_state_dict({"kind": "History", "version": 9}),
            ValueError,
            "must have version 1, got 9",
        ),
        (lambda: History().load_state_dict({"kind": "History", "version": 1}), ValueError, "must hold scores"),
        (lambda: History().load_state_dict([]), TypeError, "state must be a dict"),
        (
            lambda: CalibrationBuffer(2).load_state_dict(CalibrationBuffer(3).state_dict()),
            ValueError,
            r"state of CalibrationBuffer must hold .* shape \(2,\) as scores, got ndarray of shape \(3,\)",
        ),
    ],
)
def test_bad_use_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_states_are_plain_arrays_and_numbers():
    def plain(value):
        if isinstance(value, dict):
            return all(isinstance(k, str) and plain(v) for k, v in value.items())
        return (
            value is None
            or isinstance(value, (int, float, str))
            or (isinstance(value, np.ndarray) and value.dtype != object)
        )

    for memory in (History(), Window(3), Reservoir(3), Exponential(0.9), CalibrationBuffer(3), Fixed()):
        if not isinstance(memory, CalibrationBuffer):
            memory.extend(np.asarray([0.1, 0.2, 0.3, 0.4]))
        assert plain(memory.state_dict()), memory


def test_a_memory_that_is_too_small_says_infinity_and_nothing_else():
    """A stream begins with nothing, and ACI asks for levels no memory is large enough for: neither is a mistake."""
    fixed = Fixed()
    fixed.extend(np.asarray([0.1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for memory in (fixed, History(), Window(3), Exponential(0.5)):
            assert memory.quantile(Fraction(1, 10)) == math.inf


def exact_threshold(scores, weights, alpha):
    """Smallest score whose weight, and that of all below, is enough: in rational arithmetic, the new weight being 1."""
    wanted, mass = (1 - alpha) * (sum(weights) + 1), Fraction(0)
    for score, weight in sorted(zip(scores, weights, strict=True)):
        mass += weight
        if mass >= wanted:
            return score
    return math.inf


@pytest.mark.parametrize("decay", [0.5, 0.75, 0.9])
def test_rounding_of_exponential_weights_never_lowers_a_threshold(decay):
    """With a decay of ½ and α = ½, 54 weights miss the half by less than a sum of doubles can hold."""
    for n in (*range(1, 17), 53, 54, 55, 80):
        weights = [Fraction(decay) ** age for age in range(n, 0, -1)]
        for order in (np.arange(n), np.arange(n)[::-1], np.random.default_rng(n).permutation(n)):
            memory = Exponential(decay)
            memory.extend(order.astype(np.float64))
            for alpha in (Fraction(1, 2), Fraction(1, 4), Fraction(1, 10), Fraction(1, 3)):
                got = memory.quantile(alpha)
                assert got == exact_threshold(order.tolist(), weights, alpha)
                if math.isfinite(got):
                    at, beyond = memory.p_values(np.asarray([got, got + 1]))
                    assert at > float(alpha) > beyond - 1e-12


def test_where_exponential_weights_tie_exactly_the_threshold_is_not_below():
    for n, alpha in ((1, Fraction(2, 3)), (2, Fraction(4, 7)), (3, Fraction(8, 15))):
        memory = Exponential(0.5)
        memory.extend(np.arange(float(n)))
        assert memory.quantile(alpha) >= exact_threshold(range(n), [Fraction(1, 2**i) for i in range(n, 0, -1)], alpha)
