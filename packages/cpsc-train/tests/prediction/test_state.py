"""Every method predicts from its saved state without the training rows."""

import pytest
import torch

from cpsc_train.data import Modality
from cpsc_train.methods import MethodConfig
from cpsc_train.models import MultimodalClassifier
from cpsc_train.models.encoders.scratch import MLPConfig
from cpsc_train.prediction.state import load_method

NAMES = ("a", "b")
ROWS = 12


def built(kind):
    vector = Modality(kind="vector", shape=(5,))
    model = MultimodalClassifier(
        dict.fromkeys(NAMES, vector), dict.fromkeys(NAMES, MLPConfig(hidden=6)), dim=4, classes=3
    )
    options = {"trust": "label"} if kind.name == "cpsc" else {}
    return model.eval(), kind(**options).build(model, NAMES).eval()


@pytest.mark.parametrize("name", sorted(MethodConfig.installed()))
def test_the_state_of_a_method_is_enough(name):
    kind = MethodConfig.named(name)
    torch.manual_seed(0)
    model, method = built(kind)
    method.row_ids = [str(row) for row in range(ROWS)]
    method.on_fit_start(ROWS)
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter)
    torch.manual_seed(1)
    restored_model, restored = built(kind)
    restored_model.load_state_dict(model.state_dict())
    load_method(restored, method.state_dict())
    features = {m: torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(2)) for m in NAMES}
    qhat = {head: torch.tensor(0.5) for head in (*NAMES, "fused")}
    with torch.no_grad():
        expected, found = method.predict(model, features, qhat), restored.predict(restored_model, features, qhat)
    assert found.keys() == expected.keys()
    for head, logits in expected.items():
        torch.testing.assert_close(found[head], logits, rtol=0, atol=0)


def test_a_state_of_another_method_is_refused():
    _, method = built(MethodConfig.named("qmf"))
    method.register_buffer("more", torch.zeros(1))
    with pytest.raises(ValueError, match="it has no more of the method"):
        load_method(method, {})
