from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from cpsc_train.data import Modality
from cpsc_train.data.media.tokens import HASHED, START, HashedWords, Pretrained
from cpsc_train.errors import UserError
from cpsc_train.models.encoders.transformer import TransformerConfig

transformers = pytest.importorskip("transformers", reason="text is read by transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "dog"]


def text(length=6, vocabulary=8):
    return Modality(kind="text", shape=(length,), vocabulary=vocabulary)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny BERT and its tokenizer, as a user would have them on disk."""
    path = tmp_path_factory.mktemp("bert")
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(path)
    (path / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    transformers.BertTokenizer(str(path / "vocab.txt")).save_pretrained(path)
    return path


def test_the_local_model_is_what_encodes(folder):
    tokens = torch.tensor([[2, 5, 7, 3, 0, 0], [2, 6, 3, 0, 0, 0]])
    encoder = TransformerConfig(folder=str(folder)).build(text(), 8).eval()
    reference = transformers.BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = reference(tokens, attention_mask=(tokens != 0).long()).last_hidden_state[:, 0]
        torch.testing.assert_close(encoder(tokens), expected)
    assert not [name for name, _ in encoder.named_parameters() if "pooler" in name]


def test_padding_changes_nothing(folder):
    encoder = TransformerConfig(folder=str(folder)).build(text(), 4).eval()
    with torch.no_grad():
        long, short = encoder(torch.tensor([[2, 5, 3, 0, 0, 0]])), encoder(torch.tensor([[2, 5, 3]]))
    torch.testing.assert_close(long, short)


def test_without_a_folder_it_is_a_small_one():
    encoder = TransformerConfig(layers=1, width=8, attention_heads=2).build(text(), 3)
    encoder(torch.ones(2, 6, dtype=torch.int64)).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_a_folder_without_all_parameters_is_refused(folder, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="an extra")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = safetensors.load_file(tmp_path / "model.safetensors")
    del state["embeddings.word_embeddings.weight"]
    safetensors.save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks the parameter embeddings\.word_embeddings\.weight"):
        TransformerConfig(folder=str(tmp_path)).build(text(), 4)
    (tmp_path / "model.safetensors").write_bytes(b"no parameters")
    with pytest.raises(UserError, match="is not a readable model"):
        TransformerConfig(folder=str(tmp_path)).build(text(), 4)


def test_code_in_the_folder_is_not_run(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="is not a readable model"):
        TransformerConfig(folder=str(tmp_path)).build(text(), 4)
    assert not (tmp_path / "ran").exists()


def test_what_does_not_fit_is_refused(folder, tmp_path):
    local = TransformerConfig(folder=str(folder))
    for modality, said in (
        (Modality(kind="vector", shape=(3,)), "reads text"),
        (text(vocabulary=99), "has 99 tokens"),
        (text(length=999), "has 999 places"),
    ):
        with pytest.raises(UserError, match=said):
            local.build(modality, 4)
    with pytest.raises(UserError, match=r"no config\.json"):
        TransformerConfig(folder=str(tmp_path)).build(text(), 4)
    with pytest.raises(UserError, match="vocabulary is known"):
        TransformerConfig().build(Modality(kind="text", shape=(3,)), 4)
    for options in ({"layers": 0}, {"width": 9}, {"dropout": 1.0}):
        with pytest.raises(UserError, match=r"transformer\.\w+ must"):
            TransformerConfig(**options)


def test_a_local_tokenizer(folder, tmp_path):
    tokenize = Pretrained(folder, 6)
    assert tokenize.vocabulary == len(WORDS)
    assert tokenize("Good dog").tolist() == [2, 5, 7, 3, 0, 0]
    assert len(tokenize("good " * 50)) == 6
    with pytest.raises(UserError, match="no such folder of a tokenizer"):
        Pretrained(tmp_path / "absent", 6)
    with pytest.raises(UserError, match="holds no readable tokenizer"):
        Pretrained(tmp_path, 6)


def test_hashed_words():
    tokenize = HashedWords(8)
    assert tokenize.vocabulary == HASHED
    tokens = tokenize("Grüße, 犬!")
    assert tokens.dtype == np.int64
    assert tokens[0] == START
    assert (tokens[1:5] > START).all()
    assert (tokens[5:] == 0).all()
    assert (tokens < HASHED).all()
    assert tokenize("").tolist() == [START, *[0] * 7]
    assert len(tokenize("a " * 99)) == 8
