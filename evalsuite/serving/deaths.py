"""Why a managed server ended: its log, the signal, and the kernel's count of processes killed for memory."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from evalsuite.errors import CheckpointError, ServerError

# Patterns in the log of a failed start, their remedies, and whether the checkpoint is at fault. The first match counts.
_KNOWN_FAILURES: tuple[tuple[str, str, bool], ...] = (
    (
        r"No module named '(torchvision)'[\s\S]*failed to be inspected",
        "vLLM needs the package {0} for this architecture; install its build for the installed torch (for a CPU, see "
        "Troubleshooting in the documentation)",
        True,
    ),
    (
        r"No module named '([\w.]+)'[\s\S]*failed to be inspected",
        "vLLM needs the package {0} for this architecture; install it, or serve another checkpoint",
        True,
    ),
    (
        r"Model architectures? \[?'?([^\]']+)'?\]? (?:are|is|failed).*?(?:not supported|to be inspected)",
        "this vLLM does not know the architecture {0}; use a newer vLLM or another checkpoint",
        True,
    ),
    (
        r"model type `([^`]+)` but Transformers does not recognize",
        "this transformers does not know the model type {0}; use a newer one or another checkpoint",
        True,
    ),
    (r"`trust_remote_code=True", "the checkpoint brings its own code; if you trust it, pass --trust-remote-code", True),
    (
        r"(?:torch\.OutOfMemoryError|CUDA out of memory)",
        "the GPU's memory is too small; lower --max-model-len, raise --tensor-parallel-size, "
        "or pass --vllm-arg gpu_memory_utilization=0.8 when others use the GPU",
        False,
    ),
    (
        r"(?:No available memory for the cache blocks|KV cache is needed, which is larger than)",
        "the memory left for the KV cache is too small; lower --max-model-len",
        False,
    ),
    (
        r"Free memory on device .* on startup",
        "other processes hold the GPU's memory; end them, choose another GPU with CUDA_VISIBLE_DEVICES, "
        "or pass --vllm-arg gpu_memory_utilization=0.5",
        False,
    ),
    (r"No space left on device", "the disk is full; free some space and run again", False),
    (r"unrecognized arguments: (.+)", "this vLLM does not know {0}; check --vllm-arg", True),
    (
        r"User-specified max_model_len \((\d+)\) is greater than the derived",
        "--max-model-len {0} exceeds the checkpoint's context; lower it",
        True,
    ),
    (
        r"The model type '([^']+)' does not support float16",
        "{0} overflows in float16; pass --dtype bfloat16, or float32 where the device has no bfloat16",
        True,
    ),
    (
        r"((?:vLLM does not (?:yet )?support (?:DoRA|LoRA|init_lora|Activated|layer_rep|block-d|QALoRA)"
        r"|vLLM only supports modules_to_save|Adapter bias is not supported"
        r"|LoRA rank \d+ is greater than max_lora_rank|[\w.]+ is unsupported LoRA weight"
        r"|While loading \S+, expected target modules in)[^\n]{0,160})",
        "vLLM cannot serve the adapter ({0}); merge it into its base with `evalsuite sft --merge ADAPTER --out MERGED`",
        True,
    ),
    (
        r"Following weights were not initialized from checkpoint: \{([^}\n]{1,120})",
        "the checkpoint lacks weights ({0}); save it again",
        True,
    ),
    (
        r"(\w+ quantization is currently not supported in \w+|The quantization method \w+ is not supported for the "
        r"current GPU)",
        "{0}; serve an unquantised checkpoint, or use a device that this method runs on",
        True,
    ),
    (
        r"torch\.(\w+) is not supported for quantization method (\w+)\. Supported dtypes: \[torch\.(\w+)",
        "weights quantised with {1} are not served in {0}; pass --dtype {2}",
        True,
    ),
    (
        r"\"cpu_gemm_wna16\" not implemented for 'Float'",
        "its quantised weights are not served in float32 on a CPU; pass --dtype bfloat16 or float16",
        True,
    ),
    (
        r"in _get_lora_device[\s\S]*'NoneType' object has no attribute 'device'",
        "vLLM serves no adapter on weights that are quantised in this way on this device; use a base in full precision",
        True,
    ),
    (
        r"(Failed to find a kernel that can implement the \w+ linear layer|GPTQ group activation ordering "
        r"\(desc_act=True\) is no longer supported|Unsupported quantization config: [\w=, ]{1,80}\w"
        r"|Marlin does not support weight_bits = \w+|Unsupported num_bits = \d+"
        r"|No compressed-tensors compatible scheme was found)",
        "vLLM cannot serve its quantised weights on this device ({0}); serve an unquantised checkpoint, or use another "
        "device or vLLM",
        True,
    ),
    (
        r"(?:'_OpNamespace' '\w+' object has no attribute '|_C::)(\w+)(?:'|\(\) expected at most 0 argument)",
        "this vLLM's build for this device lacks the operation {0}; use another device, or serve the checkpoint in "
        "full precision if it is quantised",
        True,
    ),
    (
        r"No (\w+) MoE backend supports the deployment configuration",
        "this vLLM has no kernel for {0} experts on this device; serve it on a GPU, or serve a checkpoint in bfloat16",
        True,
    ),
    (
        r"Unknown quantization method: (\w+)",
        "this vLLM has no quantization method {0}; serve an unquantised checkpoint, or use a vLLM that has it",
        True,
    ),
    (
        r"The quantization method %s is deprecated[^\n]{0,200}', '(\w+)'",
        "this vLLM refuses the deprecated quantization method {0}; serve an unquantised checkpoint, or pass --vllm-arg "
        "allow_deprecated_quantization=true",
        True,
    ),
    (
        r"(?:Can't load (?:image|video|feature) ?(?:processor|extractor)|does not appear to have a file named "
        r"(?:preprocessor|processor)_config)",
        "the files of its processor are missing (preprocessor_config.json); copy them from the base model",
        True,
    ),
    (
        r"(?:KeyError: |no module or parameter named )'((?:\w+\.)*layers\.[\w.]+)'",
        "vLLM does not expect weights named {0}; load the checkpoint with transformers 5 and write it with "
        "save_pretrained, which writes the published names and separate experts, or compare its config with the "
        "published one",
        True,
    ),
    (
        r"(?:RuntimeError|ValueError|KeyError): (.*(?:size mismatch|not found in|shape).*)",
        "the weights do not fit the config ({0}); save the checkpoint again",
        True,
    ),
)

_PORT_TAKEN = re.compile(r"address already in use", re.IGNORECASE)
_SIGNALLED = 128
_MORE_MEMORY = (
    "lower --max-model-len or VLLM_CPU_KVCACHE_SPACE, close other programs, raise the job's memory limit, "
    "or use a smaller model, and run again"
)


class PortTakenError(ServerError):
    """Another process took the port after it had been chosen, or holds the one that --vllm-arg names."""


def kernel_kills(counters: Path = Path("/proc/vmstat")) -> int:
    """Return how many processes the kernel has killed for lack of memory since boot; 0 if it does not say."""
    try:
        found = re.search(r"^oom_kill (\d+)$", counters.read_text("ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def how_it_ended(code: int | None, kills: int) -> str:
    """Return why a server ended, with the remedy; "" if the exit code does not say.

    ``code`` is the guard's: negative, or above 128, for a signal. ``kills``: how many processes the kernel has killed
    meanwhile.
    """
    number = -code if code is not None and code < 0 else (code or 0) - _SIGNALLED
    if number == signal.SIGKILL and kills:
        return f"the kernel ended it because memory ran out; {_MORE_MEMORY}"
    if kills:
        return f"the kernel ended a process meanwhile because memory ran out; {_MORE_MEMORY}"
    if number == signal.SIGKILL:
        return "it was killed from outside (kill -9, or a limit of the job); run again"
    if number > 0 and number in {*signal.Signals}:
        return f"it was ended by {signal.Signals(number).name}"
    return ""


def startup_error(name: str, port: int, log: str, log_path: Path) -> Exception | None:
    """Return the error for a server that ended while starting, if its ``log`` names a known cause."""
    if _PORT_TAKEN.search(log):
        return PortTakenError(f"cannot serve {name}: port {port} is taken; run again, and leave the port to evalsuite")
    for pattern, remedy, is_checkpoint in _KNOWN_FAILURES:
        if match := re.search(pattern, log):
            message = f"cannot serve {name}: {remedy.format(*match.groups())}; the log is {log_path}"
            return CheckpointError(message) if is_checkpoint else ServerError(message)
    return None


# pydantic says on the next line what is wrong.
_CAUSE = re.compile(
    r"^(?:\([^)\n]*\) )?(?:ERROR [^\]\n]*\] )?"
    r"((?:\w+\.)*\w*(?:Error|Exception): (?!Engine core init|WorkerProc init).+)(?:\n +(\S.*?)\.? \[type=|$)",
    re.M,
)
_LONGEST_CAUSE = 300


def startup_cause(log: str) -> str | None:
    """Return the last error in a log that is not vLLM's own sentence about an engine or worker that did not start."""
    causes: list[tuple[str, str]] = _CAUSE.findall(log)
    if not causes:
        return None
    error, detail = causes[-1]
    return (detail or error).strip()[:_LONGEST_CAUSE]
