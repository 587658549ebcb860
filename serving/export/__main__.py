"""python -m serving.export RUN_DIR: the job kind 'export'. Exit 0 done, 1 failed, 3 cancelled."""

import argparse
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from serving.agreement import Logits, check_agreement
from serving.export.gguf import read_gguf, write_gguf
from serving.export.hugging_face import QUANTISED, READERS, TRTLLM_FILE, check_weights, read_weights, write_export
from serving.export.quantise import (
    calibration_rows,
    check_installed,
    check_quantised,
    dequantised,
    model_logits,
    quantised_model,
    write_quantised,
)
from serving.export.trtllm import serving_memory
from serving.gate import Parity
from serving.loader import verify_files
from serving.parity import check_parity, network_forward, read_record
from trainer.artifacts import Run, RunFolder, new_folder
from trainer.data.tokenizer import Tokenizer
from trainer.model.config import ModelConfig
from trainer.model.mixtral import from_mixtral, load_model, read_config, within_window
from trainer.model.transformer import Transformer, count_parameters
from trainer.process import EXIT_FAILED, execute
from trainer.spec import ExportSpec

Found = dict[str, object]


def run(spec: ExportSpec, run: Run) -> None:
    """Checkpoint -> artifacts/export/, which appears only if it computes what the trainer did."""
    if spec.quantise is not None:
        check_installed()
    checkpoint = run.input("checkpoint").checkpoint()
    run.log(f"exporting {checkpoint} as {spec.dtype}")
    verify_files(checkpoint)
    extra = _memory(within_window(read_config(checkpoint)), spec)
    dtype: torch.dtype = getattr(torch, spec.dtype)
    steps = 3 + (spec.quantise is not None) + (spec.gguf is not None)
    run.progress(0, steps, "writing")
    with new_folder(run.folder.artifacts / "export") as folder:
        write_export(checkpoint, folder, dtype, spec.tolerance, spec.trtllm, spec.max_kl)
        run.progress(1, steps, "checking parity with training")
        parity = check_export(checkpoint, folder, dtype, spec.tolerance)
        if spec.quantise is not None:
            run.progress(2, steps, f"quantising to {spec.quantise}")
            extra |= _quantise(spec, run, folder)
        if spec.gguf is not None:
            run.progress(steps - 2, steps, f"writing GGUF in {spec.gguf}")
            extra |= _gguf(spec, run, checkpoint, folder)
        run.progress(steps - 1, steps, "hashing")
    export = run.folder.artifact("export")
    run.folder.write_result(_result(export, parity, spec) | extra)
    run.progress(steps, steps, "done")
    run.log(f"exported to {export}; logits differ from training by at most {parity.max_difference:.3g}")


def check_export(checkpoint: Path, export: Path, dtype: torch.dtype, tolerance: float) -> Parity:
    """Open the export as a reader would and compare it with the trainer's record, in float32, and with the checkpoint.

    Raises:
        ValueError: it is not the network that was trained; says what differs.
    """
    model = load_model(export, torch.float32)
    try:
        parity = check_parity(network_forward(model), read_record(checkpoint), tolerance)
    except ValueError as error:
        if dtype is torch.float32:
            raise
        raise ValueError(f"{error}. Rounding to {dtype} may be the cause: raise 'tolerance' if it is meant") from error
    check_weights(checkpoint, export, dtype)
    return parity


def _quantise(spec: ExportSpec, run: Run, export: Path) -> Found:
    """export/quantised/, a whole export of its own for TensorRT-LLM; what it lost, in ModelOpt's simulation and as read
    back from its files."""
    assert spec.quantise is not None
    folder, config, fp8_kv = export / QUANTISED, read_config(export), spec.trtllm.kv_dtype == "fp8"
    rows_BL, record = None, read_record(export)
    if spec.quantise == "fp8":
        tokens = run.input("dataset").artifact("tokens")
        rows_BL = calibration_rows(tokens, spec.calibration_rows, config.max_position_embeddings)
        run.log(f"calibrating with {len(rows_BL)} rows of {rows_BL.shape[1]} tokens")
    model = quantised_model(export, spec.quantise, rows_BL, fp8_kv)
    found = check_agreement(model_logits(model), record, spec.max_kl)
    write_quantised(model, export, folder)
    for name in (*READERS, TRTLLM_FILE):
        shutil.copyfile(export / name, folder / name)
    weights = dequantised(check_quantised(folder, config, spec.quantise, fp8_kv))
    read_back = check_agreement(logits_of(config, from_mixtral(config, weights)), record, spec.max_kl)
    run.log(f"quantised to {spec.quantise}: mean KL {found.kl:.3g} nat, same likeliest token at {found.top1:.1%}")
    return {"quantised_kl": found.kl, "quantised_top1": found.top1, "quantised_weights_kl": read_back.kl}


def _gguf(spec: ExportSpec, run: Run, checkpoint: Path, export: Path) -> Found:
    """artifacts/gguf/, read back and compared; what it lost."""
    assert spec.gguf is not None
    config, tokenizer = read_config(export), Tokenizer.load(export)
    with new_folder(run.folder.artifacts / "gguf") as folder:
        path = folder / f"model-{spec.gguf}.gguf"
        write_gguf(path, config, read_weights(checkpoint, torch.float32), tokenizer, spec.gguf)
        found = check_agreement(logits_of(*read_gguf(path)), _within(read_record(export), config), spec.max_kl)
    run.log(f"GGUF in {spec.gguf}: mean KL {found.kl:.3g} nat, same likeliest token at {found.top1:.1%}")
    return {f"gguf_{name}": value for name, value in asdict(found).items()}


def _within(record: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The record up to the window, which is all that a GGUF file promises."""
    return {**record, "lengths": record["lengths"].clamp(max=config.sliding_window or config.max_position_embeddings)}


def logits_of(config: ModelConfig, state: dict[str, Tensor]) -> Logits:
    """The plain network with these weights."""
    with torch.device("meta"):
        model = Transformer(config)
    model.load_state_dict(state, assign=True)
    forward = network_forward(model)
    return lambda tokens: forward(tokens)[0]


def _memory(config: ModelConfig, spec: ExportSpec) -> Found:
    """The plan of a TensorRT-LLM server: bytes on each card."""
    width = 4 if spec.dtype == "float32" and spec.quantise is None else 2
    weight_bytes = width if spec.quantise is None else 1
    found = serving_memory(config, spec.trtllm, weight_bytes, width)
    return {f"trtllm_{name}": value for name, value in asdict(found).items()}


def _result(export: Path, parity: Parity, spec: ExportSpec) -> dict[str, object]:
    files = sorted(path for path in export.rglob("*") if path.is_file())
    parameters = count_parameters(read_config(export))
    return {
        **{f"parity_{name}": value for name, value in asdict(parity).items()},
        "tolerance": spec.tolerance,
        "dtype": spec.dtype,
        "parameters": parameters.total,
        "active_parameters": parameters.active,
        "bytes": sum(path.stat().st_size for path in files),
        "files": [str(path.relative_to(export)) for path in files],
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m serving.export")
    parser.add_argument("run_dir")
    folder = RunFolder(parser.parse_args(arguments).run_dir)
    try:
        spec = folder.job().spec
        if not isinstance(spec, ExportSpec):
            raise ValueError(f"{folder.path} holds a job of kind '{spec.kind}'; this program runs 'export'")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    return execute(folder, run)


if __name__ == "__main__":
    sys.exit(main())
