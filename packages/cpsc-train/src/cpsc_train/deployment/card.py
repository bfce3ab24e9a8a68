"""Model card of an exported model: inputs, training, test scores and limits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cpsc_train.data import DataConfig
from cpsc_train.deployment.description import modalities_of
from cpsc_train.experiments.table import Table, markdown_text
from cpsc_train.models import FUSED
from cpsc_train.prediction.state import PLAIN
from cpsc_train.printable import visible
from cpsc_train.runs import RunFolder, written_by_a_run

LIMITS = """\
- For a sample that is exchangeable with the calibration rows, the prediction set contains the true class with
  probability at least {level}. There is no such guarantee for single classes, or for data from another distribution.
- The model always predicts one of the listed classes, also for inputs of other classes.
- Probabilities are only as well calibrated as the calibration error on the test rows indicates."""
TRUSTED = """\
- Trust measures how unusual the activations of a modality are. It does not detect a corruption that hardly changes
  them, a modality that belongs to another sample, or adversarial inputs, and it does not identify the cause.
- For unusual samples, {level} holds approximately, on average over the corruptions on which their thresholds were
  calibrated; there is no guarantee for a single kind of corruption, or for another kind."""


def model_card(
    description: Mapping[str, Any],
    results: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> str:
    """Return the model card in Markdown, with the metadata of the Hugging Face Hub.

    - `description`: that of a `DeployedModel`.
    - `results` and `environment`: contents of ``results.json`` and ``environment.json`` of the run. Without them, the
      card has no test scores, and no versions of the training.
    """
    config = description["config"]
    name = markdown_text(f"{config['recipe'] or config['data']['name']} by {config['method']['name']}")
    sections = {
        f"# {name}": _summary(description),
        "## Inputs": _inputs(description),
        "## Training": _training(description, results or {}),
        "## Scores on test rows": [] if results is None else _scores(description, results),
        "## Limits": [_limits(description)],
        "## Versions": _versions(description, environment or {}),
    }
    metadata = "---\nlibrary_name: cpsc-train\ntags:\n- multimodal\n- conformal-prediction\n---"
    blocks = [f"{title}\n\n" + "\n".join(lines) for title, lines in sections.items() if lines]
    return "\n\n".join([metadata, *blocks]) + "\n"


def card_of_run(description: Mapping[str, Any], folder: RunFolder) -> str:
    """Return the model card with the scores of a run; UserError if its files do not hold them."""
    with written_by_a_run([folder.path]):
        return model_card(description, folder.read_results(), folder.read_environment())


def _summary(description: Mapping[str, Any]) -> list[str]:
    modalities, classes = description["modalities"], description["classes"]
    variant = description["inference"]
    inference = "" if variant == PLAIN else f" with the inference variant `{visible(variant, line=True)}`"
    listed = ", ".join(markdown_text(name) for name in classes[:20]) + (", …" if len(classes) > 20 else "")
    *most, last = (markdown_text(one["name"]) for one in modalities)
    names = f"{', '.join(most)} and {last}"
    return [
        f"A classifier of {names}{inference}, exported from a run of cpsc-train.",
        "A sample may lack modalities, but not all of them.",
        "",
        f"{len(classes)} classes: {listed}.",
    ]


def _inputs(description: Mapping[str, Any]) -> list[str]:
    rows = [(m, one.summary) for m, one in modalities_of(description).items()]
    return [Table("", ["modality", "input"], rows).markdown().rstrip()]


def _training(description: Mapping[str, Any], results: Mapping[str, Any]) -> list[str]:
    config, data = description["config"], results.get("data", {})
    licence = DataConfig.named(config["data"]["name"]).licence
    sizes = ", ".join(f"{data[part]} {part}" for part in ("train", "calibration", "validation", "test") if part in data)
    lines = {
        "Data set": config["data"]["name"],
        "Licence of the data": licence or "unknown to us: see the source of the data",
        "Rows": sizes,
        "Recipe": config["recipe"],
        "Method": config["method"]["name"],
        "Epochs": f"{config['epochs']}, of which epoch {description['epoch']} was best on the validation rows",
        "Seed": str(config["seed"]),
    }
    return [f"- {key}: {markdown_text(value)}" for key, value in lines.items() if value]


def _scores(description: Mapping[str, Any], results: Mapping[str, Any]) -> list[str]:
    """Return the scores of the fused decision, clean and under the condition with the lowest accuracy."""
    variant = description["inference"]
    test = results["test"] if variant == PLAIN else results.get("inference", {}).get(variant, {}).get("test", {})
    if not test:
        return []
    worst = min(test, key=lambda condition: float(test[condition]["accuracy"][FUSED]))
    rows = []
    for condition in dict.fromkeys(["clean", worst]):
        figures = test[condition]
        sets = figures["coverage"][FUSED]
        rows.append(
            (
                "clean" if condition == "clean" else f"worst: {condition}",
                f"{100 * figures['accuracy'][FUSED]:.1f} %",
                f"{100 * figures['macro_f1'][FUSED]:.1f} %",
                f"{figures['expected_calibration_error'][FUSED]:.3f}",
                f"{100 * sets['coverage']:.1f} % (target {100 * sets['target']:.1f} %)",
                f"{sets['mean_size']:.2f} classes",
            )
        )
    header = ["condition", "accuracy", "macro F1", "calibration error", "coverage of sets", "mean set size"]
    return [Table("", header, rows).markdown().rstrip()]


def _limits(description: Mapping[str, Any]) -> str:
    level = f"1 − α = {1 - description['thresholds']['alpha']:g}"
    text = LIMITS if description["inference"] == PLAIN else f"{LIMITS}\n{TRUSTED}"
    return text.format(level=level)


def _versions(description: Mapping[str, Any], environment: Mapping[str, Any]) -> list[str]:
    versions = environment.get("versions", {})
    lines = {
        "Exported": f"{datetime.now(UTC).date().isoformat()} by cpsc-train {description['version']}",
        "Trained": str(environment.get("started", ""))[:10],
        "Training environment": ", ".join(f"{package} {version}" for package, version in versions.items()),
    }
    return [f"- {key}: {markdown_text(value)}" for key, value in lines.items() if value]
