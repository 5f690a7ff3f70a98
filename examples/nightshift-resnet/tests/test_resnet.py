"""The family on its own: its settings and its network. What every family promises is checked by Nightshift's kit."""

from importlib.metadata import entry_points

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nightshift.families import LearnerSetup, Training
from nightshift_resnet.family import FAMILY, ResNetModel
from nightshift_resnet.torch_learner import ResidualNetwork, build


def test_the_entry_point_leads_to_the_family():
    (point,) = entry_points(group="nightshift.families", name="resnet")
    assert point.load() is FAMILY


def test_settings_are_strict():
    assert ResNetModel().model_dump()["blocks"] == 3
    with pytest.raises(ValidationError, match="blocks"):
        ResNetModel(blocks=0)
    with pytest.raises(ValidationError, match="unknown preset; presets of resnet: resnet20, resnet32, resnet-tiny"):
        ResNetModel(preset="resnet50")


# Table 6 of He et al. (2016): layers and millions of weights.
@pytest.mark.parametrize(("preset", "layers", "millions"), [("resnet20", 20, 0.27), ("resnet32", 32, 0.46)])
def test_presets_are_those_of_the_paper(preset, layers, millions):
    spec = ResNetModel(preset=preset)
    network = ResidualNetwork(3, spec.blocks, spec.width, 10)
    weighted = [one for one in network.modules() if isinstance(one, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(weighted) == layers == 6 * spec.blocks + 2
    assert round(sum(weight.numel() for weight in network.parameters()) / 1e6, 2) == millions


def test_groups_halve_the_image_and_double_the_filters():
    network = ResidualNetwork(3, 2, 16, 10)
    x = network.stem(torch.zeros(1, 3, 32, 32))
    shapes = [tuple((x := group(x)).shape[1:]) for group in network.groups]
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]
    assert network(torch.zeros(5, 3, 17, 20)).shape == (5, 10)


def test_a_block_whose_convolutions_are_zero_passes_its_input_on():
    block = ResidualNetwork(3, 1, 4, 2).groups[1][0].eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.rand(2, 4, 6, 6)
    y = block(x)
    assert torch.equal(y[:, :4], x[:, :, ::2, ::2])
    assert not y[:, 4:].any()


def test_it_learns_colours():
    labels = np.arange(64) % 2
    images = np.random.default_rng(0).integers(0, 100, (64, 8, 8, 3)).astype(np.uint8)
    images[labels == 1, ..., 0] += 100
    training = Training(optimizer="sgd", learning_rate=0.05)
    model = ResNetModel(preset="resnet-tiny", image_size=(8, 8))
    learner = build(LearnerSetup(model, training, 20, "cpu", 1, {"classes": ["dark", "red"]}))
    learner.set_data({"x": images, "y": labels})
    for step in range(20):
        learner.train_step(np.arange(64), step)
    assert learner.evaluate({"x": images, "y": labels}, 64)["accuracy"] == 1.0
