"""trtllm.yaml: what `trtllm-serve EXPORT --config trtllm.yaml` reads, from the deployment form and the network.

In-flight batching is always on there. It refuses keys that it does not know, so only those are written that its
`TorchLlmArgs` has.

Symbols: T tokens of a step, R requests, D hidden size, F width of an expert of which a token takes k, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

from trainer.devices import find_gpu
from trainer.model.config import ModelConfig
from trainer.model.transformer import count_parameters
from trainer.spec import TrtllmSettings

TOKENS_PER_BLOCK = 32
USABLE = 0.9  # of the memory that the weights leave free: the KV cache takes at most this


@dataclass(frozen=True)
class ServingMemory:
    """Bytes on each card: weights, what one step computes with, and the KV cache of one token of a sequence.

    `full_requests`: how many requests of full length the card holds at once; None where the card is not known.
    """

    weights: int
    step: int
    kv_token: int
    full_requests: int | None


def serving_length(config: ModelConfig, settings: TrtllmSettings) -> int:
    """Tokens of the longest prompt and answer.

    Raises:
        ValueError: more are asked for than the network reads.
    """
    longest = config.max_position_embeddings
    if settings.context is not None and settings.context > longest:
        raise ValueError(f"trtllm.context {settings.context} exceeds the {longest} tokens that the network reads")
    return settings.context or longest


def kv_blocks(config: ModelConfig, length: int) -> int:
    """Blocks of the KV cache that a sequence of `length` tokens keeps, with one more while the next is begun."""
    kept = min(length, config.sliding_window or length)
    return -(-kept // TOKENS_PER_BLOCK) + 1


def serving_memory(config: ModelConfig, settings: TrtllmSettings, weight_bytes: float, width: int) -> ServingMemory:
    """What each of the cards holds; `width` bytes an activation, `weight_bytes` a weight on average.

    step = T·(2·D + k·(D + 3·F))·width + 4·R·V   rows around the experts and in them, and the scores in float32

    Raises:
        ValueError: heads do not split over the cards, or a card does not hold a single request.
    """
    gpus, D, k = settings.gpus, config.hidden_size, config.num_experts_per_tok
    if config.num_attention_heads % gpus or config.intermediate_size % gpus:
        raise ValueError(
            f"trtllm.gpus {gpus} must divide num_attention_heads {config.num_attention_heads} and intermediate_size "
            f"{config.intermediate_size}"
        )
    rows = settings.max_step_tokens * width
    step = (
        rows * (2 * D + k * (D + 3 * config.intermediate_size // gpus)) + 4 * settings.max_requests * config.vocab_size
    )
    heads = -(-config.num_key_value_heads // gpus)  # fewer heads than cards: each card keeps one
    kv_width = 1 if settings.kv_dtype == "fp8" else width
    kv_token = config.kv_numbers // config.num_key_value_heads * heads * kv_width
    weights = int(count_parameters(config).total * weight_bytes / gpus)
    one = kv_blocks(config, serving_length(config, settings)) * TOKENS_PER_BLOCK * kv_token
    return ServingMemory(weights, step, kv_token, _full_requests(settings, weights + step, one))


def _full_requests(settings: TrtllmSettings, taken: int, one_request: int) -> int | None:
    card = None if settings.gpu is None else find_gpu(settings.gpu)
    if card is None:
        return None
    fits = int(USABLE * (card.memory - taken) // one_request)
    if fits < 1:
        raise ValueError(
            f"an {card.mark} of {card.memory / 1e9:.0f} GB does not hold {taken / 1e9:.1f} GB of weights and a step "
            f"with {one_request / 1e9:.2f} GB for one request; raise trtllm.gpus, quantise, or lower trtllm.context "
            "or trtllm.max_step_tokens"
        )
    return fits


def trtllm_config(config: ModelConfig, settings: TrtllmSettings) -> dict[str, Any]:
    """The content of trtllm.yaml. The KV cache holds what the requests can use, where the card has room for it."""
    length = serving_length(config, settings)
    kv_cache: dict[str, Any] = {
        "enable_block_reuse": True,
        "free_gpu_memory_fraction": USABLE,
        "max_tokens": settings.max_requests * kv_blocks(config, length) * TOKENS_PER_BLOCK,
        "tokens_per_block": TOKENS_PER_BLOCK,
        "dtype": settings.kv_dtype,
    }
    if config.sliding_window is not None and config.sliding_window < length:
        kv_cache["max_attention_window"] = [config.sliding_window]
    return {
        "tensor_parallel_size": settings.gpus,
        "max_batch_size": settings.max_requests,
        "max_num_tokens": settings.max_step_tokens,
        "max_seq_len": length,
        "enable_chunked_prefill": True,
        "scheduler_config": {"capacity_scheduler_policy": "GUARANTEED_NO_EVICT"},
        "kv_cache_config": kv_cache,
    }
