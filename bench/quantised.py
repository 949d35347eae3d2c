"""Quantise a checkpoint in today's formats, serve each copy, and compare with the weights that it stands for.

    python bench/quantised.py demo copies/ [--format gptq ...] [--dtype float16] [--text README.md] [--tokens 300]

Each format is written from its definition, rounded to the nearest number without any calibration. The log-probability
of every token of a text, as vLLM computes it, is compared with that of transformers in float32 over the dequantised
weights, with the inputs of the layers rounded where the format rounds them. One start of vLLM per format.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from evalsuite.checkpoint import resolve
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.session import Session
from evalsuite.store import Store
from judges.types import Unscored

Tensors = dict[str, torch.Tensor]
GROUP = 32
FP8_MAX = 448.0
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""The column in each 4 bits of an int32, from the lowest (AutoAWQ's "gemm")."""


def packed(values: torch.Tensor, dim: int, order: tuple[int, ...] = tuple(range(8))) -> torch.Tensor:
    """Pack eight numbers of 4 bits along ``dim`` into an int32 each, those of ``order`` from the lowest bits."""
    eights = values.movedim(dim, -1).to(torch.int64).unflatten(-1, (-1, 8))
    shifted = [eights[..., column] << 4 * place for place, column in enumerate(order)]
    return torch.stack(shifted).sum(0).to(torch.int32).movedim(-1, dim)


def in_groups(weights: torch.Tensor, dtype: torch.dtype, *, symmetric: bool) -> tuple[torch.Tensor, ...]:
    """Return numbers of 4 bits (out, in), scales and zero points (out, groups), and what they stand for (out, in)."""
    groups = weights.unflatten(1, (-1, GROUP))
    if symmetric:
        scales = (groups.abs().amax(-1) / 7.5).to(dtype).float()
        zeros = torch.full_like(scales, 8)
    else:
        low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
        scales = ((high - low) / 15).to(dtype).float()
        zeros = torch.round(-low / scales).clamp(0, 15)
    numbers = torch.round(groups / scales[..., None] + zeros[..., None]).clamp(0, 15)
    return numbers.flatten(1), scales, zeros, ((numbers - zeros[..., None]) * scales[..., None]).flatten(1)


def gptq(weights: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    numbers, scales, zeros, again = in_groups(weights, torch.float16, symmetric=True)
    # GPTQ's first format stores one less than the zero point.
    stored = {"qweight": packed(numbers.t(), 0), "qzeros": packed(zeros.t() - 1, 1), "scales": scales.t().half()}
    return stored | {"g_idx": (torch.arange(weights.shape[1]) // GROUP).to(torch.int32)}, again


def awq(weights: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    numbers, scales, zeros, again = in_groups(weights, torch.float16, symmetric=False)
    stored = {"qweight": packed(numbers.t(), 1, AWQ_ORDER), "qzeros": packed(zeros.t(), 1, AWQ_ORDER)}
    return stored | {"scales": scales.t().half()}, again


def int4(weights: torch.Tensor, *, symmetric: bool) -> tuple[Tensors, torch.Tensor]:
    numbers, scales, zeros, again = in_groups(weights, torch.bfloat16, symmetric=symmetric)
    stored = {"weight_packed": packed(numbers, 1), "weight_scale": scales.bfloat16()}
    stored["weight_shape"] = torch.tensor(weights.shape)
    return stored if symmetric else stored | {"weight_zero_point": packed(zeros, 0)}, again


def int8(weights: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    scales = (weights.abs().amax(1, keepdim=True) / 127).bfloat16()
    numbers = torch.round(weights / scales.float()).clamp(-127, 127)
    return {"weight": numbers.to(torch.int8), "weight_scale": scales}, numbers * scales.float()


def fp8(weights: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    scales = (weights.abs().amax(1, keepdim=True) / FP8_MAX).bfloat16()
    numbers = (weights / scales.float()).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn)
    return {"weight": numbers, "weight_scale": scales}, numbers.float() * scales.float()


def rounded_int8(inputs: torch.Tensor) -> torch.Tensor:
    scales = inputs.abs().amax(-1, keepdim=True).clamp(min=1e-10) / 127
    return torch.round(inputs / scales) * scales


def rounded_fp8(inputs: torch.Tensor) -> torch.Tensor:
    scales = inputs.abs().amax(-1, keepdim=True).clamp(min=1e-10) / FP8_MAX
    return (inputs * scales.reciprocal()).to(torch.float8_e4m3fn).float() * scales


@dataclass(frozen=True)
class Format:
    """``layer`` quantises a matrix (out, in); ``inputs`` rounds a layer's inputs (tokens, in) as the format says."""

    layer: Callable[[torch.Tensor], tuple[Tensors, torch.Tensor]]
    config: dict[str, Any]
    inputs: Callable[[torch.Tensor], torch.Tensor] | None = None
    dtype: str = "bfloat16"


def compressed(form: str, weights: dict[str, Any], *, inputs: bool = False) -> dict[str, Any]:
    """Return the config of compressed-tensors, as llm-compressor writes it."""
    numbers = {"symmetric": True, "dynamic": False, **weights}
    dynamic = {**numbers, "strategy": "token", "dynamic": True} if inputs else None
    group = {"targets": ["Linear"], "weights": numbers, "input_activations": dynamic}
    settings = {"quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed"}
    return {**settings, "config_groups": {"group_0": group}, "ignore": ["lm_head"]}


INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": GROUP}
ROWS = {"num_bits": 8, "strategy": "channel"}
FOUR = {"bits": 4, "group_size": GROUP}
FORMATS = {
    "w8a8": Format(int8, compressed("int-quantized", {**ROWS, "type": "int"}, inputs=True), rounded_int8),
    "fp8": Format(fp8, compressed("float-quantized", {**ROWS, "type": "float"}, inputs=True), rounded_fp8),
    "w4a16": Format(partial(int4, symmetric=True), compressed("pack-quantized", INT4)),
    "w4a16-asym": Format(partial(int4, symmetric=False), compressed("pack-quantized", {**INT4, "symmetric": False})),
    "gptq": Format(gptq, {"quant_method": "gptq", **FOUR, "desc_act": False, "sym": True}, dtype="float16"),
    "awq": Format(awq, {"quant_method": "awq", **FOUR, "zero_point": True, "version": "gemm"}, dtype="float16"),
}


def quantise(source: Path, folder: Path, form: Format) -> Tensors:
    """Write a quantised copy of a checkpoint and return the weights in float32 that it stands for."""
    if folder.exists():
        sys.exit(f"{folder} exists; give another folder for the copies")
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    stored: Tensors = {}
    again: Tensors = {}
    for file in source.glob("*.safetensors"):
        for name, tensor in load_file(file).items():
            if name.endswith("_proj.weight"):
                layer, again[name] = form.layer(tensor.float())
                stored |= {name.removesuffix("weight") + end: values.contiguous() for end, values in layer.items()}
            else:
                stored[name] = tensor.to(getattr(torch, form.dtype))
                again[name] = stored[name].float()
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config.pop("torch_dtype", None)
    config |= {"dtype": form.dtype, "quantization_config": form.config}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return again


def expected(source: Path, ids: list[int], weights: Tensors, form: Format | None) -> torch.Tensor:
    """Return the log-probability of every token but the first, as transformers computes it in float32."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
    if form is not None and (rounded := form.inputs) is not None:
        for name, module in model.named_modules():
            if name.endswith("_proj"):
                module.register_forward_pre_hook(lambda _, given: (rounded(given[0]),))
    with torch.no_grad():
        found = torch.log_softmax(model(torch.tensor([ids])).logits[0, :-1], -1)
    return found.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def measure(source: Path, folder: Path, name: str, ids: list[int], serve: ServeConfig) -> str:
    """Serve one format and return its row of the table."""
    form = FORMATS[name]
    weights = quantise(source, folder, form)
    references = {"weights": expected(source, ids, weights, form), "original": expected(source, ids, {}, None)}
    checkpoint = resolve(str(folder))
    with (
        Store(folder / "store.sqlite") as store,
        LoopThread() as thread,
        Session(checkpoint, store, serve, folder / "vllm.log") as session,
    ):
        steps = thread.wait(session.client.prompt_logprobs(ids, 1))
        dtype = session.client.target.identity["dtype"]
        thread.wait(session.client.close())
    if isinstance(steps, Unscored):
        sys.exit(f"{name}: {steps.detail}; give fewer --tokens")
    got = torch.tensor([value for value, _ in steps])
    apart = {key: (got - values).abs() for key, values in references.items()}
    cells = [f"{float(one.max()):.1e} | {float(one.mean()):.1e}" for one in apart.values()]
    return f"| {name} | {checkpoint.quantization} | {dtype} | {len(got)} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint folder, hub id or demo")
    parser.add_argument("target", type=Path, help="folder for the copies")
    parser.add_argument("--format", action="append", choices=FORMATS, help="default: all")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--text", type=Path, default=Path("README.md"))
    parser.add_argument("--tokens", type=int, default=300)
    arguments = parser.parse_args()
    source = resolve(arguments.model).path
    assert source is not None
    ids = AutoTokenizer.from_pretrained(source).encode(arguments.text.read_text())[: arguments.tokens]
    print("| format | named | served in | tokens | largest | mean | largest, original | mean, original |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name in arguments.format or FORMATS:
        print(measure(source, arguments.target / name, name, ids, ServeConfig(dtype=arguments.dtype)), flush=True)


if __name__ == "__main__":
    main()
