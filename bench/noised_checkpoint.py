"""Make a worse checkpoint from a good one, with Gaussian noise on every weight matrix.

    python bench/noised_checkpoint.py demo noised-demo/ --scale 0.2

The noise has ``scale`` times the standard deviation of the matrix it is added to; norms and other
vectors are unchanged. All other files are copied, so the result can be served.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from evalsuite.checkpoint import resolve
from evalsuite.errors import UsageError


def noise_checkpoint(source: Path, target: Path, *, scale: float, seed: int) -> int:
    """Write the noised checkpoint and return the number of changed values; raises UsageError if the folder exists."""
    import torch
    from safetensors.torch import load_file, save_file

    if target.exists():
        raise UsageError(f"{target} exists; give a new folder")
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors"))
    generator = torch.Generator().manual_seed(seed)
    n_changed = 0
    for file in sorted(source.glob("*.safetensors")):
        tensors = load_file(file)
        for name, tensor in tensors.items():
            if tensor.dim() < 2 or not tensor.is_floating_point():
                continue
            values = tensor.to(torch.float32)
            noise = torch.randn(values.shape, generator=generator) * (scale * values.std())
            tensors[name] = (values + noise).to(tensor.dtype)
            n_changed += tensor.numel()
        save_file(tensors, target / file.name, metadata={"format": "pt"})
    return n_changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint folder, hub id or demo")
    parser.add_argument("target", type=Path, help="folder to write, which must not exist")
    parser.add_argument("--scale", type=float, default=0.2, help="standard deviations of each matrix (default 0.2)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    checkpoint = resolve(arguments.model)
    if checkpoint.path is None:
        raise UsageError(f"{arguments.model} is an endpoint; give a checkpoint folder")
    changed = noise_checkpoint(checkpoint.path, arguments.target, scale=arguments.scale, seed=arguments.seed)
    print(f"{arguments.target}: noise of {arguments.scale:g} standard deviations on {changed:,} values")


if __name__ == "__main__":
    main()
