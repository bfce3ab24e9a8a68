"""Models in the form of the Hugging Face Hub, in a local folder."""

import pytest

hub = pytest.importorskip("huggingface_hub", reason="an extra")
safetensors = pytest.importorskip("safetensors.torch", reason="an extra")

from cpsc_train.deployment.hub import HubModel  # noqa: E402


def test_a_model_is_saved_and_loaded(digits, samples, tmp_path):
    HubModel.from_run(digits.run).save_pretrained(tmp_path / "model")
    loaded = HubModel.from_pretrained(tmp_path / "model")
    samples.check(loaded(samples.inputs, samples.present), "trust")
    card = (tmp_path / "model/README.md").read_text()
    assert hub.ModelCard(card).data.library_name == "cpsc-train"
    assert "| clean |" in card
    loaded.save_pretrained(tmp_path / "again")
    samples.check(HubModel.from_pretrained(tmp_path / "again")(samples.inputs, samples.present), "trust")


def test_a_file_that_lacks_a_tensor_is_refused(digits, tmp_path):
    HubModel.from_run(digits.run).save_pretrained(tmp_path)
    tensors = safetensors.load_file(tmp_path / "model.safetensors")
    del tensors["model.heads.pix.weight"]
    safetensors.save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match=r"model\.heads\.pix\.weight"):
        HubModel.from_pretrained(tmp_path)
