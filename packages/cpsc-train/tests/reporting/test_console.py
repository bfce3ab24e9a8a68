"""What the terminal shows of a run."""

import io

import pytest
from rich.console import Console

from cpsc_train.reporting.console import ConsoleObserver, print_results
from cpsc_train.training import RunConfig
from cpsc_train.training.setup import Setup


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "said"),
    [
        (10, 1, "10 optimizer steps per epoch, of 10 rows each\n"),
        (12, 1, "9 optimizer steps per epoch, of 12 rows each: few steps; try a lower batch_size, or more"),
        (10, 6, "2 optimizer steps per epoch, of 6 × 10 rows each: few steps; try a lower "),
        (100, 1, "1 optimizer step per epoch, of 100 rows each: few"),
    ],
)
def test_the_number_of_optimizer_steps_is_told_before_the_start(small_config, tmp_path, batch_size, accumulate, said):
    table = small_config.to_plain() | {"batch_size": batch_size}
    table["optimizer"]["accumulate"] = accumulate
    setup = Setup.build(RunConfig.from_plain(table))
    assert len(setup.splits.train) == 100
    text = io.StringIO()
    observer = ConsoleObserver(Console(file=text, width=200))
    observer.start(setup.describe(), epochs=4, path=tmp_path, done=0)
    observer.close()
    assert said in text.getvalue()
    assert ("optimizer.accumulate or batch_size" in text.getvalue()) == (accumulate > 1)


def figures(accuracy):
    heads = ("pix", "fou", "fused")
    sets = {head: {"target": 0.9, "coverage": accuracy, "mean_size": 1.0} for head in heads}
    return {"accuracy": dict.fromkeys(heads, accuracy), "coverage": sets}


@pytest.mark.parametrize("brief", [True, False])
def test_after_training_sets_and_variants_are_shown_clean_and_under_the_worst_condition(brief):
    test = {"clean": figures(0.99), "mild": figures(0.95), "strong": figures(0.5), "without-fou": figures(0.8)}
    results = {
        "data": {"modalities": ["pix", "fou"]},
        "test": test,
        "coverage": {"test": test["clean"]["coverage"]},
        "inference": {"trust": {"test": {name: figures(0.9) for name in test}, "notes": ["12 rows are too few"]}},
    }
    text = io.StringIO()
    print_results(results, Console(file=text, width=120), brief=brief)
    printed = text.getvalue()
    assert "trust: 12 rows are too few" in printed
    assert printed.count("strong") == 4  # accuracy, sets, and accuracy and sets of the variant
    assert printed.count("worst: strong") == (3 if brief else 0)
    assert printed.count("mild") == printed.count("without-fou") == (1 if brief else 4)
