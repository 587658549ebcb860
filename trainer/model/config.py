"""The shape of the network, as data. Imports no torch, so that specs and forms can carry it."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

WINDOW_CHUNKS = 4


class ModelConfig(BaseModel):
    """Hyperparameters of the decoder; the names are those of Hugging Face's `MixtralConfig`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocab_size: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int = Field(gt=0)
    intermediate_size: int = Field(gt=0, description="width of one expert")
    num_local_experts: int = Field(8, gt=0)
    num_experts_per_tok: int = Field(2, gt=0)
    max_position_embeddings: int = Field(gt=0, description="longest context, tokens")
    sliding_window: int | None = Field(None, gt=0, description="attention reaches back this many tokens; none: all")
    aggregate_slots: int = Field(
        0, ge=0, multiple_of=2, description="slots for summaries of what has left the window; 0: it is forgotten"
    )
    rope_theta: float = Field(1e4, gt=0)
    rms_norm_eps: float = Field(1e-5, gt=0)
    tie_word_embeddings: bool = False
    initializer_range: float = Field(0.02, gt=0)

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def kv_numbers(self) -> int:
        """How many numbers the keys and values of one token are, over all layers."""
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim

    @property
    def chunk(self) -> int:
        """S, how many tokens one summary stands for."""
        assert self.sliding_window is not None
        return self.sliding_window // WINDOW_CHUNKS

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.hidden_size % self.num_attention_heads or self.head_dim % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size} must split into num_attention_heads {self.num_attention_heads} "
                "heads of an even width; change one of the two"
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} must be a multiple of num_key_value_heads "
                f"{self.num_key_value_heads}"
            )
        if self.num_experts_per_tok > self.num_local_experts:
            raise ValueError(
                f"num_experts_per_tok {self.num_experts_per_tok} exceeds num_local_experts {self.num_local_experts}"
            )
        if self.sliding_window is not None and self.sliding_window > self.max_position_embeddings:
            raise ValueError(
                f"sliding_window {self.sliding_window} exceeds max_position_embeddings {self.max_position_embeddings}; "
                "leave it out for full attention"
            )
        if self.aggregate_slots and (self.sliding_window is None or self.sliding_window % WINDOW_CHUNKS):
            raise ValueError(
                f"aggregate_slots {self.aggregate_slots} needs a sliding_window that is a multiple of {WINDOW_CHUNKS}, "
                f"not {self.sliding_window}: summaries stand for a quarter of the window"
            )
        return self
