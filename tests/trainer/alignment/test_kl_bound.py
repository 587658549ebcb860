"""The measured KL: zero for equal networks, the exact expectation for others, with an interval over answers."""

import pytest
import torch

from tests.trainer import arithmetic
from trainer.alignment.answers import encode_prompts, question
from trainer.alignment.kl_bound import fresh_generator, measure_kl
from trainer.intervals import Interval
from trainer.model.generate import generate
from trainer.model.transformer import Transformer

CPU = torch.device("cpu")


def moved(by: float) -> Transformer:
    model = Transformer(arithmetic.policy().config)
    model.load_state_dict(arithmetic.policy().state_dict())
    with torch.no_grad():
        model.lm_head.weight += by * torch.randn(model.lm_head.weight.shape, generator=torch.Generator().manual_seed(5))
    return model


def prompts(count: int) -> list[list[int]]:
    return encode_prompts(arithmetic.tokenizer(), [question(p.prompt) for p in arithmetic.problems()[:count]])


def kl_of(model: Transformer, count: int = 32) -> Interval:
    generator = fresh_generator(0, 1, 0, CPU)
    return measure_kl(
        model, arithmetic.policy(), arithmetic.tokenizer(), prompts(count), max_new_tokens=24, generator=generator
    )


def test_no_move_is_no_divergence_and_a_larger_move_is_more() -> None:
    assert kl_of(moved(0.0)) == pytest.approx((0, 0, 0), abs=1e-6)
    small, large = kl_of(moved(0.02)), kl_of(moved(0.2))
    assert 0 < small.low < small.mean < small.high < large.mean


def test_it_is_the_mean_over_the_tokens_of_fresh_answers() -> None:
    model, end_id = moved(0.1), arithmetic.tokenizer().end_id
    completions = generate(
        model, prompts(4), max_new_tokens=24, end_id=end_id, temperature=1.0, generator=fresh_generator(0, 1, 0, CPU)
    )
    terms = []
    with torch.no_grad():
        for prompt, completion in zip(prompts(4), completions, strict=True):
            for end in range(len(completion.tokens)):
                seen = torch.tensor([prompt + completion.tokens[:end]])
                p, q = (m.logits(m(seen).hidden_BLD[0, -1]).double().softmax(0) for m in (model, arithmetic.policy()))
                terms.append((p * (p / q).log()).sum().item())
    assert kl_of(model, 4).mean == pytest.approx(sum(terms) / len(terms), rel=1e-3)


def test_random_numbers_depend_on_seed_step_and_purpose_alone() -> None:
    def draw(*key: int) -> float:
        return torch.rand((), generator=fresh_generator(*key, CPU)).item()

    assert draw(0, 1, 0) == draw(0, 1, 0)
    assert len({draw(0, 1, 0), draw(1, 1, 0), draw(0, 2, 0), draw(0, 1, 1)}) == 4
