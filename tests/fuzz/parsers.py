"""Fuzz targets without files: one call is one case; a wrong outcome is an AssertionError or whatever escapes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import jinja2

from evalsuite.config import RunConfig, read_config
from evalsuite.errors import EvalsuiteError
from evalsuite.serving import replies
from evalsuite.serving.requests import Completion
from evalsuite.suites.registry import parse_suite
from judges import extraction, factors, pairwise, parse, pointwise, templates, verdicts
from judges.types import Choice, Message, Preference, Rating, Unscored
from tests.fuzz import mutation

CORPUS = mutation.corpus()
_KEY = "0123456789abcdef"
_FLOATS = (0.0, -0.1, -1e-320, -745.2, -1e308, 5.0, math.nan, math.inf, -math.inf)
_CHATML = (
    "<|im_start|>system\nJudge.\n<|im_end|>\n<|im_start|>user\n{instruction}\n#{output_1}\n#{output_2}\n<|im_end|>"
)
_PROMPTS = {
    "single-v1": {"system_prompt": "s", "prompt_template": "[{question}] [{answer}]"},
    "single-v1-multi-turn": {"system_prompt": "s", "prompt_template": "{question_1}{answer_1}{question_2}{answer_2}"},
}
_TEMPLATE = templates.JudgeTemplate(
    "{{ nonce }} {% for t in answers_a %}<{{ t }}>{% endfor %}{% for t in answers_b %}<{{ t }}>{% endfor %}"
)
REPLY = {
    "choices": [
        {
            "text": "hi",
            "message": {"role": "assistant", "content": "hi"},
            "finish_reason": "stop",
            "logprobs": {
                "tokens": ["token_id:5"],
                "top_logprobs": [{"token_id:5": -0.1, "token_id:6": -2.5}],
                "content": [{"token": "m", "top_logprobs": [{"token": "m", "logprob": -0.1}]}],
            },
            "prompt_logprobs": [None, {"6": {"logprob": -0.5, "rank": 1}}],
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
    "results": [[[-0.5, True]], [[-0.1, False], [-2.0, True]]],
}
CONFIG = {
    "models": ["demo"],
    "suites": ["mt_bench", "openllm:ifeval,musr"],
    "judge": "judge",
    "limit": 5,
    "data": "mini",
    "dtype": "auto",
    "max_model_len": 2048,
    "vllm_args": ["a=b"],
    "seed": 0,
    "base_url": "http://h/v1",
    "max_unscored": 0.01,
    "in_flight": 8,
    "fresh": False,
}


def ratings(draw: Random) -> None:
    words, n_options = mutation.text(draw, CORPUS), draw.randrange(1, 27)
    for read, low, high in ((parse.parse_rating, 1, 10), (parse.parse_score_0_to_1, 0, 1)):
        own, published = read(words), read(words, as_published=True)
        assert isinstance(own, Unscored) or low <= own.value <= high
        assert isinstance(published, Rating | Unscored)
    option = parse.parse_option(words, n_options)
    assert isinstance(option, Unscored) or 0 <= ord(option.letter) - ord("A") < n_options
    assert isinstance(parse.parse_option(words, n_options, as_published=True), Choice | Unscored)


def pair_verdicts(draw: Random) -> None:
    words = mutation.text(draw, CORPUS)
    read = verdicts.parse_verdict(words, _KEY)
    assert isinstance(read, Unscored) or read.letter in "ABT"
    # Every line that stands in an answer is a quotation, unless it has the key.
    assert isinstance(verdicts.parse_verdict(words, _KEY, [words]), Unscored) or _KEY in words
    game = verdicts.game_from_choice(read) if isinstance(read, Choice) else read
    again = verdicts.parse_verdict(words + verdicts.verdict_lead_in(_KEY) + "tie]]", _KEY)
    assert isinstance(again, Choice)
    assert again.letter == verdicts.TIE
    both = verdicts.combine_orders(game, verdicts.game_from_choice(again))
    assert isinstance(both, Unscored) or 0 <= both.preference_a <= 1


def probabilities(draw: Random) -> None:
    def logprobs(labels: str) -> dict[str, float]:
        return {label: draw.choice(_FLOATS) for label in labels if draw.random() < 0.7}

    factor = factors.FACTORS["factuality"]
    rating = factors.expected_rating(logprobs("ABCDEFGHIJx"), factor)
    assert isinstance(rating, Unscored) or 1 <= rating.value <= 10
    game = verdicts.game_from_logprobs(logprobs("AB"))
    assert isinstance(game, Unscored) or 0 <= game.first <= 1
    pair = logprobs("mM")
    preference = parse.preference_from_logprobs(pair.get("m"), pair.get("M"), switched=draw.random() < 0.5)
    assert isinstance(preference, Unscored) or 1 <= preference.value <= 2
    assert isinstance(preference, Preference | Unscored)
    assert isinstance(factors.rating_of_letter(mutation.text(draw, CORPUS), factor), Rating | Unscored)


def extractions(draw: Random) -> None:
    words = mutation.text(draw, CORPUS)
    options = [mutation.text(draw, CORPUS) for _ in range(draw.randrange(1, 5))]
    choice = extraction.parse_choice_by_rule(words, options)
    assert isinstance(choice, Unscored) or ord(choice.letter) - ord("A") < len(options)
    assert isinstance(extraction.choice_as_published(words, options, Random(42)), Choice)
    assert extraction.free_form_is_correct_by_rule(words, options) in (True, False)


def filling(draw: Random) -> None:
    first, second, third = (mutation.text(draw, CORPUS) for _ in range(3))
    values = {"a": first, "b": second}
    assert templates.fill("{a}\x1f{b}\x1f{c}\x1f{a}", values) == "\x1f".join((first, second, "{c}", first))
    [system, user] = pairwise.comparison_messages(_CHATML, first, second, third, switched=False)
    assert (system.content, user.content) == ("Judge.", f"{first}\n#{second}\n#{third}")
    messages = pointwise.judge_messages(_PROMPTS, [first, second], [third, first], None, turn=2)
    assert messages[-1].content == first + third + second + first
    key = verdicts.key_of(verdicts.Request((first,)), [second], [third])
    assert not any(key in one for one in (first, second, third))
    [asked] = verdicts.comparison_prompt(_TEMPLATE, verdicts.Request((first,)), [second], [third], key=key)
    assert asked.content.removesuffix("\n") == f"{key} <{second}><{third}>".removesuffix("\n")
    for prompt in (
        extraction.free_form_judge_messages(first, [second], third),
        extraction.option_judge_messages(first, [second, first], third),
    ):
        assert third in prompt[-1].content
        assert all(isinstance(message, Message) for message in prompt)


def prompt_files(draw: Random) -> None:
    """A benchmark's prompt file may be any text: it is ChatML, or a ValueError says that it is not."""
    words = mutation.text(draw, (*CORPUS, _CHATML))
    survives(lambda: pairwise.parse_chatml_template(words), list, also=(ValueError,))
    survives(lambda: pairwise.comparison_messages(words, "i", "x", "y", switched=True), list, also=(ValueError,))
    survives(lambda: templates.fill(words, {"answer": "x"}), str, also=(ValueError,))


def judge_templates(draw: Random) -> None:
    """A user's template that passes its check renders; one that does not is a ValueError."""
    pieces = (
        "{{ answers_a }}",
        "{{ answers_b[0] }}",
        "{{ nonce }}",
        "{{ questions|length }}",
        "{% if nonce %}x{% endif %}",
    )
    foreign = (
        "{{ x }}",
        "{{ nonce|nope }}",
        "{{ 1/0 }}",
        "{{ nonce.__class__.__mro__ }}",
        "{{ ''.join }}",
        "{% include '/etc/hostname' %}",
    )
    foreign += (
        "{% for i in range(9**9) %}{% endfor %}",
        "{{ nonce() }}",
        "{{",
        "{% end %}",
        "{# ",
        "{{ nonce is nope }}",
        "{% extends nonce %}",
        "{{ nonce * 9**9 }}",
        "{{ nonce.ljust(999999999) }}",
        "{{ nonce|center(999999999) }}",
    )
    foreign += ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{% import 'x' as y %}", "\x00", "\ud800")
    source = "".join(draw.choice(pieces) for _ in range(4)) + draw.choice(foreign if draw.random() < 0.7 else pieces)
    template = templates.JudgeTemplate(source)

    def use() -> list[Message]:
        template.check(verdicts.TEMPLATE_VARIABLES, verdicts.NEEDED_VARIABLES)
        return verdicts.comparison_prompt(template, verdicts.Request(("q",)), ["a"], ["b"], key=_KEY)

    # jinja2's own errors are documented; nothing that a template says may raise another.
    survives(use, list, also=(ValueError, jinja2.TemplateError))


def server_replies(draw: Random) -> None:
    raw = mutation.document(draw, REPLY)
    if not isinstance(raw, dict):
        return
    readers: tuple[Callable[[dict[str, Any]], Any], ...] = (
        replies.read_completion,
        replies.read_chat,
        replies.read_next_token,
        replies.read_features,
        replies.read_top_logprobs,
        lambda reply: replies.read_prompt_logprobs(reply, [5, 6]),
        lambda reply: replies.read_continuations(reply, [(0,), (0, 0)]),
    )
    for read in readers:
        answer = replies.read_safely(read, raw)
        assert isinstance(answer, Unscored | dict)
        if isinstance(answer, dict):
            json.dumps(answer, allow_nan=False)
            if read in (replies.read_completion, replies.read_chat):
                completion = Completion(**answer)
                assert isinstance(completion.text, str)
                assert completion.prompt_tokens + completion.completion_tokens >= 0
    assert all(count >= 0 for count in replies.token_counts(raw))


def configs(draw: Random) -> None:
    spoilt = mutation.document(draw, CONFIG)
    values = spoilt if isinstance(spoilt, Mapping) else {"models": spoilt}
    values = {str(key): inner for key, inner in values.items()}
    survives(lambda: read_config(values), RunConfig)
    survives(lambda: parse_suite(mutation.text(draw, ("openllm:bbh,x", "mixeval:hard", "lm_eval:"))), object)


def survives(call: Callable[[], Any], *kinds: type, also: tuple[type[Exception], ...] = ()) -> Any:
    """Return what ``call`` returns, which must be one of ``kinds``; None for our errors, in one line, and ``also``."""
    try:
        found = call()
    except EvalsuiteError as error:
        words = str(error)
        assert words
        assert "\n" not in words, f"not one line: {words!r}"
        return None
    except also:
        return None
    assert isinstance(found, kinds), f"{type(found)} is none of {kinds}"
    return found


PARSERS: Mapping[str, Callable[[Random], None]] = {
    "ratings": ratings,
    "pair_verdicts": pair_verdicts,
    "probabilities": probabilities,
    "extractions": extractions,
    "filling": filling,
    "prompt_files": prompt_files,
    "judge_templates": judge_templates,
    "server_replies": server_replies,
    "configs": configs,
}
