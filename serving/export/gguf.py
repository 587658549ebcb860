"""A checkpoint as one GGUF file that llama.cpp opens: its architecture `llama` with experts, which is Mixtral.

llama.cpp gives that architecture no sliding window, so the file declares a context of at most the window: up to it, the
two networks are the same.

Shapes: N rows, D columns, E experts.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import torch
from gguf import GGMLQuantizationType, LlamaFileType, TokenType
from torch import Tensor

from trainer.data.tokenizer import Tokenizer
from trainer.model.config import ModelConfig
from trainer.model.gguf import GGUF_NAMES, GGUF_STACKS, in_neighbours, unpack
from trainer.model.pretrained import read_pretrained
from trainer.spec import GgufNumbers

_KINDS: dict[GgufNumbers, tuple[GGMLQuantizationType, LlamaFileType]] = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
_Q8_BLOCK = 32  # numbers of a row that share a scale


def write_gguf(
    path: Path, config: ModelConfig, weights: dict[str, Tensor], tokenizer: Tokenizer, numbers: GgufNumbers
) -> None:
    """Write `weights`, named as Mixtral's, with the tokenizer into one file.

    Raises:
        ValueError: llama.cpp has no such tokenizer, or a row does not split into the blocks of `numbers`.
    """
    kind, file_type = _KINDS[numbers]
    writer = gguf.GGUFWriter(path, "llama")
    try:
        _add_shape(writer, config)
        writer.add_file_type(file_type)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_tokenizer(writer, tokenizer, config.vocab_size)
        for name, tensor in gguf_tensors(config, weights).items():
            _add_tensor(writer, name, tensor, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def read_gguf(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The network's shape and its float32 weights under our names, as an import job reads them.

    Raises:
        ValueError: the file is not what `write_gguf` writes; says what is wrong.
    """
    with TemporaryDirectory(dir=path.parent) as folder:
        unpack(path, Path(folder))
        return read_pretrained(Path(folder))


def _add_shape(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    writer.add_name("octavo")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(
        min(config.max_position_embeddings, config.sliding_window or config.max_position_embeddings)
    )
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_expert_count(config.num_local_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)


# -- tensors ---------------------------------------------------------------------------------------------------------


def gguf_tensors(config: ModelConfig, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mixtral's tensors under llama.cpp's names and in its order of rows, each layer's experts stacked [E, N, D]."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    tensors = {}
    for name, tensor in weights.items():
        stem = name.removesuffix(".weight")
        short = stem.rpartition(".")[2]
        if "experts" not in stem:
            tensors[_gguf_name(stem)] = in_neighbours(tensor, heads[short]) if short in heads else tensor
    for layer in range(config.num_hidden_layers):
        experts = f"model.layers.{layer}.block_sparse_moe.experts"
        for theirs, ours in GGUF_STACKS.items():
            stack = [weights[f"{experts}.{expert}.{ours}.weight"] for expert in range(config.num_local_experts)]
            tensors[f"blk.{layer}.{theirs}.weight"] = torch.stack(stack)
    return tensors


def _gguf_name(stem: str) -> str:
    """'model.layers.3.self_attn.q_proj' -> 'blk.3.attn_q.weight'."""
    if not stem.startswith("model.layers."):
        return f"{GGUF_NAMES[stem]}.weight"
    layer, short = stem.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{GGUF_NAMES[short]}.weight"


def _add_tensor(writer: gguf.GGUFWriter, name: str, tensor: Tensor, kind: GGMLQuantizationType) -> None:
    """Norms and routers stay float32, as llama.cpp wants them."""
    if tensor.dim() == 1 or "ffn_gate_inp" in name:
        kind = GGMLQuantizationType.F32
    if kind is GGMLQuantizationType.Q8_0 and tensor.shape[-1] % _Q8_BLOCK:
        raise ValueError(
            f"gguf 'q8_0' packs {_Q8_BLOCK} numbers of a row together, but a row of '{name}' has {tensor.shape[-1]}; "
            "choose 'bf16' or 'f16'"
        )
    values = tensor.float().numpy()
    if kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
        writer.add_tensor(name, values.astype("float32" if kind is GGMLQuantizationType.F32 else "float16"))
    else:
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)


# -- tokenizer -------------------------------------------------------------------------------------------------------


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer, rows: int) -> None:
    """Args: rows: how many tokens the network knows, which may be more than the tokenizer's."""
    state = json.loads(tokenizer.file)
    tokens, kinds = _tokens(state, rows)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer(state))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in state["model"]["merges"]])
    if tokenizer.start_ids:
        writer.add_bos_token_id(tokenizer.start_ids[0])
    writer.add_eos_token_id(tokenizer.end_id)
    writer.add_pad_token_id(tokenizer.pad_id)
    writer.add_add_bos_token(bool(tokenizer.start_ids))
    writer.add_chat_template(tokenizer.chat.template(spaced=False))


def _tokens(state: dict[str, Any], rows: int) -> tuple[list[str], list[TokenType]]:
    """Text and kind of each id; ids without a token are unused.

    llama.cpp shows user-defined tokens and hides control tokens, so `<think>` is one of the former. It also makes a
    token of that text whoever wrote it, which Octavo does not.
    """
    tokens, kinds = [f"[PAD{number}]" for number in range(rows)], [TokenType.UNUSED] * rows
    for text, number in state["model"]["vocab"].items():
        tokens[number], kinds[number] = text, TokenType.NORMAL
    for added in state["added_tokens"]:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        tokens[added["id"]], kinds[added["id"]] = added["content"], kind
    return tokens, kinds


def pre_tokenizer(state: dict[str, Any]) -> str:
    """llama.cpp's name of the way in which a tokenizer.json cuts a text before BPE.

    Raises:
        ValueError: llama.cpp has none that is known to be the same.
    """
    cutter = state["pre_tokenizer"] or {}
    steps = cutter.get("pretokenizers", [cutter])
    plain = [
        {name: step.get(name) for name in ("type", "individual_digits", "add_prefix_space", "use_regex")}
        for step in steps
    ]
    byte_level = {"type": "ByteLevel", "individual_digits": None, "add_prefix_space": False, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True, "add_prefix_space": None, "use_regex": None}
    if plain == [digits, byte_level]:
        return "smollm"
    if plain == [byte_level]:
        return "gpt-2"
    names = ", ".join(str(step.get("type")) for step in steps)
    raise ValueError(
        f"gguf: this tokenizer cuts texts by {names}, for which llama.cpp has no name; leave 'gguf' out, or use a "
        "byte-level tokenizer such as those that a tokenize job learns"
    )
