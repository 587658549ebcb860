"""What TensorRT-LLM's PyTorch backend needs of an export: keys, tensor names, shapes, dtypes, and a config it takes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file

from serving.export.trtllm import TOKENS_PER_BLOCK, serving_memory, trtllm_config
from tests.serving.world import checkpoint_run, error_of, export_run
from tests.trainer import tiny
from trainer.model.presets import preset
from trainer.model.transformer import count_parameters
from trainer.spec import ExportSpec, TrtllmSettings

# From the source of TensorRT-LLM: `TorchLlmArgs`, `KvCacheConfig`, `SchedulerConfig` (all refuse other keys).
KNOWN = {
    "": {
        "tensor_parallel_size", "max_batch_size", "max_num_tokens", "max_seq_len", "enable_chunked_prefill",
        "scheduler_config", "kv_cache_config", "batch_wait_timeout_ms", "batch_wait_timeout_iters",
        "batch_wait_max_tokens_ratio",
    },
    "kv_cache_config": {
        "enable_block_reuse", "max_tokens", "max_attention_window", "free_gpu_memory_fraction", "tokens_per_block",
        "dtype",
    },
    "scheduler_config": {"capacity_scheduler_policy", "context_chunking_policy", "waiting_queue_policy"},
}  # fmt: skip
# What its MixtralForCausalLM reads of config.json, in the spelling of older transformers where there are two.
CONFIG = {
    "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 32, "intermediate_size": 24,
    "num_local_experts": 8, "num_experts_per_tok": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "vocab_size": 290,
    "tie_word_embeddings": False, "rope_theta": 1e4, "torch_dtype": "bfloat16", "dtype": "bfloat16",
    "sliding_window": 16, "hidden_act": "silu", "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
}  # fmt: skip
D, F, V, HK, GK, E = 32, 24, 290, 32, 16, 8


def expected_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (V, D),
        "model.norm.weight": (D,),
        "lm_head.weight": (V, D),
    }
    for layer in range(2):
        of_layer: dict[str, tuple[int, ...]] = {
            "self_attn.q_proj": (HK, D), "self_attn.k_proj": (GK, D), "self_attn.v_proj": (GK, D),
            "self_attn.o_proj": (D, HK), "input_layernorm": (D,), "post_attention_layernorm": (D,),
            "block_sparse_moe.gate": (E, D),
        }  # fmt: skip
        for expert in range(E):
            for name, shape in (("w1", (F, D)), ("w2", (D, F)), ("w3", (F, D))):
                of_layer[f"block_sparse_moe.experts.{expert}.{name}"] = shape
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in of_layer.items()}
    return shapes


def test_every_key_name_shape_and_dtype_is_the_one_that_is_read(tmp_path: Path) -> None:
    source = checkpoint_run(tmp_path / "training", config=tiny.config(sliding_window=16))
    status, run = export_run(tmp_path / "export", source, dtype="bfloat16", tolerance=5.0)
    assert status == 0
    export = run.artifact("export")
    config = json.loads((export / "config.json").read_text())
    assert {key: config[key] for key in CONFIG} == CONFIG
    assert "quantization_config" not in config
    tensors = load_file(export / "model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == expected_shapes()
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.bfloat16"}


def test_the_config_says_what_the_form_says(tmp_path: Path) -> None:
    form = {"max_requests": 5, "max_step_tokens": 300, "context": 40, "kv_dtype": "fp8", "gpu": "h100"}
    source = checkpoint_run(tmp_path / "training", config=tiny.config(sliding_window=16))
    status, run = export_run(tmp_path / "export", source, trtllm=form)
    assert status == 0
    content = yaml.safe_load((run.artifact("export") / "trtllm.yaml").read_text())
    assert content.items() >= {"max_batch_size": 5, "max_num_tokens": 300, "max_seq_len": 40}.items()
    cache = content["kv_cache_config"]
    assert (cache["dtype"], cache["max_attention_window"]) == ("fp8", [16])
    # The window of 16 tokens is one block; each of the five requests has one more while the next is begun.
    assert cache["max_tokens"] == 5 * 2 * TOKENS_PER_BLOCK
    for place, known in KNOWN.items():
        assert set(content[place] if place else content) <= known
    result = run.result()
    assert result["trtllm_weights"] == 4 * result["parameters"]
    assert result["trtllm_kv_token"] == 2 * 2 * 2 * 8  # keys and values, layers, heads, width; one byte each
    assert result["trtllm_full_requests"] > 1000


def test_full_attention_needs_no_window() -> None:
    assert "max_attention_window" not in trtllm_config(tiny.config(), TrtllmSettings())["kv_cache_config"]
    short = trtllm_config(tiny.config(sliding_window=16), TrtllmSettings(context=16))
    assert "max_attention_window" not in short["kv_cache_config"]


def test_a_card_holds_what_it_has_room_for() -> None:
    """Twice the cards: half of the weights and of the keys on each, and room for more than twice the requests."""
    config = preset("small")
    one, two = (serving_memory(config, TrtllmSettings(gpu="A100", gpus=gpus), 2, 2) for gpus in (1, 2))
    assert one.weights == 2 * count_parameters(config).total == 2 * two.weights
    assert one.kv_token == 2 * config.kv_numbers == 2 * two.kv_token
    assert one.full_requests is not None
    assert two.full_requests is not None
    assert two.full_requests > 2 * one.full_requests > 0


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({"gpus": 3}, "trtllm.gpus 3 must divide num_attention_heads 4"),
        ({"context": 65}, "trtllm.context 65 exceeds the 64 tokens"),
    ],
)
def test_what_the_network_cannot_do_is_refused(tmp_path: Path, form: dict[str, Any], reason: str) -> None:
    status, run = export_run(tmp_path / "export", checkpoint_run(tmp_path / "training"), trtllm=form)
    assert status == 1
    assert reason in error_of(run)
    assert not (run.artifacts / "export").exists()


def test_a_card_that_is_too_small_is_named() -> None:
    with pytest.raises(ValueError, match=r"an L40S of 48 GB does not hold .* raise trtllm\.gpus, quantise"):
        serving_memory(preset("article"), TrtllmSettings(gpu="L40S"), 2, 2)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"gguf": "q4_0"}, "gguf"),
        ({"quantise": "fp4"}, "quantise"),
        ({"quantise": "fp8"}, "bind input 'dataset' to a tokenize job"),
        ({"inputs": {"checkpoint": "sft", "dataset": "tokenize"}}, "read for quantise 'fp8' only"),
        ({"trtllm": {"gpu": "RTX 9"}}, "gpu 'RTX 9' is not known; there are H100 PCIe"),
        ({"trtllm": {"max_step_tokens": 8}}, "max_step_tokens 8 must be at least max_requests 64"),
    ],
)
def test_a_wrong_form_is_refused_before_it_is_queued(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ExportSpec(**{"name": "export", "inputs": {"checkpoint": "sft"}, **values})
