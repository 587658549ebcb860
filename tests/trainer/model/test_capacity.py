"""Capacity: slots that add up, the fast assignment against one token after the other, and causality through it all."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer import tiny
from tests.trainer.model.test_transformer import moe_by_token
from trainer.model.capacity import FACTOR, Assignment, Room, capacities, slots_of
from trainer.model.moe import route, weigh


def assign_by_token(room: Room, logits_TE: torch.Tensor, choices_Tk: torch.Tensor) -> Assignment:
    """One token after the other, position by position and row by row."""
    left = room.slots_E.tolist()
    choices, full, stuck = choices_Tk.tolist(), torch.zeros_like(choices_Tk).bool(), torch.zeros_like(choices_Tk).bool()
    length = len(choices) // room.rows
    for position in range(length):
        for row in range(room.rows):
            token = row * length + position
            if room.real_T is not None and not room.real_T[token]:
                continue
            wanted, taken = choices_Tk[token].tolist(), []
            for rank, expert in enumerate(wanted):
                goes = expert
                if left[expert] <= 0:
                    full[token, rank] = True
                    others = [e for e in logits_TE[token].argsort(descending=True).tolist() if e not in wanted + taken]
                    free = [e for e in others if left[e] > 0]
                    stuck[token, rank] = not free
                    goes = free[0] if free else wanted[0]
                taken.append(goes)
            for rank, goes in enumerate(taken):
                left[goes] -= 1
                choices[token][rank] = goes
    return Assignment(torch.tensor(choices), full, stuck)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    experts=st.integers(2, 9),
    top_k=st.integers(1, 3),
    rows=st.integers(1, 4),
    length=st.integers(1, 25),
    factor=st.floats(0.2, 2.0),
    padded=st.booleans(),
)
def test_the_fast_assignment_is_one_token_after_the_other(
    seed: int, experts: int, top_k: int, rows: int, length: int, factor: float, padded: bool
) -> None:
    top_k = min(top_k, experts)
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows * length, experts, generator=generator) + torch.linspace(0, 2, experts)
    real = torch.rand(rows * length, generator=generator) < 0.8 if padded else None
    choices = route(logits, top_k).choices_Tk
    slots = slots_of(torch.rand(1, experts, generator=generator) ** 2, rows * length * top_k, factor)[0]
    room = Room(slots, rows, real)
    fast, slow = room.assign(logits, choices), assign_by_token(room, logits, choices)
    for name, one, other in zip(Assignment._fields, fast, slow, strict=True):
        assert torch.equal(one, other), name
    assert torch.equal(slots, room.slots_E), "assigning must not use the slots up for a recomputation"
    counted = fast.choices_Tk if real is None else fast.choices_Tk[real]
    over = (torch.bincount(counted.flatten(), minlength=experts) - slots).clamp(min=0)
    assert int(over.sum()) <= int(fast.stuck_Tk.sum()), "only a token that found no room may exceed the slots"
    apart = fast.choices_Tk[~fast.stuck_Tk.any(dim=1)].sort(dim=1).values
    assert (apart[:, 1:] != apart[:, :-1]).all(), "a token went to one expert twice"


@given(seed=st.integers(0, 1000), experts=st.integers(2, 64), choices=st.integers(1, 10_000))
def test_slots_are_the_capacities_shares_rounded_and_add_up(seed: int, experts: int, choices: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    history = torch.rand(3, experts, generator=generator).softmax(dim=1)
    capacity = capacities(history, torch.rand(3, experts, generator=generator))
    slots = slots_of(capacity, choices)
    assert slots.sum(dim=1).tolist() == [int(1.25 * choices)] * 3
    exact = int(1.25 * choices) * capacity.double() / capacity.double().sum(dim=1, keepdim=True)
    assert float((slots - exact).abs().max()) < 1


def test_capacity_is_load_and_chance_by_the_articles_weights() -> None:
    history, uniform = torch.tensor([[0.5, 0.3, 0.15, 0.05]]), torch.tensor([[0.0, 1.0, 0.5, 0.25]])
    expected = [0.7 * 0.5, 0.7 * 0.3 + 0.3 * 0.5, 0.7 * 0.15 + 0.3 * 0.25, 0.7 * 0.05 + 0.3 * 0.125]
    assert capacities(history, uniform)[0].tolist() == pytest.approx(expected)
    assert FACTOR == 1.25


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.25])
def test_experts_with_room_equal_the_loop_over_tokens_forward_and_backward(factor: float) -> None:
    moe = tiny.network().layers[0].moe
    x = torch.randn(60, 32, generator=torch.Generator().manual_seed(0))
    room = Room(slots_of(torch.arange(1.0, 9)[None], 120, factor)[0], rows=4)
    logits = moe.router(x)
    choices = assign_by_token(room, logits, route(logits, 2).choices_Tk).choices_Tk
    fast, _, routing = moe(x, room)
    slow = moe_by_token(moe, x, weigh(logits, choices))
    assert torch.equal(routing.choices_Tk, choices)
    assert (choices != route(logits, 2).choices_Tk).any(), "nothing overflowed, so nothing was tested"
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-4)
    target = torch.randn(60, 32, generator=torch.Generator().manual_seed(1))
    parameters = [moe.router.weight, moe.gate_up_EGD, moe.down_EDF]
    for one, other in zip(
        *(torch.autograd.grad((y * target).sum(), parameters) for y in (fast, slow)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_room_for_all_changes_nothing() -> None:
    model = tiny.network()
    tokens = torch.randint(tiny.VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(0))
    plenty = [Room(torch.full((8,), 120), rows=3)] * 2
    assert torch.equal(model(tokens, capacity=plenty).hidden_BLD, model(tokens).hidden_BLD)


@pytest.mark.parametrize("position", [0, 7, 18])
@pytest.mark.parametrize("factor", [0.6, 1.25])
def test_a_changed_token_changes_nothing_before_it_in_any_row_or_layer(position: int, factor: float) -> None:
    """Within its position the rows take turns, so a row before the changed one stays as it was there, too."""
    model, (rows, length, row) = tiny.network(tiny.config(num_hidden_layers=3)), (4, 20, 2)
    generator = torch.Generator().manual_seed(position)
    tokens = torch.randint(tiny.VOCABULARY, (rows, length), generator=generator)
    changed = tokens.clone()
    changed[row, position:] = torch.randint(tiny.VOCABULARY, (length - position,), generator=generator)
    slots = slots_of(torch.rand(3, 8, generator=generator), rows * length * 2, factor)
    rooms = [Room(slots_E, rows) for slots_E in slots]
    before, after = (model(t, capacity=rooms, keep_expert_outputs=True) for t in (tokens, changed))
    earlier = torch.arange(length).expand(rows, length) < position + (torch.arange(rows) < row).int()[:, None]
    assert not torch.equal(before.hidden_BLD[~earlier], after.hidden_BLD[~earlier])
    torch.testing.assert_close(before.hidden_BLD[earlier], after.hidden_BLD[earlier], atol=1e-5, rtol=1e-4)
    for layer in range(3):
        mixed = [o.expert_outputs_TD[layer][earlier.flatten()] for o in (before, after)]
        torch.testing.assert_close(*mixed, atol=1e-5, rtol=1e-4)
        went = [o.routing[layer].choices_Tk[earlier.flatten()] for o in (before, after)]
        assert torch.equal(*went)


def test_rows_that_came_first_by_score_do_not_come_first_by_room() -> None:
    """Two tokens want the last slot of one expert: the earlier position gets it, whatever the router says of both."""
    logits = torch.tensor([[2.0, 1.0, 0.0], [9.0, 1.0, 0.0]])
    room = Room(torch.tensor([1, 5, 5]), rows=1)
    assert room.assign(logits, route(logits, 1).choices_Tk).choices_Tk.tolist() == [[0], [1]]
