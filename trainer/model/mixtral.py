"""Our parameters under Mixtral's names and back, as files that transformers, vLLM and TensorRT-LLM open unchanged."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.data.tokenizer import Tokenizer
from trainer.model.config import ModelConfig
from trainer.model.moe import route
from trainer.model.transformer import Transformer
from trainer.spec import Message

PARITY_SEED, PARITY_PROMPTS, PARITY_LENGTH = 20_260_101, 4, 48
# What a tokenizer is recognised by: digits, code, LaTeX, other alphabets, spaces, and what looks like a special token.
PARITY_TEXT = "12 + 30 = 42; naïve Größe, 北京, мир 🙂\n\tdef f(x):\n    return x**2  # \\frac{a}{b} <think> <|end|>\n"
# What Mixtral has no name for, under our names: a file of its own, since strict loaders refuse unknown tensors, and a
# section of config.json with the fields that hold only together with that file.
OWN_WEIGHTS, OWN = "octavo.safetensors", "octavo"
_OWN_MODULES, _OWN_FIELDS = (".aggregate.",), ("aggregate_slots", "max_position_embeddings")
_RENAMED = {
    "embed_tokens.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "lm_head.weight": "lm_head.weight",
}


def to_mixtral(config: ModelConfig, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of `Transformer` -> state dict of `MixtralForCausalLM`; expert stacks are taken apart, and what it
    has no name for (`own_weights`) is left out."""
    theirs: dict[str, Tensor] = {}
    for name, tensor in ours.items():
        if _is_own(name):
            continue
        if name in _RENAMED:
            theirs[_RENAMED[name]] = tensor
            continue
        prefix, short = _split(name)
        if short == "moe.gate_up_EGD":
            for expert, stacked_GD in enumerate(tensor):
                gate_FD, up_FD = stacked_GD.chunk(2)
                theirs[f"{prefix}block_sparse_moe.experts.{expert}.w1.weight"] = gate_FD
                theirs[f"{prefix}block_sparse_moe.experts.{expert}.w3.weight"] = up_FD
        elif short == "moe.down_EDF":
            for expert, down_DF in enumerate(tensor):
                theirs[f"{prefix}block_sparse_moe.experts.{expert}.w2.weight"] = down_DF
        else:
            theirs[prefix + _short_name(short)] = tensor
    if config.tie_word_embeddings:
        theirs.pop("lm_head.weight", None)
    return {name: tensor.contiguous() for name, tensor in theirs.items()}


def from_mixtral(config: ModelConfig, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_mixtral`, without `own_weights`.

    Raises:
        ValueError: a tensor is missing, has another shape, or has no place in the network; it is named.
    """
    left = dict(theirs)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Transformer(config).state_dict().items()}

    def take(name: str) -> Tensor:
        if name not in left:
            raise ValueError(f"the checkpoint has no tensor '{name}'")
        return left.pop(name)

    ours = {n: _gather(config, n, take) for n in shapes if not _is_tied(config, n) and not _is_own(n)}
    for name, tensor in ours.items():
        _check_shape(name, tensor, shapes[name])
    if left:
        raise ValueError(f"the network has no place for tensor '{sorted(left)[0]}' ({len(left)} such)")
    if config.tie_word_embeddings:
        ours["lm_head.weight"] = ours["embed_tokens.weight"]
    return ours


def own_weights(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a state dict that `to_mixtral` leaves out."""
    return {name: tensor.contiguous() for name, tensor in ours.items() if _is_own(name)}


def within_window(config: ModelConfig) -> ModelConfig:
    """What is left of a network without `own_weights`: the same one up to the window, which is its longest context."""
    if not config.aggregate_slots:
        return config
    return config.model_copy(update={"aggregate_slots": 0, "max_position_embeddings": config.sliding_window})


def _is_own(name: str) -> bool:
    return any(module in name for module in _OWN_MODULES)


def _check_shape(name: str, tensor: Tensor, expected: torch.Size) -> None:
    if tensor.shape != expected:
        raise ValueError(
            f"'{name}' has shape {tuple(tensor.shape)} in the checkpoint; the config wants {tuple(expected)}"
        )


def _is_tied(config: ModelConfig, name: str) -> bool:
    return config.tie_word_embeddings and name == "lm_head.weight"


def _split(name: str) -> tuple[str, str]:
    """'layers.3.moe.down_EDF' -> ('model.layers.3.', 'moe.down_EDF')."""
    _, layer, short = name.split(".", 2)
    return f"model.layers.{layer}.", short


def _short_name(short: str) -> str:
    """'attention.q_proj.weight' -> 'self_attn.q_proj.weight'; the norms are called the same."""
    for ours, theirs in (("attention.", "self_attn."), ("moe.router.", "block_sparse_moe.gate.")):
        if short.startswith(ours):
            return theirs + short.removeprefix(ours)
    return short


def _gather(config: ModelConfig, name: str, take: Any) -> Tensor:
    """One of our tensors from theirs; `take` pops a named tensor."""
    if name in _RENAMED:
        tensor: Tensor = take(_RENAMED[name])
        return tensor
    prefix, short = _split(name)
    experts = [f"{prefix}block_sparse_moe.experts.{expert}." for expert in range(config.num_local_experts)]
    if short == "moe.gate_up_EGD":
        return torch.stack([torch.cat((take(e + "w1.weight"), take(e + "w3.weight"))) for e in experts])
    if short == "moe.down_EDF":
        return torch.stack([take(e + "w2.weight") for e in experts])
    tensor = take(prefix + _short_name(short))
    return tensor


def hf_config(config: ModelConfig, dtype: str, end_id: int | None = None, pad_id: int | None = None) -> dict[str, Any]:
    """config.json. Both spellings of rope and dtype are written: older readers know only the first of each.

    A reader of Mixtral's fields and weights alone has the network within the window, so that is what they declare.
    """
    own = {name: getattr(config, name) for name in _OWN_FIELDS} if config.aggregate_slots else None
    return {
        **within_window(config).model_dump(exclude={"aggregate_slots"}),
        **({OWN: own} if own else {}),
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "router_aux_loss_coef": 0.0,
        "output_router_logits": False,
        "use_cache": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "torch_dtype": dtype,
        "dtype": dtype,
        "bos_token_id": None,
        "eos_token_id": end_id,
        "pad_token_id": pad_id,
    }


def read_config(folder: Path) -> ModelConfig:
    """The network's shape from a config.json.

    Raises:
        ValueError: the file is missing, or is not Mixtral's.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no config.json: this is no checkpoint")
    raw = json.loads(path.read_text())
    if raw.get("model_type") != "mixtral":
        raise ValueError(f"{path} is of type '{raw.get('model_type')}'; Octavo opens 'mixtral'")
    raw |= raw.get(OWN, {})
    return ModelConfig(**{name: raw[name] for name in ModelConfig.model_fields if name in raw})


def load_model(folder: Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """A network with the weights of a checkpoint or export folder.

    Raises:
        ValueError: a file is missing or damaged, or a tensor is missing, misshapen or unknown.
    """
    config = read_config(folder)
    ours = from_mixtral(config, _read_file(folder / "model.safetensors"))
    with torch.device("meta"):
        model = Transformer(config)
    if expected := own_weights(model.state_dict()):
        ours |= _read_own(folder / OWN_WEIGHTS, expected)
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in ours.items()}, assign=True)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    return model.eval()


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return tensors


def _read_own(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `expected`'s names and shapes, and no others."""
    found = _read_file(path)
    for name in sorted(found.keys() ^ expected.keys()):
        raise ValueError(f"{path} {'has no' if name in expected else 'has an unknown'} tensor '{name}'")
    for name, tensor in found.items():
        _check_shape(name, tensor, expected[name].shape)
    return found


def save_mixtral(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write Mixtral's tensors, and an index that says they are all in this one file.

    vLLM otherwise reads every .safetensors file of a folder and refuses what it does not know, as the parity record.
    """
    name = "model.safetensors"
    save_file(tensors, folder / name, metadata={"format": "pt"})
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict.fromkeys(sorted(tensors), name)}
    (folder / f"{name}.index.json").write_text(json.dumps(index, indent=1))


def save_weights(folder: Path, config: ModelConfig, state: Mapping[str, Tensor], tokenizer: Tokenizer) -> None:
    """Write a checkpoint's files into `folder`: config, float32 weights, tokenizer and the parity record."""
    state = {name: tensor.detach().float().cpu() for name, tensor in state.items()}
    save_mixtral(folder, to_mixtral(config, state))
    if own := own_weights(state):
        save_file(own, folder / OWN_WEIGHTS)
    end_id, pad_id = tokenizer.end_id, tokenizer.pad_id
    (folder / "config.json").write_text(json.dumps(hf_config(config, "float32", end_id, pad_id), indent=1))
    generation = {"eos_token_id": end_id, "pad_token_id": pad_id}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1))
    tokenizer.save(folder)
    save_file({**parity_record(config, state), **tokenizer_record(tokenizer)}, folder / "parity.safetensors")


def tokenizer_record(tokenizer: Tokenizer) -> dict[str, Tensor]:
    """What serving's tokenizer must reproduce. Keys: text uint8 (UTF-8), text_tokens int32, and chat_tokens int32: the
    text as a user's message, up to where the assistant goes on."""
    chat, _ = tokenizer.encode_chat([Message(role="user", content=PARITY_TEXT)], add_generation_prompt=True)
    return {
        "text": torch.tensor(list(PARITY_TEXT.encode()), dtype=torch.uint8),
        "text_tokens": torch.tensor(tokenizer.encode(PARITY_TEXT), dtype=torch.int32),
        "chat_tokens": torch.tensor(chat, dtype=torch.int32),
    }


@torch.no_grad()
def parity_record(config: ModelConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What serving must reproduce: logits, expert choices and their margins on a few prompts, in float32.

    Keys: tokens [P, L] int32, lengths [P] int32, logits [P, L, V], choices [layers, P, L, k] int32, margins
    [layers, P, L]: how far the last chosen expert's probability lies above the first not chosen. Prompts are longer
    than the window where an export is.
    """
    model = Transformer(config)
    model.load_state_dict(dict(state))
    generator = torch.Generator().manual_seed(PARITY_SEED)
    longest = within_window(config).max_position_embeddings
    length = min(longest, max(PARITY_LENGTH, 2 * (config.sliding_window or 0)))
    tokens_PL = torch.randint(config.vocab_size, (PARITY_PROMPTS, length), generator=generator)
    output = model(tokens_PL)
    k = config.num_experts_per_tok
    routers = output.router_logits_TE
    choices = [route(logits_TE, k).choices_Tk.view(PARITY_PROMPTS, length, k) for logits_TE in routers]
    margins = [_margins(logits_TE, k).view(PARITY_PROMPTS, length) for logits_TE in routers]
    return {
        "tokens": tokens_PL.int(),
        "lengths": torch.full((PARITY_PROMPTS,), length, dtype=torch.int32),
        "logits": model.logits(output.hidden_BLD),
        "choices": torch.stack(choices).int(),
        "margins": torch.stack(margins),
    }


def _margins(logits_TE: Tensor, k: int) -> Tensor:
    """Probability of the k-th expert minus that of the next; 1 where there is no next."""
    if k == logits_TE.shape[1]:
        return torch.ones(len(logits_TE))
    best_Tk = logits_TE.float().softmax(dim=-1).topk(k + 1, dim=-1).values
    return best_Tk[:, k - 1] - best_Tk[:, k]
