"""python -m serving.export RUN_DIR: the job kind 'export'. Exit 0 done, 1 failed, 3 cancelled."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from serving.export.hugging_face import check_weights, write_export
from serving.gate import Parity
from serving.loader import verify_files
from serving.parity import check_parity, network_forward, read_record
from trainer.artifacts import Run, RunFolder, new_folder
from trainer.model.mixtral import load_model, read_config
from trainer.model.transformer import count_parameters
from trainer.process import EXIT_FAILED, execute
from trainer.spec import ExportSpec


def run(spec: ExportSpec, run: Run) -> None:
    """Checkpoint -> artifacts/export/, which appears only if it computes what the trainer did."""
    checkpoint = run.input("checkpoint").checkpoint()
    run.log(f"exporting {checkpoint} as {spec.dtype}")
    verify_files(checkpoint)
    dtype: torch.dtype = getattr(torch, spec.dtype)
    run.progress(0, 3, "writing")
    with new_folder(run.folder.artifacts / "export") as folder:
        write_export(checkpoint, folder, dtype, spec.tolerance)
        run.progress(1, 3, "checking parity with training")
        parity = check_export(checkpoint, folder, dtype, spec.tolerance)
        run.progress(2, 3, "hashing")
    export = run.folder.artifact("export")
    run.folder.write_result(_result(export, parity, spec))
    run.progress(3, 3, "done")
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
