"""Named sizes of the network, from a CPU's minutes to the article's hundred-billion scale. Imports no torch.

    name              parameters  active a token
    nano                  1.9 M        38 %    the demo: a CPU, minutes
    micro                 115 M        35 %    the shape that speed is measured with on a CPU
    coarse-35, fine-12     80 M   35, 12 %     claim 5: the same size, differently activated
    small                 1.1 B        37 %    one GPU
    mixtral-8x7b           47 B        28 %    Jiang et al. 2024, "Mixtral of Experts", table 1
    article               174 B        29 %    the article's pool of 8 experts, top-2
    article-35, -12       174 B   35, 12 %     claim 5 at the article's own scale

Expert numbers are multiples of 8, so that the groups of 2, 3 and 3 eighths stay whole.
"""

from collections.abc import Mapping
from typing import Any

from trainer.model.config import ModelConfig


def regrained(config: ModelConfig, num_experts: int, top_k: int) -> ModelConfig:
    """The same network with its experts cut anew: as many expert parameters in total, `num_experts` of them.

    `regrained(config, 1, 1)` is the dense network of the same size.

    Raises:
        ValueError: the experts' joint width cannot be divided so.
    """
    joint = config.num_local_experts * config.intermediate_size
    if joint % num_experts:
        raise ValueError(f"a joint expert width of {joint} does not divide into {num_experts} experts")
    cut = {"num_local_experts": num_experts, "intermediate_size": joint // num_experts, "num_experts_per_tok": top_k}
    return ModelConfig(**{**config.model_dump(), **cut})


# Everything but the experts holds 6 % of the parameters; then 5 of 16 experts are 35 % and 4 of 64 are 12 %.
_PAIR = ModelConfig(
    vocab_size=4096,
    hidden_size=384,
    num_hidden_layers=8,
    num_attention_heads=6,
    num_key_value_heads=2,
    intermediate_size=1024,
    max_position_embeddings=1024,
    tie_word_embeddings=True,
)
# Here it is 5.5 %, and 5 of 72 are 12 %.
_ARTICLE = ModelConfig(
    vocab_size=65536,
    hidden_size=8192,
    num_hidden_layers=56,
    num_attention_heads=64,
    num_key_value_heads=8,
    intermediate_size=14976,
    max_position_embeddings=65536,
    sliding_window=4096,
    rope_theta=1e6,
)

PRESETS: dict[str, ModelConfig] = {
    "nano": ModelConfig(
        vocab_size=512,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=256,
    ),
    "micro": ModelConfig(
        vocab_size=8192,
        hidden_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        intermediate_size=1024,
        max_position_embeddings=1024,
    ),
    "coarse-35": regrained(_PAIR, 16, 5),
    "fine-12": regrained(_PAIR, 64, 4),
    "small": ModelConfig(
        vocab_size=32768,
        hidden_size=1536,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        intermediate_size=2048,
        max_position_embeddings=65536,
        sliding_window=4096,
        rope_theta=1e6,
    ),
    "mixtral-8x7b": ModelConfig(
        vocab_size=32000,
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=14336,
        max_position_embeddings=32768,
        rope_theta=1e6,
    ),
    "article": _ARTICLE,
    "article-35": regrained(_ARTICLE, 16, 5),
    "article-12": regrained(_ARTICLE, 72, 5),
}


def preset(name: str) -> ModelConfig:
    """Raises: ValueError: there is no such preset, listing those there are."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset '{name}'; there are: {', '.join(PRESETS)}")
    return PRESETS[name]


def from_preset(value: Any) -> Any:
    """The full config that a spec's `model` means by "small" or by {preset = "small", vocab_size = 512}.

    Anything else is returned as it is, for `ModelConfig` to judge.

    Raises:
        ValueError: the preset is unknown, or every field is given beside it, so that nothing of it would be left.
    """
    if isinstance(value, str):
        return preset(value)
    if isinstance(value, Mapping) and "preset" in value:
        changes = {name: change for name, change in value.items() if name != "preset"}
        if changes.keys() >= ModelConfig.model_fields.keys():
            raise ValueError("model: a preset with every field given too; give its name alone, or what differs from it")
        return {**preset(str(value["preset"])).model_dump(), **changes}
    return value
