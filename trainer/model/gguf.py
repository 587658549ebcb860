"""A GGUF file of Llama's architecture, dense or with experts, as a folder in Hugging Face's layout, its numbers taken
out of their blocks into float32."""

import json
from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as BpeTokenizer
from torch import Tensor

Values = dict[str, Any]  # the file's metadata

_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "block_sparse_moe.gate",
}  # fmt: skip
GGUF_NAMES = {theirs: ours for ours, theirs in (_OUTER | _LAYER).items()}
# All experts' weights of a layer in one tensor [E, N, D]: llama.cpp's name, and Mixtral's of one expert.
GGUF_STACKS = {"ffn_gate_exps": "w1", "ffn_up_exps": "w3", "ffn_down_exps": "w2"}
# Ways to cut a text before BPE, by llama.cpp's names.
_DIGITS_ALONE, _PLAIN = ("smollm", "starcoder", "refact"), ("gpt-2",)
_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5  # kinds of token


def unpack(path: Path, folder: Path) -> None:
    """Write config.json, model.safetensors, tokenizer.json and tokenizer_config.json into `folder`, which exists.

    Raises:
        ValueError: the file is no GGUF, of another architecture, or holds something that is not known; it is named.
    """
    try:
        reader = gguf.GGUFReader(path)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{path} cannot be read as GGUF: {error}") from error
    values = {name: field.contents() for name, field in reader.fields.items()}
    if values.get("general.architecture") != "llama":
        raise ValueError(f"{path} is of architecture '{values.get('general.architecture')}'; Octavo imports 'llama'")
    tensors: dict[str, Tensor] = {}
    for tensor in reader.tensors:
        tensors |= _by_hf_name(tensor.name, _tensor(tensor, values))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in (
        ("config.json", hf_config(values, tied="lm_head.weight" not in tensors)),
        ("tokenizer_config.json", tokenizer_config(values)),
    ):
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    tokenizer(values).save(str(folder / "tokenizer.json"))


def _need(values: Values, name: str) -> Any:
    if name not in values:
        raise ValueError(f"the GGUF file does not say '{name}'")
    return values[name]


def hf_config(values: Values, tied: bool) -> Values:
    def llama(name: str, default: Any = None) -> Any:
        return values.get(f"llama.{name}", default)

    scaling = llama("rope.scaling.type", "none")
    rope = {"rope_type": "default" if scaling == "none" else scaling, "rope_theta": llama("rope.freq_base", 1e4)}
    window, experts = llama("attention.sliding_window"), llama("expert_count", 0)
    kind = "Mixtral" if experts else "Llama" if window is None else "Mistral"
    return {
        "architectures": [f"{kind}ForCausalLM"],
        "model_type": kind.lower(),
        **({"num_local_experts": experts, "num_experts_per_tok": llama("expert_used_count")} if experts else {}),
        "hidden_size": llama("embedding_length"),
        "intermediate_size": llama("feed_forward_length"),
        "num_hidden_layers": llama("block_count"),
        "num_attention_heads": llama("attention.head_count"),
        "num_key_value_heads": llama("attention.head_count_kv"),
        "head_dim": llama("attention.key_length", llama("rope.dimension_count")),
        "max_position_embeddings": llama("context_length"),
        "sliding_window": window,
        "rms_norm_eps": llama("attention.layer_norm_rms_epsilon"),
        "vocab_size": len(_need(values, "tokenizer.ggml.tokens")),
        "tie_word_embeddings": tied,
        "hidden_act": "silu",
        "rope_theta": rope["rope_theta"],
        "rope_parameters": rope,
        "dtype": "float32",
    }


def hf_name(name: str) -> str:
    """'blk.3.attn_q.weight' -> 'model.layers.3.self_attn.q_proj.weight'.

    Raises:
        ValueError: neither Llama nor Mixtral has such a tensor.
    """
    parts = name.split(".")
    if len(parts) == 2 and parts[0] in _OUTER:
        return f"{_OUTER[parts[0]]}.{parts[1]}"
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _LAYER:
        return f"model.layers.{parts[1]}.{_LAYER[parts[2]]}.{parts[3]}"
    raise ValueError(f"tensor '{name}' of the GGUF file has no place in Llama or Mixtral")


def _by_hf_name(name: str, weight: Tensor) -> dict[str, Tensor]:
    """A tensor under its name, or a stack of experts as one tensor for each."""
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in GGUF_STACKS:
        prefix, short = f"model.layers.{parts[1]}.block_sparse_moe.experts", GGUF_STACKS[parts[2]]
        return {f"{prefix}.{expert}.{short}.weight": weight_ND.clone() for expert, weight_ND in enumerate(weight)}
    return {hf_name(name): weight}


def _tensor(tensor: gguf.ReaderTensor, values: Values) -> Tensor:
    try:
        weight = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
    except NotImplementedError as error:
        raise ValueError(f"tensor '{tensor.name}': numbers of type {tensor.tensor_type.name} are not known") from error
    heads = _need(values, "llama.attention.head_count")
    if tensor.name.endswith("attn_k.weight"):
        heads = values.get("llama.attention.head_count_kv", heads)
    elif not tensor.name.endswith("attn_q.weight"):
        return weight
    # Rows that do not make whole heads stay as they are; who reads the folder names the misshapen tensor.
    return in_halves(weight, heads) if len(weight) % (2 * heads) == 0 else weight


def in_halves(weight_ND: Tensor, heads: int) -> Tensor:
    """Rows of a projection to queries or keys in Hugging Face's order.

    GGUF rotates neighbours (0, 1), (2, 3), …; Hugging Face the two halves of a head, (0, K/2), (1, K/2 + 1), …
    """
    return weight_ND.view(heads, -1, 2, weight_ND.shape[-1]).transpose(1, 2).flatten(0, 2)


def in_neighbours(weight_ND: Tensor, heads: int) -> Tensor:
    """The inverse of `in_halves`: rows in GGUF's order."""
    return weight_ND.view(heads, 2, -1, weight_ND.shape[-1]).transpose(1, 2).flatten(0, 2)


def tokenizer(values: Values) -> BpeTokenizer:
    """Raises: ValueError: the tokenizer is of a kind whose merges or cuts are not known."""
    family, cut = values.get("tokenizer.ggml.model"), values.get("tokenizer.ggml.pre")
    if family != "gpt2" or cut not in _DIGITS_ALONE + _PLAIN:
        raise ValueError(
            f"the GGUF file's tokenizer is of kind '{family}', '{cut}'; Octavo knows 'gpt2' with "
            f"{', '.join(_DIGITS_ALONE + _PLAIN)}; import the folder that the file was made from instead"
        )
    kinds = list(zip(values["tokenizer.ggml.tokens"], _need(values, "tokenizer.ggml.token_type"), strict=True))
    vocab = {token: number for number, (token, kind) in enumerate(kinds) if kind != _UNUSED}
    merges = [tuple(pair.split(" ")) for pair in _need(values, "tokenizer.ggml.merges")]
    bpe = BpeTokenizer(models.BPE(vocab, merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level]) if cut in _DIGITS_ALONE else byte_level
    bpe.decoder = decoders.ByteLevel()
    for token, kind in kinds:
        if kind in (_CONTROL, _USER_DEFINED):
            bpe.add_tokens([AddedToken(token, special=kind == _CONTROL, normalized=False)])
    if values.get("tokenizer.ggml.add_bos_token"):
        number = _need(values, "tokenizer.ggml.bos_token_id")
        start = kinds[number][0]
        bpe.post_processor = processors.TemplateProcessing(single=f"{start} $A", special_tokens=[(start, number)])
    return bpe


def tokenizer_config(values: Values) -> Values:
    tokens = values["tokenizer.ggml.tokens"]
    named = {
        f"{name}_token": tokens[values[f"tokenizer.ggml.{name}_token_id"]]
        for name in ("bos", "eos")
        if f"tokenizer.ggml.{name}_token_id" in values
    }
    template = {"chat_template": values["tokenizer.chat_template"]} if "tokenizer.chat_template" in values else {}
    return {"tokenizer_class": "PreTrainedTokenizerFast", **named, **template}
