"""python -m benchmarks.speed.generate EXPORT: transformers' batched `generate`, for benchmarks.speed.serving.

Without HTTP and with all prompts of a batch starting at once, which is more than a server of it could reach. Prints a
JSON object: clients -> tokens/s and seconds to the first token.
"""

import json
import sys
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from benchmarks.speed.load import CLIENTS, NEW_TOKENS, PROMPT_TOKENS


@torch.inference_mode()
def batch_seconds(model: Any, size: int, new_tokens: int) -> float:
    """Seconds to continue `size` random prompts greedily by `new_tokens` each."""
    prompts = torch.randint(300, model.config.vocab_size, (size, PROMPT_TOKENS))
    config: Any = GenerationConfig
    settings = config(do_sample=False, max_new_tokens=new_tokens, min_new_tokens=new_tokens, pad_token_id=0)
    started = time.perf_counter()
    model.generate(prompts, attention_mask=torch.ones_like(prompts), generation_config=settings)
    return time.perf_counter() - started


def main() -> int:
    loading: Any = AutoModelForCausalLM
    model = loading.from_pretrained(sys.argv[1], dtype=torch.bfloat16, experts_implementation="grouped_mm").eval()
    found = {}
    for clients, requests in CLIENTS.items():
        batch_seconds(model, clients, 2)  # kernels are chosen for a shape when it is first met
        batches = max(1, requests // clients // 2)
        first = batch_seconds(model, clients, 1)
        seconds = sum(batch_seconds(model, clients, NEW_TOKENS) for _ in range(batches))
        speed = clients * NEW_TOKENS * batches / seconds
        found[clients] = {"tokens_per_second": speed, "first_token_p50": first, "first_token_p99": first}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
