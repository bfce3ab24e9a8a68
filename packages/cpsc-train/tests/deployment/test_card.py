"""Model cards."""

import json

from cpsc_train.deployment.card import model_card
from cpsc_train.deployment.model import DeployedModel


def test_it_has_the_scores_of_the_exported_variant(digits):
    results = json.loads((digits.run / "results.json").read_text())
    environment = json.loads((digits.run / "environment.json").read_text())
    for inference, test in (("plain", results["test"]), ("trust", results["inference"]["trust"]["test"])):
        card = model_card(DeployedModel.from_run(digits.run, inference=inference).description, results, environment)
        worst = min(test, key=lambda name: test[name]["accuracy"]["fused"])
        for title, condition in (("clean", "clean"), (f"worst: {worst}", worst)):
            (row,) = [line for line in card.splitlines() if line.startswith(f"| {title} |")]
            assert f"| {100 * test[condition]['accuracy']['fused']:.1f} % |" in row
            assert f"{100 * test[condition]['coverage']['fused']['coverage']:.1f} % (target 90.0 %)" in row
        assert ("Trust measures" in card) == (inference == "trust")
        assert f"torch {environment['versions']['torch']}" in card
        assert "CC BY 4.0" in card


def test_a_card_without_results_has_no_scores_and_shows_names_as_they_are(digits):
    description = DeployedModel.from_run(digits.run, inference="plain").description | {
        "classes": ["a\x1b", "b\n# <i>*c*|"]
    }
    card = model_card(description)
    assert "Scores" not in card
    assert r"a\\x1b, b\\n# &lt;i&gt;\*c\*\|." in card
