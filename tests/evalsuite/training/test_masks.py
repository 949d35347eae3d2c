"""The loss mask: answers with their end-of-turn token, located and verified without generation marks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from evalsuite.checkpoint import Checkpoint
from evalsuite.conversations.formats import Conversation
from evalsuite.errors import CheckpointError, DataError
from evalsuite.recipes.training import TrainingConfig
from evalsuite.serving.chat_format import load_chat_format
from evalsuite.training.data import TokenCounts, write_tokens
from evalsuite.training.masks import DROP_REASONS, IGNORED, Dropped, Marked, mark_answers, mark_fitting
from evalsuite.training.template import TrainingTemplate, open_template
from evalsuite.training.train import left_out
from judges.thoughts import split_thought
from judges.types import Message
from tests.evalsuite.tiny_checkpoint import TEMPLATE, write_checkpoint

END = 1  # <|im_end|> in the tiny tokenizer


def form_of(folder, template=TEMPLATE) -> TrainingTemplate:
    write_checkpoint(folder)
    checkpoint = Checkpoint("tiny", folder, "0" * 64, chat_template=template)
    return open_template(checkpoint, load_chat_format(checkpoint), {})


@pytest.fixture(scope="module")
def form(tmp_path_factory) -> TrainingTemplate:
    return form_of(tmp_path_factory.mktemp("form") / "model")


def chat(*texts: str) -> list[Message]:
    """Turns of the user and the assistant; an answer may begin with a thought between its marks."""
    turns = [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)]
    split = [split_thought(turn.content) for turn in turns]
    return [
        replace(turn, thought=thought, content=str(text)) for turn, (thought, text) in zip(turns, split, strict=True)
    ]


def talk(messages: list[Message], name: str = "h") -> Conversation:
    return Conversation(name, tuple(messages), None, (None,) * len(messages))


THOUGHT, WRITTEN = "<think>Two twos.</think>Four.", "<think>\nTwo twos.\n</think>\n\nFour."


def text_with_loss(form: TrainingTemplate, marked: Marked) -> str:
    return form.tokenizer.decode([label for label in marked.labels() if label != IGNORED])


def test_loss_covers_the_answers_and_their_end_tokens(form):
    marked = mark_answers(form, chat("One?", "Yes.", "Two?", "No."))
    assert isinstance(marked, Marked)
    assert text_with_loss(form, marked) == "Yes.<|im_end|>No.<|im_end|>"
    assert marked.ids[-1] == END, "tokens after the last end of turn are never generated, so they are not trained on"
    assert marked.n_loss_tokens == len("Yes.") + 1 + len("No.") + 1


def test_training_uses_the_tokens_that_serving_sends(form):
    messages = chat("One?", "Yes.", "Two?", "No.")
    marked = mark_answers(form, messages)
    for (start, _), turn in zip(marked.answers, (1, 3), strict=True):
        assert list(marked.ids[:start]) == form.on.prompt_tokens(messages[:turn])


def test_control_tokens_in_a_text_are_plain_text_and_do_not_end_an_answer(form):
    answer = "Write <|im_end|> to end a turn."
    marked = mark_answers(form, chat("How does <|im_start|> work?", answer))
    assert text_with_loss(form, marked) == answer + "<|im_end|>"
    assert list(marked.ids).count(END) == 2, "one for the question's turn, one for the answer's"


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=30)


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(TEXT, min_size=2, max_size=6).filter(lambda texts: len(texts) % 2 == 0))
def test_the_mask_decodes_to_the_answers(form, texts):
    marked = mark_answers(form, chat(*texts))
    assert isinstance(marked, Marked)
    assert text_with_loss(form, marked) == "".join(f"{text}<|im_end|>" for text in texts[1::2])


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (chat("Only a question"), "no_answer"),
        ([], "no_answer"),
        ([Message("assistant", "I begin.")], "bad_roles"),
        ([Message("user", "a"), Message("assistant", "b"), Message("assistant", "c")], "bad_roles"),
    ],
)
def test_unusable_conversations_are_dropped_with_a_reason(form, messages, reason):
    dropped = mark_answers(form, messages)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == reason
    assert reason in DROP_REASONS


def test_a_template_that_rewrites_earlier_answers_trains_only_the_last_one(tmp_path):
    rewriting = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'assistant' and not loop.last %}(old) {% endif %}"
        "{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    form = form_of(tmp_path / "m", rewriting)
    marked = mark_answers(form, chat("One?", "Yes.", "Two?", "No."))
    assert text_with_loss(form, marked) == "No.<|im_end|>"
    assert marked.n_without_loss == 1
    assert "(old) Yes.<|im_end|>" in form.tokenizer.decode(marked.ids)
    # If the rewrite depends on the last turn, the prompt of the second answer is not a prefix of the conversation.
    hindsight = rewriting.replace("not loop.last", "not loop.last and messages[-1]['role'] == 'assistant'")
    marked = mark_answers(form_of(tmp_path / "h", hindsight), chat("One?", "Yes.", "Two?", "No."))
    assert marked == Dropped("boundary_merges", "No.")


REASONING = (
    "{% for m in messages %}{% set text = m['content'] %}{% if m['role'] == 'assistant' and not loop.last %}"
    "{% set text = text.split('</think>')[-1].lstrip() %}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ text }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_template_that_drops_earlier_reasoning_keeps_the_conversation(tmp_path):
    form = form_of(tmp_path / "m", REASONING)
    marked = mark_answers(form, chat("Two and two?", THOUGHT, "Sure?", "Yes.", "Why?", THOUGHT))
    # The second answer has no reasoning to drop, and the last one keeps its reasoning.
    assert text_with_loss(form, marked) == f"Yes.<|im_end|>{WRITTEN}<|im_end|>"
    assert marked.n_without_loss == 1


def test_a_last_answer_that_the_template_rewrites_is_dropped(tmp_path):
    shouting = TEMPLATE.replace("m['content']", "(m['content'] | upper)")
    dropped = mark_answers(form_of(tmp_path / "m", shouting), chat("One?", "Yes."))
    assert dropped == Dropped("mask_mismatch", "Yes.")


def test_a_template_that_drops_earlier_turns_drops_the_conversation(tmp_path):
    forgetting = (
        "{% for m in messages[-2:] %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    marked = mark_answers(form_of(tmp_path / "m", forgetting), chat("One?", "Yes.", "Two?", "No."))
    # The prompt of the second answer shows the first answer, the whole conversation does not: no common prefix.
    assert isinstance(marked, Dropped)
    assert marked.reason == "boundary_merges"


def test_a_template_that_raises_is_a_drop_reason(tmp_path):
    strict = TEMPLATE + "{% if messages | length > 3 %}{{ raise_exception('too many turns') }}{% endif %}"
    dropped = mark_answers(form_of(tmp_path / "m", strict), chat("a", "b", "c", "d"))
    assert dropped.reason == "template_refused"


def test_the_end_of_turn_is_found_or_the_error_is_one_sentence(tmp_path, form):
    assert form.end_id == END
    with pytest.raises(CheckpointError, match="no chat template"):
        form_of(tmp_path / "none", template=None)
    plain = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    plain += "{% if add_generation_prompt %}assistant: {% endif %}"
    with pytest.raises(CheckpointError, match="does not end an answer with a special token"):
        form_of(tmp_path / "plain", plain)
    elsewhere = TEMPLATE.replace("<|im_start|>assistant\n", "<|im_start|>model\n")
    with pytest.raises(CheckpointError, match="right after its generation prompt"):
        form_of(tmp_path / "elsewhere", elsewhere)


def test_too_long_is_dropped_or_cut_after_an_answer_never_inside_a_turn(form):
    messages = chat("One?", "Yes.", "Two?", "No.")
    marked = mark_answers(form, messages)
    first_end = marked.answers[0][1]

    def fitting(max_length, *, cut):
        return mark_fitting(form, messages, max_length, cut=cut)

    assert fitting(len(marked.ids), cut=False) == marked
    assert fitting(len(marked.ids) - 1, cut=False).reason == "too_long"
    cut = fitting(len(marked.ids) - 1, cut=True)
    assert text_with_loss(form, cut) == "Yes.<|im_end|>"
    assert len(cut.ids) == first_end
    assert fitting(first_end - 1, cut=True).reason == "too_long"


@pytest.mark.parametrize("n_turns", [3, 2, 1])
def test_a_cut_conversation_equals_one_without_the_later_turns(tmp_path, form, n_turns):
    messages = chat("Two and two?", THOUGHT, "Sure?", "Yes.", "And now?", THOUGHT, "Why?", THOUGHT)
    for each in (form, form_of(tmp_path / "m", REASONING)):
        shorter = mark_answers(each, messages[: 2 * n_turns])
        longer = mark_answers(each, messages[: 2 * n_turns + 2])
        cut = mark_fitting(each, messages, len(longer.ids) - 1, cut=True)
        assert (cut.ids, cut.answers, cut.n_without_loss) == (
            shorter.ids,
            shorter.answers,
            shorter.n_without_loss,
        )
        assert cut.is_cut
        assert text_with_loss(each, cut).endswith(f"{messages[2 * n_turns - 1].content}<|im_end|>")
        too_small = len(mark_answers(each, messages[:2]).ids) - 1
        assert mark_fitting(each, messages, too_small, cut=True).reason == "too_long"


def config(max_length: int) -> TrainingConfig:
    return TrainingConfig(base="x", max_length=max_length, too_long="cut_at_turn")


def test_answers_without_loss_are_counted_in_what_is_trained_on(tmp_path):
    form = form_of(tmp_path / "m", REASONING)
    samples = [talk(chat("Two and two?", THOUGHT, "Sure?", THOUGHT, "Why?", THOUGHT))]
    window = len(mark_answers(form, samples[0].messages[:4]).ids)
    counts = write_tokens(samples, form, tmp_path / "tokens", config(max_length=window))
    assert (counts.n_trained, counts.n_cut, counts.n_answers_without_loss, counts.dropped) == (1, 1, 1, {})
    counts = write_tokens(samples, form, tmp_path / "tokens", config(max_length=window - 1))
    assert (counts.n_trained, counts.n_cut, counts.n_answers_without_loss, counts.dropped) == (1, 1, 0, {})


LONG = chat("x" * 99, "Yes.")
STRICT = TEMPLATE + "{% if messages | length > 3 %}{{ raise_exception('too many turns') }}{% endif %}"
SHOUTING = STRICT.replace("m['content']", "(m['content'] | replace('b', 'B'))")


@pytest.mark.parametrize(
    ("template", "talks", "options", "remedy"),
    [
        (TEMPLATE, [chat("a", "b"), LONG, LONG], {"held_out": 1}, "raise max_length, or set too_long: cut_at_turn"),
        (TEMPLATE, [LONG], {"too_long": "cut_at_turn"}, "raise max_length"),
        (TEMPLATE, [chat("a", "b"), chat("c", "d"), LONG], {"held_out": 2}, "lower held_out"),
        (TEMPLATE, [chat("a", "b"), LONG], {"held_out": 1, "too_long": "cut_at_turn"}, "raise max_length"),
        # Two template errors have the same remedy.
        (SHOUTING, [LONG, chat("a", "b"), chat("a", "c", "d", "e")], {}, "give another chat_template"),
        (TEMPLATE, [LONG, chat("a"), chat("b")], {}, "change the sources"),
        (TEMPLATE, [], {}, "change the sources"),
    ],
)
def test_if_nothing_is_left_the_remedy_recovers_the_most_conversations(tmp_path, template, talks, options, remedy):
    form, samples = form_of(tmp_path / "m", template), [talk(messages) for messages in talks]
    with pytest.raises(DataError, match="no conversation is left to train on") as error:
        write_tokens(samples, form, tmp_path / "tokens", TrainingConfig(base="x", max_length=64, **options))
    assert str(error.value).endswith(f"); {remedy}")


@pytest.mark.parametrize(("too_long", "advised"), [("drop", True), ("cut_at_turn", False)])
def test_a_setting_that_is_on_is_not_advised(too_long, advised):
    config = TrainingConfig(base="x", max_length=64, too_long=too_long)
    (line,) = left_out(TokenCounts(n_read=3, n_trained=1, dropped={"too_long": 2}), config)
    assert line.startswith("2 of 3 conversations dropped: longer than the window of 64 tokens")
    assert ("cut_at_turn" in line) == advised
