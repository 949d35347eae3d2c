"""An lm-eval ``LM`` on a served model: choices at one prefill, and failures that stay failures.

lm-eval drives its tasks on the main thread, because MATH's scorer and math-verify bound their
work with ``signal.alarm``, which fails silently anywhere else. The requests run on an event
loop in another thread; the methods here feed that loop through a window of bounded size, so
that any number of requests holds flat memory, and block until everything is answered.

lm-eval has no word for "unscored". A request that fails is recorded in ``EvalsuiteLM.unscored``
under its task and document, and ``harness_run.unscored_left_out`` makes lm-eval skip those documents: their
``process_results`` yields no metric, so every mean, standard error, group figure and sample
count that lm-eval computes is over the documents that were answered. The stand-in values
returned for a failed request (NaN, or an empty string) therefore never reach a metric.

This module imports lm-eval at its top; import it only where a run needs it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, maybe_truncate, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from evalsuite.errors import UsageError
from evalsuite.serving.concurrency import gather_or_cancel
from evalsuite.serving.continuations import (
    MAX_IDS_PER_QUESTION,
    ContextGroup,
    Loglikelihood,
    NextToken,
    Tokens,
    TokenServer,
    asking_is_cheaper,
    fit_on_the_left,
    group_by_context,
    loglikelihoods,
    questions_for,
    summed,
)
from evalsuite.serving.requests import Sampling, derive_seed
from evalsuite.suites.harness.tokens import encode_pairs, encode_texts
from evalsuite.suites.harness.window import Window
from judges.types import Message, Unscored

__all__ = ["EvalsuiteLM", "NextToken", "TokenServer", "group_loglikelihoods"]

log = logging.getLogger("evalsuite")

OnProgress = Callable[[str, int, int], None]
"""Called with (task, requests answered, requests in all), from the event loop's thread."""

_CONTEXTS_PER_BATCH = 64
_NEUTRAL_SETTINGS: Mapping[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "repetition_penalty": (1, 1.0),
    "min_p": (0, 0.0),
    "spaces_between_special_tokens": (True, False),
}
"""Generation settings that change nothing at these values, so a task may name them."""


async def group_loglikelihoods(server: TokenServer, group: ContextGroup) -> list[Loglikelihood | Unscored]:
    """Ask for all continuations of one context in the way that costs least; all ways give the same figures.

    One next-token question where every continuation is a single token; else the server's own
    scoring endpoint, where it has one; else the trie, or the ordinary way where that is cheaper.
    """
    questions = questions_for(group.continuations)
    if server.scores_continuations and len(questions) > 1 and len(questions[0].ids) < MAX_IDS_PER_QUESTION:
        answered = await _by_endpoint(server, group)
        if not _refused(answered):
            return answered
        # What the endpoint does not take is no fault of the item's: the ways of any server are left.
    if server.has_logprob_token_ids and asking_is_cheaper(len(group.context), group.continuations, questions):
        answers = await gather_or_cancel(
            server.next_token_logprobs(group.context + question.path, question.ids) for question in questions
        )
        return loglikelihoods(group.continuations, questions, answers)
    distinct = list(dict.fromkeys(group.continuations))
    scored = await gather_or_cancel(_ordinary(server, group.context, continuation) for continuation in distinct)
    by_tokens = dict(zip(distinct, scored, strict=True))
    return [by_tokens[continuation] for continuation in group.continuations]


async def _by_endpoint(server: TokenServer, group: ContextGroup) -> list[Loglikelihood | Unscored]:
    distinct = [tokens for tokens in dict.fromkeys(group.continuations) if tokens]
    steps = await server.continuation_steps(group.context, distinct)
    by_tokens: dict[Tokens, Loglikelihood | Unscored] = {(): Loglikelihood(0.0, True)}
    if isinstance(steps, Unscored):
        by_tokens |= dict.fromkeys(distinct, steps)
    else:
        by_tokens |= dict(zip(distinct, map(summed, steps), strict=True))
    return [by_tokens[continuation] for continuation in group.continuations]


def _refused(answered: Sequence[Loglikelihood | Unscored]) -> bool:
    return any(isinstance(answer, Unscored) and answer.reason == "request_failed" for answer in answered)


async def _ordinary(server: TokenServer, context: Tokens, continuation: Tokens) -> Loglikelihood | Unscored:
    if not continuation:
        return Loglikelihood(0.0, True)
    steps = await server.prompt_logprobs(context + continuation, len(context))
    if isinstance(steps, Unscored):
        return steps
    if len(steps) != len(continuation):
        return Unscored("malformed_reply", f"{len(steps)} log-probabilities for {len(continuation)} tokens")
    return summed(steps)


class EvalsuiteLM(TemplateLM):  # type: ignore[misc]
    """lm-eval's interface to a :class:`TokenServer` whose coroutines run on ``loop``.

    ``loop`` must run in another thread than the one that calls. ``open_contexts`` bounds the
    contexts (or generations) that are under way; it should exceed the number of requests that
    the server's client keeps in flight. ``unscored`` maps (task, document number) to what went
    wrong, ``faults`` counts by reason the requests that failed, whether or not they name a document;
    ``truncated`` counts, by task, the requests whose context was cut on the left.
    """

    def __init__(
        self,
        server: TokenServer,
        loop: asyncio.AbstractEventLoop,
        *,
        on_progress: OnProgress | None = None,
        open_contexts: int = 1024,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.server = server
        self.tokenizer = server.tokenizer
        self._named = server.named_format
        self.unscored: dict[tuple[str, int], Unscored] = {}
        self.faults: Counter[str] = Counter()
        self.truncated: Counter[str] = Counter()
        self._loop = loop
        self._on_progress = on_progress
        self._open_contexts = open_contexts
        self._seed = seed
        self._answered: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        if not (server.has_logprob_token_ids or server.scores_continuations):
            log.warning(
                "%s does not offer logprob_token_ids: multiple choice is scored by one prompt_logprobs request "
                "a choice, which is many times slower",
                server.model_name,
            )

    # What lm-eval wants to know of a model ---------------------------------------------------

    @property
    def eot_token_id(self) -> int:
        """The end-of-text token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """The token that stands for an empty context: BOS, else EOS (as lm-eval's vLLM back end)."""
        bos = self.tokenizer.bos_token_id
        return int(bos if bos is not None else self.tokenizer.eos_token_id)

    @property
    def max_length(self) -> int:
        """The model's context in tokens, prompt and answer together."""
        return self.server.max_model_len

    @property
    def max_gen_toks(self) -> int:
        """lm-eval's own default for tasks that set no bound."""
        return 256

    @property
    def tokenizer_name(self) -> str:
        """Names the tokenizer in lm-eval's request cache."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a conversation; a template that refuses a system turn is tried again without it.

        Source: lm-eval 0.4.13 lm_eval/models/vllm_causallms.py ``VLLM.apply_chat_template``. A format of
        FastChat's that the user named (``--chat-template fastchat:NAME``) is written here as everywhere else.
        """
        from jinja2 import TemplateError

        if self._named is not None:
            return self._named.prompt_text([Message(turn["role"], turn["content"]) for turn in chat_history])  # type: ignore[arg-type]

        def rendered(turns: list[dict[str, str]]) -> str:
            return str(
                self.tokenizer.apply_chat_template(
                    turns,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                )
            )

        try:
            return rendered(chat_history)
        except TemplateError:
            return rendered([turn for turn in chat_history if turn["role"] != "system"])

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return what is recorded as the template: the tokenizer's, or the name of FastChat's."""
        if self._named is not None:
            return self._named.source
        own: str | None = super().chat_template(chat_template)
        return own

    @property
    def writes_conversations(self) -> bool:
        """Whether there is a way to write conversations."""
        return self._named is not None or bool(getattr(self.tokenizer, "chat_template", None))

    # Tokenising ------------------------------------------------------------------------------

    def tok_encode(self, string: Any, add_special_tokens: bool | None = None, **kwargs: Any) -> Any:
        """Tokenise one text or a list of texts; a text that begins with BOS gets no second one."""
        texts = [string] if isinstance(string, str) else string
        bos = str(self.tokenizer.decode(self.prefix_token_id))
        encoded = encode_texts(self.tokenizer, bos, texts, add_special_tokens, **kwargs)
        return encoded[0] if isinstance(string, str) else encoded

    # Log-likelihoods -------------------------------------------------------------------------

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:  # noqa: ARG002
        """Return (log-likelihood, is greedy) of each request's continuation; (NaN, False) when unscored.

        Contexts are asked task by task, so that shared few-shot examples stay in the prefix
        cache; tasks and contexts with long prompts come first.
        """
        results = _Results(self, requests, (math.nan, False))
        by_context: dict[str, list[int]] = {}
        for position, request in enumerate(requests):
            by_context.setdefault(request.args[0], []).append(position)
        order = _long_ones_early(by_context, lambda context: requests[by_context[context][0]].task_name)
        with Window(self._loop, self._open_contexts) as window:
            for first in range(0, len(order), _CONTEXTS_PER_BATCH):
                batch = [p for context in order[first : first + _CONTEXTS_PER_BATCH] for p in by_context[context]]
                pairs = encode_pairs(self.tokenizer, self.prefix_token_id, [requests[p].args for p in batch])
                fitted = self._fitted(zip(batch, pairs, strict=True), results)
                for group in group_by_context(fitted):
                    window.submit(self._answer_group(group, results))
        return results.values

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[Any, list[int], list[int]]],
        **kwargs: Any,  # noqa: ARG002
    ) -> list[tuple[float, bool]]:
        """Return (log-likelihood, is greedy) of requests given in token ids; (NaN, False) when unscored."""
        results = _Results(self, [None] * len(requests), (math.nan, False))
        pairs = ((position, (context, own)) for position, (_, context, own) in enumerate(requests))
        with Window(self._loop, self._open_contexts) as window:
            for group in group_by_context(self._fitted(pairs, results)):
                window.submit(self._answer_group(group, results))
        return results.values

    def _fitted(
        self, pairs: Iterable[tuple[int, tuple[list[int], list[int]]]], results: _Results
    ) -> Iterator[tuple[int, Tokens, Tokens]]:
        for position, (context, continuation) in pairs:
            fitted = fit_on_the_left(context, continuation, self.max_length)
            if isinstance(fitted, Unscored):
                results.fail(position, fitted)
                continue
            if fitted.cut:
                self.truncated[results.task(position)] += 1
            yield position, fitted.context, fitted.continuation

    async def _answer_group(self, group: ContextGroup, results: _Results) -> None:
        answers = await group_loglikelihoods(self.server, group)
        for position, answer in zip(group.members, answers, strict=True):
            if isinstance(answer, Unscored):
                results.fail(position, answer)
            else:
                results.put(position, (answer.value, answer.is_greedy))

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
        return results.values

    async def _answer_rolling(
        self, position: int, windows: Sequence[tuple[list[int], list[int]]], results: _Results
    ) -> None:
        total = 0.0
        for context, continuation in windows:
            answer = await _ordinary(self.server, tuple(context), tuple(continuation))
            if isinstance(answer, Unscored):
                results.fail(position, answer)
                return
            total += answer.value
        results.put(position, total)

    # Generation ------------------------------------------------------------------------------

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
        """Return each request's answer up to its stop strings; "" when unscored.

        Stop strings are the task's and the end-of-text token; a prompt too long for its answer
        is cut on the left. Source: lm-eval 0.4.13 lm_eval/models/vllm_causallms.py
        ``VLLM.generate_until``. Deviations: special tokens are left out of the text, as in
        lm-eval's ``hf`` and ``local-completions`` back ends (the leaderboard ran ``hf``), unless
        the task says otherwise; an answer longer than the whole context is ``Unscored``;
        repeated draws of one document have seeds of their own.
        """
        results = _Results(self, requests, "")
        ends = () if self._named is None else self._named.stop
        plans = [_generation_plan(request.args[1], self._eos, self.max_gen_toks, ends) for request in requests]
        order = sorted(range(len(requests)), key=lambda p: (-plans[p].max_new_tokens, -len(requests[p].args[0])))
        draws: Counter[tuple[Any, ...]] = Counter()
        with Window(self._loop, self._open_contexts) as window:
            for first in range(0, len(order), _CONTEXTS_PER_BATCH):
                batch = order[first : first + _CONTEXTS_PER_BATCH]
                for position, tokens in zip(batch, self.tok_encode([requests[p].args[0] for p in batch]), strict=True):
                    request, plan = requests[position], plans[position]
                    if plan.max_new_tokens >= self.max_length:
                        results.fail(position, _no_room(plan.max_new_tokens, self.max_length))
                        continue
                    prompt, _ = maybe_truncate(tokens, plan.max_new_tokens, self.max_length, verbose=False)
                    self.truncated[results.task(position)] += len(prompt) < len(tokens)
                    which = (request.task_name, request.doc_id, request.idx)
                    seed = derive_seed(self._seed, *which, draws[which])
                    draws[which] += 1
                    window.submit(self._answer_generation(position, prompt, plan, seed, results))
        return results.values

    @property
    def _eos(self) -> str:
        return str(self.tokenizer.decode(self.eot_token_id)) or str(self.tokenizer.eos_token)

    async def _answer_generation(
        self, position: int, prompt: list[int], plan: _Plan, seed: int, results: _Results
    ) -> None:
        answer = await self.server.complete(prompt, plan.sampling(seed), skip_special_tokens=plan.skip_special_tokens)
        if isinstance(answer, Unscored):
            results.fail(position, answer)
        else:
            results.put(position, postprocess_generated_text(answer.text, list(plan.stop), None))

    # Bookkeeping -----------------------------------------------------------------------------

    def expect(self, tasks: Iterable[str]) -> None:
        """Note that one request for each of ``tasks`` is about to be asked."""
        self._asked.update(tasks)

    def note(self, task: str, doc_id: int | None, fault: Unscored | None) -> None:
        """Note that one request of ``task`` is answered, or failed with ``fault``."""
        with self._lock:
            if fault is not None:
                self.faults[fault.reason] += 1
                if doc_id is not None:
                    self.unscored.setdefault((task, doc_id), fault)
            self._answered[task] += 1
            answered, asked = self._answered[task], self._asked[task]
        if self._on_progress is not None:
            self._on_progress(task, answered, asked)


class _Results:
    """The answers to one list of requests, filled in any order from either thread."""

    def __init__(self, lm: EvalsuiteLM, requests: Sequence[Any], when_unscored: Any) -> None:
        self.values: list[Any] = [when_unscored] * len(requests)
        self._lm = lm
        self._requests = requests
        lm.expect(map(self.task, range(len(requests))))

    def task(self, position: int) -> str:
        request = self._requests[position]
        return "" if request is None or request.task_name is None else str(request.task_name)

    def put(self, position: int, value: Any) -> None:
        self.values[position] = value
        self._lm.note(self.task(position), None, None)

    def fail(self, position: int, fault: Unscored) -> None:
        request = self._requests[position]
        self._lm.note(self.task(position), None if request is None else request.doc_id, fault)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one answer is generated."""

    max_new_tokens: int
    stop: tuple[str, ...]
    temperature: float
    top_p: float
    top_k: int
    skip_special_tokens: bool

    def sampling(self, seed: int) -> Sampling:
        return Sampling(self.max_new_tokens, self.temperature, self.top_p, self.top_k, seed, self.stop)


def _generation_plan(
    settings: Mapping[str, Any], eos: str, default_max_new_tokens: int, ends: Sequence[str] = ()
) -> _Plan:
    """Read a task's generation settings; raises UsageError for one that would change the answers unheard."""
    left = dict(normalize_gen_kwargs(dict(settings), default_max_gen_toks=default_max_new_tokens))
    left.pop("do_sample", None)
    stop = handle_stop_sequences(left.pop("until", None), eos=eos)
    plan = _Plan(
        max_new_tokens=int(left.pop("max_gen_toks")),
        stop=tuple(word for word in dict.fromkeys([*stop, *ends]) if word),
        temperature=float(left.pop("temperature", 0.0)),
        top_p=float(left.pop("top_p", 1.0)),
        top_k=int(left.pop("top_k", 0)),
        skip_special_tokens=bool(left.pop("skip_special_tokens", True)),
    )
    for name, value in left.items():
        if value not in _NEUTRAL_SETTINGS.get(name, ()):
            raise UsageError(
                f"an lm-eval task asks for the generation setting {name}={value!r}; evalsuite knows until, "
                "max_gen_toks, do_sample, temperature, top_p and top_k: run this task with lm_eval itself"
            )
    return plan


def _no_room(max_new_tokens: int, max_model_len: int) -> Unscored:
    return Unscored(
        "context_length", f"the task asks for {max_new_tokens} new tokens; the model's context is {max_model_len}"
    )


def _long_ones_early(contexts: Iterable[str], task_of: Callable[[str], str | None]) -> list[str]:
    """Order contexts: tasks by their longest prompt, then prompts by length, longest first."""
    tasks = {context: task_of(context) or "" for context in contexts}
    longest: dict[str, int] = {}
    for context, task in tasks.items():
        longest[task] = max(longest.get(task, 0), len(context))
    return sorted(tasks, key=lambda context: (-longest[tasks[context]], tasks[context], -len(context)))
