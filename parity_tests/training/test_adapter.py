"""What a training adapter may ask for, and what it may refuse."""

import json
import sys

import numpy as np
import pytest

from examples import sgd_training
from numpy_lstm import SGD
from numpy_lstm.errors import InputError
from torch_oracle.commands.main import main
from torch_oracle.training.adapter import numpy_training
from torch_oracle.training.cases import training_cases
from torch_oracle.training.stages import judge_training

pytestmark = pytest.mark.usefixtures("without_type_checks")


def test_the_example_is_judged_by_the_one_recipe_that_it_has(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = tmp_path / "verdict.json"
    assert main(["training", "examples.sgd_training:train", "--json", str(file)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("examples.sgd_training:train: Nothing wrong was found")
    refused = "momentum, adam, adamw, text, momentum-float32, adamw-float32"
    assert f"not tried, since the adapter refuses: {refused} (plain SGD alone, with" in shown
    judgement = json.loads(file.read_text())["judgement"]
    assert [case["case"] for case in judgement["cases"]] == ["sgd"]
    assert list(judgement["refused"]) == refused.split(", ")


def test_a_fault_in_the_example_is_found():
    def without_clipping(weights, batches, recipe, learning_rates):
        steps = sgd_training.train(weights, batches, recipe, learning_rates)
        for step, before in zip(steps, [weights, *(s["weights"] for s in steps)], strict=False):
            step["clipped"] = {name: array.copy() for name, array in step["gradients"].items()}
            step["weights"] = {
                name: before[name] - learning_rates[0] * array
                for name, array in step["clipped"].items()
            }
        return steps

    first = judge_training(without_clipping).first
    assert (first.case, first.step, first.stage) == ("sgd", 0, "clip")


def test_the_learning_rate_of_each_step_is_given_to_those_who_ask():
    given = {}

    def asks(weights, batches, recipe, learning_rates):
        given[type(recipe.optimizer).__name__, recipe.schedule] = learning_rates
        if not isinstance(recipe.optimizer, SGD) or len(weights) > 5:
            raise NotImplementedError
        return numpy_training(weights, batches, recipe)

    judgement = judge_training(asks)
    assert judgement.passed
    assert set(judgement.refused.values()) == {"not implemented"}
    (cosine,) = (rates for (_, schedule), rates in given.items() if schedule == "cosine")
    (case,) = (case for case in training_cases() if case.recipe.schedule == "cosine")
    assert (len(cosine), cosine[0]) == (len(case.batches), case.recipe.optimizer.lr)
    assert np.all(np.diff(cosine) < 0)


def test_an_adapter_that_refuses_everything_is_no_verdict():
    def refuses(weights, batches, recipe):
        raise NotImplementedError("not today")

    with pytest.raises(InputError, match=r"refuses every recipe.* sgd \(not today\), momentum"):
        judge_training(refuses)
