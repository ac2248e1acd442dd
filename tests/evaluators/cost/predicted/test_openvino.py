"""Operations of OpenVINO, where the extra is installed."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from evaluators import measure
from evaluators.cost.latency import export
from evaluators.cost.predicted.openvino_runtime import OpenVinoRuntime
from tests.evaluators.cost.known import Block, data

pytest.importorskip("openvino")


def test_what_is_fused_is_one_operation_and_stands_by_itself():
    runtime, inputs = OpenVinoRuntime(1), tuple(x[:1] for x in data().example())
    operations, call = runtime.prepared(Block().eval(), inputs)
    call()
    assert sum(one.kind == "Convolution" for one in operations) == 3
    assert not {"Relu", "Add", "Reorder", "Const"} & {one.kind for one in operations}
    fused = [[name for _, name, *_ in json.loads(one.template)] for one in operations]
    assert sum("Relu" in names for names in fused) == 2
    took = runtime.alone(operations)
    assert all(one.work > 0 and one.layout >= 0 for one in took)


def test_other_widths_are_the_same_operations_with_other_numbers():
    def told(width):
        model = nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Linear(width, 3)).eval()
        return OpenVinoRuntime(1).prepared(model, (torch.randn(2, 8),))[0]

    few, many = told(5), told(16)
    assert [one.template for one in few] == [one.template for one in many]
    assert any(5 in one.numbers for one in few) and any(16 in one.numbers for one in many)


def test_it_computes_what_torch_does_and_is_timed():
    from evaluators.cost.openvino_extra import openvino_call

    torch.manual_seed(0)
    model, inputs = Block().eval(), tuple(x[:2] for x in data().example())
    (found,) = openvino_call(export(model, inputs), inputs)()
    np.testing.assert_allclose(found, model(*inputs).detach(), atol=1e-4)
    assert measure(model, inputs, repeats=2, warmup=0, seconds=0.0, runtime="openvino") > 0
