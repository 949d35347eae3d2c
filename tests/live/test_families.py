"""Checkpoints in the manner of today's families, each served by a vLLM of its own, against transformers.

Qwen3, Mistral, Phi-3, SmolVLM and DeepSeek-V3 by default; EVALSUITE_FAMILIES names others of ``more_families`` and
``image_families``, or "all".
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from evalsuite.checkpoint import resolve
from evalsuite.checkpoint.loading import model_class
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.reasoning import settled
from evalsuite.serving.requests import Completion, Sampling
from evalsuite.serving.session import Session
from evalsuite.store import Store
from judges.types import Message, Unscored
from tests.live.families import FAMILIES, write_family
from tests.live.image_families import IMAGE
from tests.live.more_families import MORE

pytestmark = pytest.mark.filterwarnings("default")

TALK = [
    Message("user", "Name a river. " + "A river is water on its way to the sea. " * 4),
    Message("assistant", "The Donau, naïvely ☃."),
    Message("user", "And a lake?"),
]
"""Longer than the Mistral-like's window and shorter than the context that the Phi-3-like was trained with."""
N_TOKENS = 12
CLOSE = 1e-3
KNOWN = {**FAMILIES, **MORE, **IMAGE}
ASKED = os.environ.get("EVALSUITE_FAMILIES", ",".join([*FAMILIES, "deepseek_v3"]))


@pytest.mark.parametrize("name", KNOWN if ASKED == "all" else ASKED.split(","))
def test_a_family_is_served_as_transformers_computes_it(name, tmp_path):
    import torch
    from transformers import PreTrainedTokenizerFast

    family = KNOWN[name]
    folder = write_family(family, tmp_path / name)
    checkpoint = resolve(str(folder))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = model_class(folder).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    turns = [
        {"role": turn.role, "content": [{"type": "text", "text": turn.content}] if family.vision else turn.content}
        for turn in TALK
    ]
    options = {"tokenize": False, "add_generation_prompt": True, "strftime_now": checkpoint.template_date.strftime}
    options["chat_template"] = family.template
    text = tokenizer.apply_chat_template(turns, **options, enable_thinking=False) + family.silent
    prompt = tokenizer.encode(text, add_special_tokens=False)
    greedy = generated(model, prompt)
    n_answer = next(n for n, token in enumerate(greedy, 1) if n > N_TOKENS // 2 and token not in greedy[: n - 1])
    stop_at(folder, greedy[n_answer - 1])
    whole = [*prompt, *greedy]
    with torch.no_grad():
        expected = torch.log_softmax(model(torch.tensor([whole])).logits[0], -1)

    checkpoint = resolve(str(folder))
    as_it_is = settled(checkpoint, ServeConfig())
    assert (as_it_is.style and as_it_is.style.name) == family.style
    if as_it_is.on is not None:
        text = tokenizer.apply_chat_template(turns, **options)
        assert as_it_is.on.prompt_tokens(TALK) == tokenizer.encode(text, add_special_tokens=False)
    serve = ServeConfig(dtype="float32", thinking="off")
    with (
        Store(tmp_path / "store.sqlite") as store,
        LoopThread() as thread,
        Session(checkpoint, store, serve, tmp_path / "vllm.log") as session,
    ):
        client = session.client
        assert client._prompt(TALK) == prompt
        steps = thread.wait(client.prompt_logprobs(whole, 1))
        differences = [abs(float(expected[i, whole[i + 1]]) - value) for i, (value, _) in enumerate(steps)]
        print(f"{name}: {len(steps)} log-probabilities, largest difference {max(differences):.1e}")
        assert max(differences) < CLOSE
        assert all(is_top for _, is_top in steps[-len(greedy) :]), "the same greedy tokens"
        ends = [greedy[:4], [*greedy[:2], *prompt[:3]], prompt[:4]]
        thread.wait(client.detect_features())
        for end, scored in zip(ends, thread.wait(client.continuation_steps(prompt, ends)), strict=True):
            with torch.no_grad():
                there = torch.log_softmax(model(torch.tensor([[*prompt, *end]])).logits[0], -1)[len(prompt) - 1 :]
            assert [value for value, _ in scored] == pytest.approx(
                [float(there[i, token]) for i, token in enumerate(end)], abs=CLOSE
            )
        reply = thread.wait(client.chat(TALK, Sampling(N_TOKENS)))
        assert isinstance(reply, Completion)
        assert (reply.finish_reason, reply.completion_tokens) == ("stop", n_answer), "generation_config.json"
        too_long = thread.wait(client.complete([*prompt * 12], Sampling(4)))
        assert isinstance(too_long, Unscored)
        assert too_long.detail == f"{12 * len(prompt)} tokens exceed the context length {checkpoint.plain_context}"
        thread.wait(client.close())


def generated(model: Any, prompt: list[int]) -> list[int]:
    """Return the most likely next tokens of transformers, whatever ends an answer."""
    import torch

    ids = list(prompt)
    with torch.no_grad():
        for _ in range(N_TOKENS):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def stop_at(folder: Path, token: int) -> None:
    """Name a token that ends answers in generation_config.json alone."""
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"eos_token_id": [*settings["eos_token_id"], token]}))
