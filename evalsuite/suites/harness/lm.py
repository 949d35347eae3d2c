"""An lm-eval ``LM`` on a served model: choices at one prefill, and failures that stay failures.

lm-eval drives its tasks on the main thread, because MATH's scorer and math-verify set time limits with
``signal.alarm``, which fails silently in any other. The methods here feed the event loop of another thread
through a window of bounded size, so that memory stays flat, and block until everything is answered.

lm-eval cannot represent an unscored document. A failed request is recorded in ``EvalsuiteLM.unscored``, and
``run.unscored_left_out`` makes lm-eval skip its document, so that every figure of lm-eval's is over the documents
that were answered; the placeholder returned for it (NaN, or an empty string) never reaches a metric.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    chunks,
    handle_stop_sequences,
    maybe_truncate,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from evalsuite.errors import DataError, UsageError
from evalsuite.records.rows import Reply
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.continuations import (
    ContextGroup,
    Loglikelihood,
    Tokens,
    group_by_context,
    loglikelihoods,
    questions_are_cheaper,
    questions_for,
    sum_steps,
    truncate_left,
)
from evalsuite.serving.requests import Sampling, derive_seed
from evalsuite.serving.scoring_endpoint import MAX_IDS
from evalsuite.suites.base import reply_of
from evalsuite.suites.harness.tokens import encode_pairs, encode_texts
from evalsuite.suites.harness.window import Window
from evalsuite.suites.types import OnProgress
from judges.types import Message, Unscored

if TYPE_CHECKING:
    from evalsuite.serving.client import Client

log = logging.getLogger("evalsuite")

_CONTEXTS_PER_BATCH = 64
_NEUTRAL_SETTINGS: Mapping[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "repetition_penalty": (1, 1.0),
    "min_p": (0, 0.0),
    "spaces_between_special_tokens": (True, False),
}
"""Generation settings that change nothing at these values, so a task may set them."""


class EvalsuiteLM(TemplateLM):  # type: ignore[misc]
    """lm-eval's interface to a :class:`Client` whose coroutines run on ``loop``.

    ``loop`` must run in another thread than the caller's. ``open_contexts`` bounds the contexts (or
    generations) in progress; it should exceed the number of requests that the server's client keeps in
    flight. ``unscored`` maps (task, document number) to the failure, ``truncated`` counts, by task, the requests
    whose context was cut on the left, and ``replies`` says of every written answer, by (task, document number) and
    (request, repeat), how it ended and what was thought before it, without its text. With ``strict`` a call with failed
    requests raises DataError at its end.
    """

    max_gen_toks = 256
    """lm-eval's default for tasks that set none."""

    def __init__(
        self,
        server: Client,
        loop: asyncio.AbstractEventLoop,
        *,
        on_progress: OnProgress | None = None,
        open_contexts: int = 1024,
        seed: int = 0,
        strict: bool = False,
    ) -> None:
        super().__init__()
        self.server = server
        self.tokenizer = server.tokenizer
        self.on_progress = on_progress
        self.strict = strict
        self.unscored: dict[tuple[str, int], Unscored] = {}
        self.truncated: Counter[str] = Counter()
        self.replies: dict[tuple[str, int], dict[tuple[int, int], Reply]] = {}
        self._generates = True
        self._chats = False
        self._continued: set[str] = set()
        self._named = server.named_format
        self._loop = loop
        self._open_contexts = open_contexts
        self._seed = seed
        if not server.has_logprob_token_ids:
            log.warning(
                "%s does not support logprob_token_ids: multiple choice takes one prompt_logprobs request per "
                "choice, which is many times slower",
                server.model_name,
            )

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """The token that stands for an empty context: BOS, else EOS (as lm-eval's vLLM back end)."""
        bos = self.tokenizer.bos_token_id
        return int(bos if bos is not None else self.tokenizer.eos_token_id)

    @property
    def max_length(self) -> int:
        return self.server.max_model_len

    @property
    def tokenizer_name(self) -> str:
        """Names the tokenizer in lm-eval's request cache."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a conversation; without its system turn where the template refuses one.

        Choices are asked with thinking off, as with lm-eval's ``enable_thinking=False``.

        Source: lm-eval 0.4.13 lm_eval/models/vllm_causallms.py ``VLLM.apply_chat_template``. A FastChat
        format that was asked for (``--chat-template fastchat:NAME``) takes the template's place.
        """
        from jinja2 import TemplateError

        self._chats = True
        reasoning = self.server.reasoning
        form = reasoning.on if self._generates and reasoning.thinks else reasoning.off
        if self._named is not None:
            return (form or self._named).prompt_text([Message(turn["role"], turn["content"]) for turn in chat_history])  # type: ignore[arg-type]

        how: dict[str, Any] = {} if form is None else dict(form.template_args)
        how |= {"add_generation_prompt": add_generation_prompt, "continue_final_message": not add_generation_prompt}
        try:
            text = str(self.tokenizer.apply_chat_template(chat_history, tokenize=False, **how))
        except TemplateError:
            turns = [turn for turn in chat_history if turn["role"] != "system"]
            text = str(self.tokenizer.apply_chat_template(turns, tokenize=False, **how))
        if not add_generation_prompt:
            # A task that begins the answer itself leaves no place for a thought.
            self._continued.add(text)
            return text
        return text if form is None else text + form.generation_suffix

    @contextmanager
    def told_output_types(self) -> Iterator[None]:
        """Within a block, lm-eval's tasks say whether they generate before they have their prompts rendered.

        Choices are scored after an empty, closed thought, and generated answers after one of the model's own.
        """
        from lm_eval.api.task import Task

        original = Task.build_all_requests

        def build_all_requests(task: Any, **settings: Any) -> None:
            self._generates = task.OUTPUT_TYPE == "generate_until"
            try:
                original(task, **settings)
            finally:
                self._generates = True

        with mock.patch.object(Task, "build_all_requests", build_all_requests):
            yield

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return what is recorded as the template: the tokenizer's, or the name of FastChat's format."""
        if self._named is not None:
            return self._named.source
        return super().chat_template(chat_template)  # type: ignore[no-any-return]

    @property
    def writes_conversations(self) -> bool:
        return self._named is not None or bool(getattr(self.tokenizer, "chat_template", None))

    def tok_encode(self, string: Any, add_special_tokens: bool | None = None, **kwargs: Any) -> Any:
        """Tokenise one text or a list of texts; a text that begins with BOS gets no second one."""
        texts = [string] if isinstance(string, str) else string
        bos = str(self.tokenizer.decode(self.prefix_token_id))
        encoded = encode_texts(self.tokenizer, bos, texts, add_special_tokens, **kwargs)
        return encoded[0] if isinstance(string, str) else encoded

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:  # noqa: ARG002
        """Return (log-likelihood, is greedy) of each request's continuation; (NaN, False) when unscored.

        Contexts go out task by task, so that shared few-shot examples stay in the prefix cache;
        tasks and contexts with long prompts come first.
        """
        results = _Results(self, requests, (math.nan, False))
        by_context: dict[str, list[int]] = {}
        for position, request in enumerate(requests):
            by_context.setdefault(request.args[0], []).append(position)
        order = _longest_first({context: results.tasks[members[0]] for context, members in by_context.items()})
        with Window(self._loop, self._open_contexts) as window:
            for contexts in chunks(order, _CONTEXTS_PER_BATCH):
                batch = [position for context in contexts for position in by_context[context]]
                pairs = encode_pairs(self.tokenizer, self.prefix_token_id, [requests[p].args for p in batch])
                self._submit_pairs(window, zip(batch, pairs, strict=True), results)
        return results.finished()

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[Any, list[int], list[int]]],
        **kwargs: Any,  # noqa: ARG002
    ) -> list[tuple[float, bool]]:
        """Return (log-likelihood, is greedy) of requests given in token ids; (NaN, False) when unscored."""
        results = _Results(self, [None] * len(requests), (math.nan, False))
        with Window(self._loop, self._open_contexts) as window:
            self._submit_pairs(window, enumerate((context, choice) for _, context, choice in requests), results)
        return results.finished()

    def _submit_pairs(
        self, window: Window, pairs: Iterable[tuple[int, tuple[list[int], list[int]]]], results: _Results
    ) -> None:
        fitting = []
        for position, (context, continuation) in pairs:
            fitted = truncate_left(context, continuation, self.max_length)
            if isinstance(fitted, Unscored):
                results.put(position, fitted)
                continue
            self.truncated[results.tasks[position]] += fitted.cut > 0
            fitting.append((position, fitted.context, fitted.continuation))
        for group in group_by_context(fitting):
            window.submit(self._answer_group(group, results))

    async def _answer_group(self, group: ContextGroup, results: _Results) -> None:
        distinct = list(dict.fromkeys(group.continuations))
        scored = dict(zip(distinct, await _scored(self.server, group.context, distinct), strict=True))
        for position, continuation in zip(group.members, group.continuations, strict=True):
            results.put(position, scored[continuation])

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:  # noqa: ARG002
        """Return the log-likelihood of each whole text, in disjoint windows of the model's length.

        Source: lm-eval 0.4.13 lm_eval/models/vllm_causallms.py ``VLLM.loglikelihood_rolling``.
        """
        results = _Results(self, requests, math.nan)
        with Window(self._loop, self._open_contexts) as window:
            for position, request in enumerate(requests):
                windows = get_rolling_token_windows(
                    token_list=self.tok_encode(request.args[0]),
                    prefix_token=self.prefix_token_id,
                    max_seq_len=self.max_length - 2,
                    context_len=1,
                )
                window.submit(self._answer_rolling(position, [make_disjoint_window(pair) for pair in windows], results))
        return results.finished()

    async def _answer_rolling(
        self, position: int, windows: Sequence[tuple[list[int], list[int]]], results: _Results
    ) -> None:
        total = 0.0
        for context, continuation in windows:
            answer = await _by_prompt_logprobs(self.server, tuple(context), tuple(continuation))
            if isinstance(answer, Unscored):
                results.put(position, answer)
                return
            total += answer.value
        results.put(position, total)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
        """Return each request's answer up to its stop strings; "" when unscored.

        Stop strings are the task's and the end-of-text token; a prompt that leaves no room for its answer is cut on the
        left. Source: lm-eval 0.4.13 lm_eval/models/vllm_causallms.py ``VLLM.generate_until``. Deviations: special
        tokens are left out of the text, as in lm-eval's ``hf`` and ``local-completions`` back ends (the leaderboard ran
        ``hf``), unless the task says otherwise; an answer longer than the whole context is ``Unscored``; repeated draws
        of one document have different seeds.
        """
        results = _Results(self, requests, "")
        ends = () if self._named is None else self._named.stop
        eos = str(self.tokenizer.decode(self.eot_token_id)) or str(self.tokenizer.eos_token)
        bound = self.server.reasoning.max_answer_tokens
        plans = [task_sampling(request.args[1], eos, self.max_gen_toks, ends, bound) for request in requests]
        order = sorted(range(len(requests)), key=lambda p: (-plans[p][0].max_new_tokens, -len(requests[p].args[0])))
        draws: Counter[tuple[Any, ...]] = Counter()
        with Window(self._loop, self._open_contexts) as window:
            for batch in chunks(order, _CONTEXTS_PER_BATCH):
                for position, tokens in zip(batch, self.tok_encode([requests[p].args[0] for p in batch]), strict=True):
                    request, (sampling, skip) = requests[position], plans[position]
                    asked = sampling.max_new_tokens
                    if asked >= self.max_length:
                        detail = f"the task asks for {asked} new tokens; the model's context is {self.max_length}"
                        results.put(position, Unscored("context_length", detail))
                        continue
                    prompt, _ = maybe_truncate(tokens, asked, self.max_length, verbose=False)
                    self.truncated[results.tasks[position]] += len(prompt) < len(tokens)
                    draw = (request.task_name, request.doc_id, request.idx)
                    seeded = replace(sampling, seed=derive_seed(self._seed, *draw, draws[draw]))
                    window.submit(self._answer_generation(position, prompt, seeded, skip, results, draws[draw]))
                    draws[draw] += 1
        return results.finished()

    async def _answer_generation(
        self, position: int, prompt: list[int], sampling: Sampling, skip: bool, results: _Results, repeat: int
    ) -> None:
        request = results.requests[position]
        thinks = self._chats and request.args[0] not in self._continued
        ask = self.server.answer_prompt if thinks else self.server.complete
        answer = await ask(prompt, sampling, skip_special_tokens=skip)
        if isinstance(answer, Unscored):
            results.put(position, answer)
            return
        if request.doc_id is not None:
            of_document = self.replies.setdefault((str(request.task_name), request.doc_id), {})
            of_document[request.idx, repeat] = reply_of(replace(answer, text=""))
        results.put(position, postprocess_generated_text(answer.text, list(sampling.stop), None))


class _Results:
    """The answers to one call's requests, filled in any order from either thread."""

    def __init__(self, lm: EvalsuiteLM, requests: Sequence[Any], when_unscored: Any) -> None:
        self.tasks = [str(getattr(request, "task_name", None) or "") for request in requests]
        self._values: list[Any] = [when_unscored] * len(requests)
        self._lm = lm
        self.requests = requests
        self._lock = threading.Lock()
        self._asked = Counter(self.tasks)
        self._answered: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()

    def put(self, position: int, value: object) -> None:
        """Resolve a request with its answer, or with the Unscored that it failed with."""
        task, request = self.tasks[position], self.requests[position]
        with self._lock:
            if isinstance(value, Unscored):
                self._faults[value.reason] += 1
                if request is not None and request.doc_id is not None:
                    self._lm.unscored.setdefault((task, request.doc_id), value)
            else:
                self._values[position] = value
            self._answered[task] += 1
            answered = self._answered[task]
        if self._lm.on_progress is not None:
            self._lm.on_progress(task, answered, self._asked[task], len(self._lm.unscored))

    def finished(self) -> list[Any]:
        """Return all values; raises DataError where some requests failed and the model is strict."""
        if not (self._faults and self._lm.strict):
            return self._values
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self._faults.items()))
        raise DataError(
            f"{self._faults.total()} of {len(self._values)} requests are unscored ({reasons}), which lm-eval cannot "
            "represent; `evalsuite run MODEL --suite lm_eval:TASK` leaves their documents out and counts them"
        )


def _longest_first(tasks: Mapping[str, str]) -> list[str]:
    """Order contexts, given with their tasks: tasks by their longest prompt, then prompts by length, longest first."""
    longest: Counter[str] = Counter()
    for context, task in tasks.items():
        longest[task] = max(longest[task], len(context))
    return sorted(tasks, key=lambda context: (-longest[tasks[context]], tasks[context], -len(context)))


def task_sampling(
    settings: Mapping[str, Any],
    eos: str,
    default_max_new_tokens: int,
    ends: Sequence[str] = (),
    bound: int | None = None,
) -> tuple[Sampling, bool]:
    """Return a task's ``generation_kwargs`` as sampling (with seed 0), and whether special tokens are left out.

    ``ends`` are further stop strings, those of a conversation format; ``bound`` replaces the task's
    maximum. Raises UsageError for a setting that the server
    would ignore.
    """
    left = dict(normalize_gen_kwargs(dict(settings), default_max_gen_toks=default_max_new_tokens))
    left.pop("do_sample", None)
    left["max_gen_toks"] = bound or left["max_gen_toks"]
    stop = handle_stop_sequences(left.pop("until", None), eos=eos)
    sampling = Sampling(
        max_new_tokens=int(left.pop("max_gen_toks")),
        temperature=float(left.pop("temperature", 0.0)),
        top_p=float(left.pop("top_p", 1.0)),
        top_k=int(left.pop("top_k", 0)),
        stop=tuple(text for text in dict.fromkeys([*stop, *ends]) if text),
    )
    skip_special_tokens = bool(left.pop("skip_special_tokens", True))
    for name, value in left.items():
        if value not in _NEUTRAL_SETTINGS.get(name, ()):
            raise UsageError(
                f"an lm-eval task sets {name}={value!r}; evalsuite supports until, max_gen_toks, do_sample, "
                "temperature, top_p and top_k: run this task with lm_eval itself"
            )
    return sampling, skip_special_tokens


async def _scored(
    server: Client, context: Tokens, continuations: Sequence[Tokens]
) -> Sequence[Loglikelihood | Unscored]:
    """Score all continuations of one context by the cheapest method; every method gives the same figures.

    One next-token question where every continuation is a single token; else the server's own scoring endpoint, where it
    has one; else the trie of next-token questions, or prompt log-probabilities where those are cheaper.
    """
    questions = questions_for(continuations)
    if server.scores_continuations and len(questions) > 1 and len(questions[0].ids) < MAX_IDS:
        asked = [tokens for tokens in continuations if tokens]
        steps = await server.continuation_steps(context, asked)
        if not isinstance(steps, Unscored):
            summed = dict(zip(asked, map(sum_steps, steps), strict=True))
            return [summed.get(tokens, sum_steps(())) for tokens in continuations]
        # What the endpoint refuses, the methods that any server has may still score.
        if steps.reason != "request_failed":
            return [steps if tokens else sum_steps(()) for tokens in continuations]
    if server.has_logprob_token_ids and questions_are_cheaper(len(context), continuations, questions):
        answers = await gather_or_cancel(
            server.next_token_logprobs(context + question.path, question.ids) for question in questions
        )
        return loglikelihoods(continuations, questions, answers)
    return await gather_or_cancel(_by_prompt_logprobs(server, context, tokens) for tokens in continuations)


async def _by_prompt_logprobs(server: Client, context: Tokens, continuation: Tokens) -> Loglikelihood | Unscored:
    """Score one continuation by the log-probabilities of its tokens as a part of the prompt."""
    if not continuation:
        return sum_steps(())
    steps = await server.prompt_logprobs(context + continuation, len(context))
    if isinstance(steps, Unscored):
        return steps
    if len(steps) != len(continuation):
        return Unscored("malformed_reply", f"{len(steps)} log-probabilities for {len(continuation)} tokens")
    return sum_steps(steps)
