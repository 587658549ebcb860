"""The slow, obvious decoder: the whole sequence again for every token."""

import torch

from trainer.model.transformer import Transformer


@torch.no_grad()
def greedy_by_recomputing(
    model: Transformer, prompt: list[int], count: int, end_id: int
) -> tuple[list[int], list[float]]:
    sequence, logprobs = list(prompt), []
    for _ in range(count):
        scores = model.logits(model(torch.tensor([sequence])).hidden_BLD)[0, -1].log_softmax(dim=-1)
        sequence.append(int(scores.argmax()))
        logprobs.append(float(scores.max()))
        if sequence[-1] == end_id:
            break
    return sequence[len(prompt) :], logprobs
