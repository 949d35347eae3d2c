"""A toy language model with a full distribution, served as a Client and computed directly."""

from __future__ import annotations

import asyncio
import math
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from evalsuite.serving.continuations import NextToken
from evalsuite.serving.reasoning import NO_REASONING
from evalsuite.serving.requests import Completion, Sampling
from judges.types import Unscored

CORPUS = [
    "the cat sat on the mat and the dog sat on the log",
    "Question: which is right? (A) one (B) two (C) three\nAnswer: (A)",
    "Problem: what is 7 + 5? Solution: the final answer is $12$.",
    "a  b   c\n\n\tspaces and  more   spaces  ",
]


@lru_cache(maxsize=4096)
def distribution(prefix: tuple[int, ...], size: int) -> tuple[float, ...]:
    """Log-probabilities of every token after ``prefix``: any function of the prefix will do."""
    noise = random.Random(repr(prefix))
    logits = [noise.gauss(0, 2) for _ in range(size)]
    norm = math.log(sum(math.exp(x) for x in logits))
    return tuple(x - norm for x in logits)


def direct(context: Sequence[int], continuation: Sequence[int], size: int) -> tuple[float, bool]:
    """The log-likelihood by definition: one distribution after another."""
    total, greedy, prefix = 0.0, True, tuple(context)
    for token in continuation:
        logprobs = distribution(prefix, size)
        total += logprobs[token]
        greedy = greedy and max(range(size), key=logprobs.__getitem__) == token
        prefix += (token,)
    return total, greedy


@lru_cache(maxsize=8)
def toy_tokenizer(
    pre_tokenized: bool = True, add_bos: bool = False, prefix_space: bool = False, add_eos: bool = False
) -> Any:
    """A small BPE tokenizer; without pre-tokenisation its tokens may span spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from tokenizers.decoders import ByteLevel
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=pre_tokenized)
    tokenizer.decoder = ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if add_bos or add_eos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A" if add_bos else "$A </s>",
            special_tokens=[(word, tokenizer.token_to_id(word)) for word in ("<s>", "</s>")],
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


class ToyServer:
    """The token requests of a Client, answered from the toy distribution; ``fault`` may fail a prompt by its tokens."""

    model_name = "toy"
    max_in_flight = 128
    named_format = None
    reasoning = NO_REASONING
    generation = None

    def __init__(
        self,
        tokenizer: Any = None,
        *,
        max_model_len: int = 4096,
        feature: bool = True,
        endpoint: bool = False,
        fault: Callable[[Sequence[int]], Unscored | None] = lambda _: None,
        answer: Callable[[Sequence[int], Sampling], str] = lambda _, __: "12",
    ) -> None:
        self.tokenizer = tokenizer or toy_tokenizer()
        self.size = len(self.tokenizer)
        self.max_model_len = max_model_len
        self.has_logprob_token_ids = feature
        self.scores_continuations = endpoint
        self.asked: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        self.completed: list[tuple[tuple[int, ...], Sampling]] = []
        self.in_flight = self.most_in_flight = 0
        self._fault = fault
        self._answer = answer

    async def _turn(self, prompt: Sequence[int], new_tokens: int) -> Unscored | None:
        assert 0 < len(prompt) <= self.max_model_len - new_tokens, "a server would refuse this prompt"
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        return self._fault(prompt)

    async def next_token_logprobs(self, prompt: Sequence[int], ids: Sequence[int]) -> NextToken | Unscored:
        assert self.has_logprob_token_ids
        assert 0 < len(ids) <= 128
        self.asked.append((tuple(prompt), tuple(ids)))
        if (fault := await self._turn(prompt, 1)) is not None:
            return fault
        logprobs = distribution(tuple(prompt), self.size)
        return NextToken({i: logprobs[i] for i in ids}, max(range(self.size), key=logprobs.__getitem__))

    async def continuation_steps(
        self, context: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> list[list[tuple[float, bool]]] | Unscored:
        assert self.scores_continuations
        assert all(continuations)
        if (fault := await self._turn((*context, *max(continuations, key=len)), 1)) is not None:
            return fault
        return [
            [direct((*context, *tokens[:at]), tokens[at : at + 1], self.size) for at in range(len(tokens))]
            for tokens in continuations
        ]

    async def prompt_logprobs(self, tokens: Sequence[int], start: int) -> list[tuple[float, bool]] | Unscored:
        assert start > 0
        if (fault := await self._turn(tokens, 1)) is not None:
            return fault
        return [direct(tokens[:at], tokens[at : at + 1], self.size) for at in range(start, len(tokens))]

    async def complete(
        self, prompt: Sequence[int], sampling: Sampling, *, skip_special_tokens: bool = True
    ) -> Completion | Unscored:
        self.completed.append((tuple(prompt), sampling))
        if (fault := await self._turn(prompt, sampling.max_new_tokens)) is not None:
            return fault
        return Completion(self._answer(prompt, sampling), "stop", len(prompt), 1)

    answer_prompt = complete


@contextmanager
def loop_in_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
