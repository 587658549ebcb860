"""Muon against the singular value decomposition and against a loop over single matrices."""

import pytest
import torch

from tests.trainer import tiny
from trainer.engine.muon import Muon, orthogonalise
from trainer.engine.precision import MasterOptimizer
from trainer.spec import Optimizer


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 40), (2, 40, 8)])
def test_orthogonalised_matrices_keep_their_directions_and_have_singular_values_near_one(
    shape: tuple[int, int, int],
) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    found = orthogonalise(matrices).float()
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    values = left.mT @ found @ right.mT  # diagonal where the directions are the same
    diagonal = values.diagonal(dim1=1, dim2=2)
    assert diagonal.min() > 0.3, "a direction was lost"
    assert diagonal.max() < 1.4
    assert (values - torch.diag_embed(diagonal)).abs().max() < 0.1


def test_a_stack_of_experts_steps_as_its_matrices_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    stack, single = (torch.randn(shape, generator=generator) for shape in ((4, 6, 10), (6, 10)))
    apart = [matrix.clone() for matrix in (*stack, single)]
    together = Muon([stack, single], lr=0.02, weight_decay=0.1)
    singly = [Muon([matrix], lr=0.02, weight_decay=0.1) for matrix in apart]
    for _ in range(3):
        stack.grad, single.grad = torch.randn(4, 6, 10, generator=generator), torch.randn(6, 10, generator=generator)
        for matrix, gradient in zip(apart, (*stack.grad, single.grad), strict=True):
            matrix.grad = gradient.clone()
        for optimizer in (together, *singly):
            optimizer.step()
    torch.testing.assert_close(torch.stack(apart), torch.cat([stack, single[None]]), atol=2e-4, rtol=0)


def test_only_matrices_of_the_layers_are_orthogonalised() -> None:
    model = tiny.network()
    optimizer = MasterOptimizer(model, Optimizer(name="muon", lr=0.01))
    muon, adamw = optimizer.optimizers
    by_muon, by_adamw = ({id(p) for group in one.param_groups for p in group["params"]} for one in (muon, adamw))
    assert not by_muon & by_adamw
    for name, parameter in model.named_parameters():
        expected = by_muon if parameter.dim() > 1 and name.startswith("layers.") and "router" not in name else by_adamw
        assert id(parameter) in expected, name


def test_a_step_has_the_size_of_an_adamw_step() -> None:
    matrix = torch.zeros(64, 256)
    matrix.grad = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    Muon([matrix], lr=0.01, weight_decay=0.0).step()
    assert matrix.square().mean().sqrt() == pytest.approx(0.2 * 0.01, rel=0.2)
