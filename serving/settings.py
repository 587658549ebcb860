"""What serving reads from the environment, `OCTAVO_*`."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OCTAVO_", frozen=True)

    home: Path = Field(Path("var"), description="where serving.json and usage.jsonl lie")
    serving_host: str = Field("127.0.0.1", description="address the endpoint listens on")
    serving_port: int = Field(8001, ge=1, le=65535, description="port of the endpoint")
    serving_engine: Literal["torch", "tensorrt"] = Field(
        "torch", description="what computes; tensorrt: TensorRT-LLM, on NVIDIA GPUs, as the export's trtllm.yaml says"
    )
    serving_device: str = Field("auto", description="cpu, cuda, cuda:1, …; auto: the GPU where there is one")
    serving_dtype: Literal["float32", "bfloat16", "int8"] = Field(
        "float32", description="numbers the network computes in; int8: weights of 8 bits, on a CPU only"
    )
    serving_threads: int = Field(0, ge=0, description="processor threads of the network; 0: torch decides")
    serving_kv_megabytes: int = Field(256, gt=0, description="memory of one deployment's KV cache")
    serving_block_size: int = Field(16, gt=0, description="tokens a block of the KV cache holds")
    serving_batch_tokens: int = Field(512, gt=0, description="most tokens one step runs")
    serving_max_sequences: int = Field(64, gt=0, description="most requests that are answered at once")
    serving_max_queue: int = Field(1024, gt=0, description="most requests that wait; beyond it the answer is 429")
    serving_max_unread: int = Field(
        4096,
        gt=0,
        description="most tokens a client may be behind, beyond what its connection holds; then it is let go",
    )
    serving_chats_megabytes: int = Field(64, gt=0, description="size of chats.jsonl at which it is turned over")

    @model_validator(mode="after")
    def _room_for_prefill(self) -> Self:
        if self.serving_batch_tokens <= self.serving_max_sequences:
            raise ValueError(
                f"OCTAVO_SERVING_BATCH_TOKENS {self.serving_batch_tokens} must exceed OCTAVO_SERVING_MAX_SEQUENCES "
                f"{self.serving_max_sequences}, or prompts could not be read while answers are written"
            )
        return self
