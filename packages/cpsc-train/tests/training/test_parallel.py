"""Static graphs, and runs that cannot be sharded; what several processes learn is in cli/test_processes.py."""

from dataclasses import replace

import pytest
import torch

from cpsc_train.config import apply_settings
from cpsc_train.errors import UserError
from cpsc_train.methods import MethodConfig
from cpsc_train.reporting import Observer
from cpsc_train.training import parallel
from cpsc_train.training.config import with_method
from cpsc_train.training.distributed import Process
from cpsc_train.training.loop import Trainer
from cpsc_train.training.setup import Setup


@pytest.mark.parametrize("name", sorted(MethodConfig.members))
def test_a_static_graph_uses_the_same_parameters_in_every_step(small_config, name):
    base = apply_settings(replace(small_config, batch_size=33), ["missing.share={fou=0.5,pix=0.3}"])
    trainer = Trainer(Setup.build(with_method(base, MethodConfig.named(name).for_epochs(base.epochs))))
    if not trainer.objective.method.static_graph:
        pytest.skip("the method varies its parameters")
    assert parallel.static_graph(trainer.setup)
    unused = {}
    update = trainer.stepper._update

    def watched():
        names = [n for n, p in trainer.objective.named_parameters() if p.requires_grad and p.grad is None]
        unused.setdefault(trainer.warming_up, set()).add(tuple(names))
        update()

    trainer.stepper._update = watched
    for _ in range(base.epochs):
        trainer.train_epoch(Observer())
    assert {len(sets) for sets in unused.values()} == {1}


def test_modules_of_others_and_dropped_layers_are_not_static(small_config):
    setup = Setup.build(small_config)
    assert parallel.static_graph(setup)
    setup.objective.model.fusion.config = type("Config", (), {"layerdrop": 0.1})()
    assert not parallel.static_graph(setup)


@pytest.mark.parametrize(
    ("settings", "world", "problem"),
    [
        (["compute.compile=default"], 2, "does not support compute.compile"),
        (["compute.precision=fp16"], 2, "does not support compute.precision=fp16"),
        (["ema=0.9"], 2, "does not support a moving average: take ema=0"),
        (["method.name=ogm-ge"], 2, "does not support method ogm-ge, which reads or changes parameters or gradients"),
        (["method.name=reconboost"], 2, "needs the same parameters in every step, which reconboost"),
        (["method.trust=label"], 2, "does not support these options of method cpsc, which inspect all features"),
    ],
)
def test_what_cannot_be_sharded_is_refused(small_config, settings, world, problem):
    setup = Setup.build(apply_settings(small_config, ["compute.sharding=encoders", *settings]))
    setup.process = Process(0, world)
    with pytest.raises(UserError, match=rf"^compute.sharding=encoders {problem}.*, or compute.sharding=off$"):
        parallel.trained(setup)


def test_a_parameter_that_is_not_finite_is_found_among_large_ones(small_config):
    trainer = Trainer(Setup.build(small_config))
    with torch.no_grad():
        trainer.objective.model.heads["fou"].weight.fill_(3e38)
        trainer.state_dict()
        trainer.objective.model.heads["fou"].weight[0, 0] = float("-inf")
    with pytest.raises(UserError, match=r"parameter heads\.fou\.weight is not finite"):
        trainer.state_dict()
