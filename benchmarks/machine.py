"""On what a figure was measured: hardware, date and commit."""

import datetime
import os
import platform
import subprocess
from pathlib import Path

import psutil
import torch


def hardware() -> str:
    """'2 cores of <processor>, 24 GB' and the accelerator, where there is one."""
    memory = psutil.virtual_memory().total / 2**30
    described = f"{os.cpu_count()} cores of {processor()}, {memory:.0f} GB"
    return f"{described}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else described


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def commit(folder: Path) -> str | None:
    """The git commit, marked when files differ from it; None outside of a repository."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return None
    return done.stdout.strip() if done.returncode == 0 else None
