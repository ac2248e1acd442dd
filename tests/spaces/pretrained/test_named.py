"""Models of timm and torchvision by name; the libraries themselves are played by modules of a test."""

import sys
from types import ModuleType

import pytest
from torch import nn

from search.config.class_paths import ClassPaths
from secateur import InputError, Timm, Torchvision


class FakeTimm(ModuleType):
    def is_model(self, name):
        return name == "resnet18"

    def create_model(self, name, num_classes=10, act_layer=None):
        return nn.Linear(3, num_classes)


class FakeModels(ModuleType):
    def list_models(self):
        return ["fcn_resnet50"]

    def get_model_builder(self, name):
        def fcn_resnet50(*, weights=None, weights_backbone="IMAGENET", num_classes=10):
            assert weights_backbone is None
            return nn.Linear(3, num_classes)

        return fcn_resnet50


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr("spaces.pretrained.named.util.find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "timm", FakeTimm("timm"))
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", FakeModels("torchvision.models"))


def test_names_become_models(installed):
    assert Timm("resnet18", {"num_classes": 4}).out_features == 4
    assert Torchvision("fcn_resnet50").out_features == 10


@pytest.mark.parametrize(
    ("kind", "name", "arguments", "message"),
    [
        (Timm, "resnet19", {}, "timm has no 'resnet19'"),
        (Timm, "hf-hub:someone/model", {}, "timm has no"),
        (Timm, "resnet18", {"pretrained": True}, "weights are not downloaded"),
        (Timm, "resnet18", {"checkpoint_path": "x"}, "weights are not downloaded"),
        (Timm, "resnet18", {"width": 3}, "width"),
        (Torchvision, "vit", {}, "torchvision has no 'vit'"),
        (Torchvision, "fcn_resnet50", {"weights": "DEFAULT"}, "weights are not downloaded"),
    ],
)
def test_what_does_not_fit_is_one_line(installed, kind, name, arguments, message):
    with pytest.raises(InputError, match=message):
        kind(name, arguments)


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setattr("spaces.pretrained.named.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="timm is not installed; expected it: pip install timm"):
        Timm("resnet18")


def test_a_config_names_them_as_their_libraries_do():
    paths = ClassPaths({})
    found = paths.within({"model": {"class_path": "timm.resnet18", "init_args": {"num_classes": 4}}})
    assert found["model"]["class_path"] == "spaces.pretrained.Timm"
    assert found["model"]["init_args"] == {"name": "resnet18", "arguments": {"num_classes": 4}}
    found = paths.within({"class_path": "torchvision.models.segmentation.fcn_resnet50"})
    assert found["init_args"] == {"name": "fcn_resnet50", "arguments": None}
    other = {"class_path": "my_model.Net", "init_args": {"width": 3}}
    assert paths.within(other) == other
