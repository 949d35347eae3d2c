"""What the chat endpoint of an external server takes, learned from what it refuses.

Questions are written for vLLM. A server that refuses a field says which: the question is asked again without it, and so
are all later ones. No table of providers is needed, as in litellm's ``drop_params``, and an unknown server is
understood. Three things have a replacement: ``max_tokens`` is ``max_completion_tokens`` for reasoning models, a system
message is put before the first user turn, and a guide becomes a JSON schema, or else a question in words. A guide that
is ignored is a refused one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.errors import first_line
from judges.types import Unscored

_NEEDED = frozenset({"model", "messages"})
_CONTINUING = frozenset({"continue_final_message", "add_generation_prompt"})
_VLLM_ONLY = frozenset({"top_k", "min_p", "repetition_penalty", "structured_outputs"}) | _CONTINUING
_TOGETHER = (_VLLM_ONLY, frozenset({"logprobs", "top_logprobs"}), frozenset({"stream", "stream_options"}))
"""Fields that a server takes or refuses together."""
_REFUSES = re.compile(
    r"(?i)unrecogni[sz]ed|unsupported|unknown|unexpected|not (?:be )?(?:support|permit|allow|accept|implement)"
    r"|n't support|does not|extra input|extra_forbidden|invalid|cannot find|is disabled|not available|instead"
)
_NO_SYSTEM = re.compile(
    r"(?i)system (?:role|message|prompt|instruction)s?[^.]{0,60}not|not[^.]{0,60}\bsystem\b"
    r"|roles must alternate|developer instructions? (?:is|are) not"
)
_AT_MOST = re.compile(r"(?i)(?:at most|less than or equal to|<=|maximum(?: value)?(?: is| of)?|up to) ?`?(\d{1,9})")
_CAPPED = ("max_tokens", "max_completion_tokens", "top_logprobs")


class Dialect:
    """The fields that one server refuses, by name with its words; "system" stands for the system role."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self.caps: dict[str, int] = {}
        self._has_answered = False

    @property
    def name(self) -> str:
        """The kind of server, as the doctor shows it."""
        if "max_tokens" in self.refused:
            return "reasoning OpenAI chat"
        return "plain OpenAI chat" if self.refused.keys() & _VLLM_ONLY else "vLLM"

    def put(self, body: Mapping[str, Any]) -> dict[str, Any] | Unscored:
        """Write a question, given in vLLM's form, for this server; Unscored where it cannot be asked here."""
        if "top_logprobs" in body and "top_logprobs" in self.refused:
            return Unscored("no_logprobs", self.refused["top_logprobs"])
        put = {name: value for name, value in body.items() if name not in self.refused}
        choices = _choices(body)
        if choices and "structured_outputs" in self.refused:
            shown = [_shown(choice) for choice in choices]
            put["messages"] = [*body["messages"], {"role": "user", "content": _closing(shown)}]
            if "response_format" not in self.refused:
                put["response_format"] = _schema(shown)
        elif "continue_final_message" in body and "continue_final_message" in self.refused:
            return Unscored("request_failed", "the server does not continue an answer that is begun")
        if "max_tokens" in self.refused and "max_tokens" in body and "max_completion_tokens" not in self.refused:
            put["max_completion_tokens"] = body["max_tokens"]
        if "system" in self.refused:
            put["messages"] = _folded(put["messages"])
        return put | {name: min(put[name], cap) for name, cap in self.caps.items() if name in put}

    def learn(self, status: int, words: str, put: Mapping[str, Any]) -> list[str]:
        """Return the fields of ``put`` that a refusal is about, now known; empty if asking again would not help."""
        if any(put[name] > cap for name, cap in _caps_in(words, put).items()):
            self.caps |= _caps_in(words, put)
            return sorted(_caps_in(words, put))
        names = refused_fields(words, put)
        if not names and status in (400, 422) and not self._has_answered:
            # Nothing was answered yet and the words name no field: ask without all that is vLLM's.
            names = {*_VLLM_ONLY} & put.keys()
        for group in _TOGETHER:
            names |= group if names & group else set()
        names -= self.refused.keys()
        self.refused |= dict.fromkeys(sorted(names), words_of(words))
        return sorted(names & {*put, "system"})

    def read(self, body: Mapping[str, Any], put: Mapping[str, Any], reply: dict[str, Any]) -> dict[str, Any] | None:
        """Return the reply as vLLM would have sent it; None if it ignores a guide, to be asked in another form."""
        self._has_answered = True
        text = _content(reply)
        if text is None:
            return reply
        if choices := _choices(body):
            chosen = _chosen(text, choices, is_json="response_format" in put)
            form = next((name for name in ("structured_outputs", "response_format") if name in put), None)
            if chosen is None and form is not None and text.strip():
                self.refused |= dict.fromkeys(_CONTINUING | {"structured_outputs", form}, f"{form} is ignored")
                return None
            return reply if chosen is None else _with_content(reply, chosen)
        if "stop" in self.refused and (stops := body.get("stop")):
            return _with_content(reply, text[: min(_find(text, stop) for stop in stops)])
        return reply


def refused_fields(words: str, put: Mapping[str, Any]) -> set[str]:
    """Return the fields of a question that a refusal names, "system" for the system role."""
    if any(message["role"] == "system" for message in put.get("messages", ())) and _NO_SYSTEM.search(words):
        return {"system"}
    if not _REFUSES.search(words):
        return set()
    named = _pointed_at(words)
    if "messages" in named:
        return set()
    return {
        name
        for name in put.keys() - _NEEDED
        if name in named or (not named and re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", words))
    }


def words_of(text: str) -> str:
    """Return the message of an error document in ``text`` without the JSON around it; other texts as they are."""
    message = _error_in(text).get("message")
    if not isinstance(message, str) or not message:
        return first_line(ValueError(text))
    return first_line(ValueError(f"{text[: text.index('{')].rstrip(' -:')}: {message}".lstrip(": ")))


def _error_in(text: str) -> dict[str, Any]:
    """Return the error that a document in ``text`` describes, with its ``detail``; empty without one."""
    try:
        document = json.loads(text[text.index("{") :])
    except (ValueError, RecursionError):
        return {}
    error = document.get("error")
    return {"detail": document.get("detail"), **(error if isinstance(error, dict) else document)}


def _pointed_at(words: str) -> set[str]:
    """Return the fields that an error document points at: ``param`` as OpenAI, ``loc`` as FastAPI writes it."""
    error = _error_in(words)
    param, detail = error.get("param"), error.get("detail")
    named = {re.split(r"[.\[]", param)[0]} if isinstance(param, str) and param else set()
    for each in detail if isinstance(detail, list) else ():
        if isinstance(each, dict) and isinstance(each.get("loc"), list) and each["loc"][1:]:
            named.add(str(each["loc"][1]))
    return named


def _caps_in(words: str, put: Mapping[str, Any]) -> dict[str, int]:
    limit = _AT_MOST.search(words)
    return {name: int(limit[1]) for name in _CAPPED if limit and name in put and name in words and int(limit[1]) > 0}


def _choices(body: Mapping[str, Any]) -> Sequence[str]:
    guide = body.get("structured_outputs")
    choices = guide.get("choice") if isinstance(guide, Mapping) else None
    return choices if isinstance(choices, list) else ()


def _shown(choice: str) -> str:
    """Return a choice without the brackets that close what the question had opened."""
    return choice.rstrip("]") or choice


def _closing(shown: Sequence[str]) -> str:
    return f"Give your verdict now. Reply with exactly one of these and nothing else: {', '.join(shown)}"


def _schema(shown: Sequence[str]) -> dict[str, Any]:
    verdict = {"type": "string", "enum": list(shown)}
    schema = {
        "type": "object",
        "properties": {"verdict": verdict},
        "required": ["verdict"],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def _chosen(text: str, choices: Sequence[str], *, is_json: bool) -> str | None:
    if is_json:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return None
        text = str(document.get("verdict")) if isinstance(document, dict) else ""
    plain = text.strip().strip("*_`\"'.[]()").strip()
    return next((choice for choice in choices if text.strip() == choice or plain == _shown(choice)), None)


def _folded(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages whose system messages stand before the first user turn."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    rest = [dict(message) for message in messages if message["role"] != "system"]
    for message in rest:
        if message["role"] == "user":
            message["content"] = f"{system}\n\n{message['content']}"
            return rest
    return [{"role": "user", "content": system}, *rest]


def _content(reply: Mapping[str, Any]) -> str | None:
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, str) else None


def _with_content(reply: Mapping[str, Any], text: str) -> dict[str, Any]:
    first, *others = reply["choices"]
    return {**reply, "choices": [{**first, "message": {**first["message"], "content": text}}, *others]}


def _find(text: str, stop: str) -> int:
    at = text.find(stop)
    return len(text) if at < 0 else at
