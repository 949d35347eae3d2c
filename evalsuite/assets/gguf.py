"""Converting a GGUF file to a checkpoint; run as a process of its own by ``evalsuite.assets.demo``.

A process of its own keeps torch out of the caller, gives its memory back at once, and holds the
libraries' bars and remarks, which cannot all be switched off.
"""

from __future__ import annotations

import sys
from pathlib import Path

MAX_LENGTH_TOKENS = 8192


def convert(gguf: Path, folder: Path) -> None:
    """Write the model and the tokenizer of a GGUF file into ``folder`` as a bfloat16 checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    tokenizer.model_max_length = MAX_LENGTH_TOKENS
    # A name that the GGUF brought along; it is no path of this machine.
    vars(model.config).pop("_model_name_or_path", None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
