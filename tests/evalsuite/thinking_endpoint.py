"""A scripted completion server for models that think, and checkpoints with the chat templates of their families.

One token is one byte, as in ``tiny_checkpoint``'s tokenizer, so an end mark is always split over several tokens.
``ThinkingModel(output)`` writes ``output`` after any prompt, token by token; when its own words were cut and others put
behind them (a thought that was closed), it writes ``behind`` instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.evalsuite.stub_endpoint import StubEndpoint
from tests.evalsuite.tiny_checkpoint import write_checkpoint

HEADER = "<|im_start|>assistant\n"
_TURNS = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
_THINKING_TURNS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and loop.last %}"
    "<think>\n{{ m['reasoning_content'] }}\n</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
_HEADER = "<|im_start|>assistant\n"
TEMPLATES = {
    "plain": _TURNS + "{% if add_generation_prompt %}" + _HEADER + "{% endif %}",
    # As Qwen3's: the model opens its thought, a switch writes an empty one.
    "switched": _THINKING_TURNS
    + "{% if add_generation_prompt %}"
    + _HEADER
    + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
    # As DeepSeek-R1's: the prompt opens the thought, and nothing switches it off.
    "opened": _TURNS + "{% if add_generation_prompt %}" + _HEADER + "<think>\n{% endif %}",
    # Off unless it is switched on.
    "off": _THINKING_TURNS
    + "{% if add_generation_prompt %}"
    + _HEADER
    + "{% if not (enable_thinking | default(false)) %}<think></think>{% endif %}{% endif %}",
    # As GLM's: the template breaks the line before the mark.
    "broken": "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}<think>"
    "{{ m['reasoning_content'] }}</think>\n{% endif %}{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant"
    "{{ '\n<think></think>' if enable_thinking is defined and not enable_thinking }}{% endif %}",
    # As Magistral's marks.
    "mistral": _TURNS.replace("{{ m['content'] }}", "{% if m.thinking %}[THINK]{{ m.thinking }}[/THINK]{% endif %}"
    "{{ m['content'] }}") + "{% if add_generation_prompt %}" + _HEADER + "{% endif %}",
    # As gpt-oss's channels.
    "channels": "{% for m in messages %}<|start|>{{ m['role'] }}{% if m['role'] == 'assistant' %}{% if m.thinking %}"
    "<|channel|>analysis<|message|>{{ m.thinking }}<|end|><|start|>assistant{% endif %}<|channel|>final{% endif %}"
    "<|message|>{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}",
}  # fmt: skip


def thinking_checkpoint(folder: Path, template: str, *, tokens: Sequence[str] = (), **options: Any) -> Path:
    """Write a tiny checkpoint with a family's template; ``tokens`` are added to its tokenizer, not as special ones."""
    path = write_checkpoint(folder, template=TEMPLATES[template], **options)
    if tokens:
        file = path / "tokenizer.json"
        document = json.loads(file.read_text())
        first = max(document["model"]["vocab"].values()) + 1
        for number, token in enumerate(tokens, first):
            flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
            document["added_tokens"].append({"id": number, "content": token, **flags})
            document["model"]["vocab"][token] = number
        file.write_text(json.dumps(document))
    return path


class ThinkingModel:
    """Answers /v1/completions; ``prompts`` and ``bodies`` keep what was asked, as text and whole."""

    def __init__(
        self, tokenizer: Any, output: str | Callable[[str], str], *, behind: str = "Forced.", header: str = HEADER
    ) -> None:
        self.tokenizer = tokenizer
        self.output = output if callable(output) else lambda _: output
        self.behind = behind
        self.header = header
        self.bodies: list[dict[str, Any]] = []
        self.prompts: list[str] = []

    def text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def __call__(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path != "/v1/completions":
            return 404, {"error": {"message": "not here"}}
        prompt = self.text(body["prompt"])
        self.bodies.append(body)
        self.prompts.append(prompt)
        question, _, written = prompt.rpartition(self.header)
        own = self.output(question)
        rest = own[len(written) :] if own.startswith(written) else self.behind
        if "logprob_token_ids" in body:
            return 200, self._labels(body)
        ids = self.tokenizer.encode(rest, add_special_tokens=False)
        taken: list[int] = []
        reason, stop_reason = "stop", None
        for token in ids:
            if len(taken) == body["max_tokens"]:
                reason = "length"
                break
            taken.append(token)
            text = self.text(taken)
            found = next((stop for stop in body.get("stop") or () if stop in text), None)
            if found is not None:
                end = text.index(found) + (len(found) if body.get("include_stop_str_in_output") else 0)
                return 200, self._reply(text[:end], taken, "stop", found, body)
        else:
            reason = "stop" if len(taken) < body["max_tokens"] else "length"
        return 200, self._reply(self.text(taken), taken, reason, stop_reason, body)

    def _reply(self, text: str, ids: list[int], reason: str, stop: str | None, body: dict[str, Any]) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": reason, "stop_reason": stop}
        if body.get("return_token_ids"):
            choice["token_ids"] = ids
        # The end of a turn is a token too.
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(ids) + 1}
        return {"choices": [choice], "usage": usage}

    def _labels(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = body["logprob_token_ids"]
        top = {f"token_id:{token}": -1.0 - rank for rank, token in enumerate(ids)}
        logprobs = {"tokens": [f"token_id:{ids[0]}"], "top_logprobs": [top]}
        return {"choices": [{"index": 0, "text": "x", "finish_reason": "length", "logprobs": logprobs}], "usage": {}}

    def serve(self, **options: Any) -> StubEndpoint:
        return StubEndpoint(self, **options)
