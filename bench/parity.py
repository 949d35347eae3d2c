"""A served model against transformers on the same device: log-likelihoods, greedy answers, labels, an adapter.

    python bench/parity.py [--model demo] [--dtype float32] [--adapter]

float32 has to agree within 1e-3 and in every answer, and the script ends with 1 where it does not; 16 bits are shown.
``--adapter`` also serves a LoRA of random weights, against peft.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.served import Served, served, versions
from evalsuite.serving.requests import Completion, Sampling
from judges.types import Message, Unscored

BOUND = 1e-3
PROMPTS = (
    "Name three rivers of Europe.",
    "What is 17 times 23?",
    "Write one sentence about the sea.",
    "Which is heavier, a litre of water or a litre of oil?",
)
CHOICES = ("\nA", "\nB", "\nThe answer is A.", "\nThe answer is that nobody knows.", "\n", "\nThe answer")
"""One-letter choices behind a shared line break, longer ones with shared beginnings, and one that begins the others."""


class Check:
    """Rows of a table; ``failed`` counts those beyond their bound."""

    def __init__(self, bound: float | None) -> None:
        self.bound = bound
        self.failed = 0
        print("| check | n | largest difference or equal | |\n| --- | ---: | ---: | --- |", flush=True)

    def largest(self, label: str, ours: Sequence[float], theirs: Sequence[float]) -> None:
        apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
        self._row(label, len(ours), f"{apart:.1e}", apart <= (self.bound or float("inf")))

    def equal(self, label: str, ours: Sequence[str], theirs: Sequence[str]) -> None:
        same = sum(a == b for a, b in zip(ours, theirs, strict=True))
        self._row(label, len(ours), f"{same} of {len(ours)}", self.bound is None or same == len(ours))

    def _row(self, label: str, n: int, figure: str, is_fine: bool) -> None:
        self.failed += not is_fine
        word = "" if self.bound is None else "ok" if is_fine else "**FAILED**"
        print(f"| {label} | {n} | {figure} | {word} |", flush=True)


def checkpoint_model(path: str, dtype: str, head_in_float32: bool) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    # Beside a server on the same cores, more threads wait for each other.
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).to(device).eval()
    if head_in_float32:
        head = torch.nn.Linear(1, 1, bias=False)
        head.weight = torch.nn.Parameter(model.lm_head.weight.detach().float())
        head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
        model.lm_head = head
    return model


def token_logprobs(model: Any, context: Sequence[int], continuation: Sequence[int]) -> list[float]:
    import torch

    tokens = torch.tensor([[*context, *continuation]], device=model.device)
    with torch.no_grad():
        logprobs = model(tokens).logits[0, len(context) - 1 : -1].float().log_softmax(-1)
    return [float(row[token]) for row, token in zip(logprobs, continuation, strict=True)]


def written(model: Any, prompt: Sequence[int], n_tokens: int, tokenizer: Any) -> str:
    import torch

    tokens = torch.tensor([list(prompt)], device=model.device)
    with torch.no_grad():
        out = model.generate(tokens, max_new_tokens=n_tokens, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    return str(tokenizer.decode(out[0, tokens.shape[1] :], skip_special_tokens=True))


def sums(bench: Served, contexts: Sequence[list[int]], continuations: Sequence[tuple[int, ...]]) -> list[float]:
    """Return the log-likelihoods of all continuations of all contexts, from evalsuite's endpoint in the server."""
    found = []
    with bench.client() as client:
        if not client.scores_continuations:
            raise SystemExit("the scoring endpoint does not work on this vLLM; see its log")
        for context in contexts:
            steps = bench.thread.wait(client.continuation_steps(context, continuations))
            if isinstance(steps, Unscored):
                raise SystemExit(f"{steps.reason}: {steps.detail}")
            found += [sum(value for value, _ in one) for one in steps]
    return found


def check_model(bench: Served, dtype: str, check: Check) -> None:
    session = bench.session
    tokenizer, form = session.client.tokenizer, session.target.chat_format
    assert form is not None
    contexts = [list(form.prompt_tokens([Message("user", prompt)])) for prompt in PROMPTS]
    continuations = [tuple(tokenizer.encode(text, add_special_tokens=False)) for text in CHOICES]
    in_float32 = dtype != "float32" and session.target.identity.get("head_dtype") == "float32"
    model = checkpoint_model(str(session.checkpoint.path), dtype, in_float32)
    theirs = [sum(token_logprobs(model, context, tokens)) for context in contexts for tokens in continuations]
    ours = sums(bench, contexts, continuations)
    check.largest(f"log-likelihoods of the scoring endpoint, {dtype}", ours, theirs)
    # Again from a cache that has everything: continuations that it covers are scored without it.
    check.largest("the same again, from the prefix cache", sums(bench, contexts, continuations), theirs)
    letters = [tokenizer.encode(letter, add_special_tokens=False)[0] for letter in "ABCD"]
    with bench.client() as client:
        asked = [bench.thread.wait(client.next_token_logprobs(context, letters)) for context in contexts]
        answers = [bench.thread.wait(client.complete(context, Sampling(48))) for context in contexts]
    labels = [answer.logprobs[letter] for answer in asked for letter in letters]
    check.largest(
        "labels as the next token" + (", float32 head" if in_float32 else ""),
        labels,
        [token_logprobs(model, context, [letter])[0] for context in contexts for letter in letters],
    )
    texts = [answer.text if isinstance(answer, Completion) else "" for answer in answers]
    check.equal("greedy answers of 48 tokens", texts, [written(model, each, 48, tokenizer) for each in contexts])


def random_adapter(base: str, folder: Path) -> Any:
    """Save a LoRA of random weights for ``base`` and return peft's model with it."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(checkpoint_model(base, "float32", False), config)
    model.save_pretrained(folder)
    return model.eval()


def check_adapter(base: Path, check: Check) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "adapter"
        model = random_adapter(str(base), folder)
        with served(str(folder), "float32", 2048, [("enforce_eager", "true")]) as bench:
            form = bench.session.target.chat_format
            assert form is not None
            contexts = [list(form.prompt_tokens([Message("user", prompt)])) for prompt in PROMPTS]
            with bench.client() as client:
                answers = [bench.thread.wait(client.prompt_logprobs(context, 1)) for context in contexts]
    ours = [value for answer in answers for value, _ in answer]
    theirs = [value for context in contexts for value in token_logprobs(model, context[:1], context[1:])]
    check.largest("log-probabilities of prompts with a LoRA", ours, theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--adapter", action="store_true")
    arguments = parser.parse_args()
    check = Check(BOUND if arguments.dtype == "float32" else None)
    with served(arguments.model, arguments.dtype, 2048, [("enforce_eager", "true")]) as bench:
        check_model(bench, arguments.dtype, check)
        base = bench.session.checkpoint.path
    if arguments.adapter and base is not None:
        check_adapter(base, check)
    print(f"\n{versions()}")
    sys.exit(1 if check.failed else 0)


if __name__ == "__main__":
    main()
