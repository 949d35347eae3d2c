"""Templates that think: what has loss and what the model sees before it, for plain, thinking and mixed rows."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from evalsuite.checkpoint import Checkpoint
from evalsuite.conversations.formats import conversation_of, with_thoughts
from evalsuite.errors import CheckpointError
from evalsuite.recipes.training import TrainingConfig
from evalsuite.serving.chat_format import load_chat_format
from evalsuite.training.data import write_tokens
from evalsuite.training.masks import IGNORED, Dropped, Marked, mark_answers, mark_fitting
from evalsuite.training.template import TrainingTemplate, open_template
from judges.types import Message
from tests.evalsuite.tiny_checkpoint import TEMPLATE, write_checkpoint
from tests.evalsuite.training import families

END = "<|im_end|>"


def opened(folder, template, args=None, *, marks=False, **options) -> TrainingTemplate:
    write_checkpoint(folder)
    if marks:
        add_marks(folder)
    checkpoint = Checkpoint("tiny", folder, "0" * 64, chat_template=template)
    return open_template(checkpoint, load_chat_format(checkpoint), args or {}, **options)


def add_marks(folder: Path) -> None:
    """Make the marks tokens of their own, as in the families' tokenizers; they are not special tokens there."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    for number, mark in enumerate(("<think>", "</think>"), 258):
        tokenizer["added_tokens"].append({"id": number, "content": mark, **flags})
    path.write_text(json.dumps(tokenizer))


def talk(*answers: str) -> list[Message]:
    """An answer "T1/A1" is the thought T1 and the answer A1."""
    messages = []
    for number, answer in enumerate(answers, 1):
        thought, _, text = answer.rpartition("/")
        messages += [Message("user", f"Q{number}"), Message("assistant", text, thought=thought or None)]
    return messages


def shown(template: TrainingTemplate, marked: Marked | Dropped) -> str:
    """Return the text with what has loss in brackets."""
    assert isinstance(marked, Marked), marked
    text, at = "", 0
    for start, end in marked.answers:
        text += f"{template.decode(marked.ids[at:start])}[{template.decode(marked.ids[start:end])}]"
        at = end
    return (text + template.decode(marked.ids[at:])).replace("<|im_start|>", "").replace(END, ";")


EMPTY = "<think>\n\n</think>\n\n"
OPENED = {
    "A1": "user\nQ1;\nassistant\n<think>\n\n</think>\n\n[A1;]",
    "T1/A1": "user\nQ1;\nassistant\n<think>\n[T1\n</think>\n\nA1;]",
    "A1 A2": "user\nQ1;\nassistant\n[A1;]\nuser\nQ2;\nassistant\n<think>\n\n</think>\n\n[A2;]",
    "T1/A1 T2/A2": "user\nQ1;\nassistant\nA1;\nuser\nQ2;\nassistant\n<think>\n[T2\n</think>\n\nA2;]",
    "A1 T2/A2": "user\nQ1;\nassistant\n[A1;]\nuser\nQ2;\nassistant\n<think>\n[T2\n</think>\n\nA2;]",
    "T1/A1 A2": "user\nQ1;\nassistant\nA1;\nuser\nQ2;\nassistant\n<think>\n\n</think>\n\n[A2;]",
}
"""In the manner of families whose prompt opens the thought."""
EXPECTED = {
    "QWEN3": {row: text.replace("<think>\n[T", "[<think>\nT") for row, text in OPENED.items()},
    "QWEN35": OPENED,
    "DEEPSEEK_R1": OPENED,
    "CHATML_OPEN": OPENED,
    "DEEPSEEK_V31": {
        "A1": "user\nQ1;\nassistant\n</think>[A1;]",
        "T1/A1": "user\nQ1;\nassistant\n<think>[T1</think>A1;]",
        "A1 T2/A2": "user\nQ1;\nassistant\n[A1;]\nuser\nQ2;\nassistant\n<think>[T2</think>A2;]",
    },
    "SMOLLM3": {
        "A1": "system\nMode: no_think;\nuser\nQ1;\nassistant\n<think>\n\n</think>\n[A1;]",
        "T1/A1 T2/A2": "system\nMode: think;\nuser\nQ1;\nassistant\n[<think>\nT1\n</think>\nA1;]\n"
        "user\nQ2;\nassistant\n[<think>\nT2\n</think>\nA2;]",
    },
    "TEMPLATE": {
        "A1": "user\nQ1;\nassistant\n[A1;]",
        "T1/A1": "user\nQ1;\nassistant\n[<think>\nT1\n</think>\n\nA1;]",
        "T1/A1 A2": "user\nQ1;\nassistant\nA1;\nuser\nQ2;\nassistant\n[A2;]",
    },
}


@pytest.mark.parametrize("marks", [False, True], ids=["text", "tokens"])
@pytest.mark.parametrize("family", EXPECTED)
def test_what_has_loss_is_what_the_model_writes_after_the_prompt(tmp_path, family, marks):
    template = opened(tmp_path / "m", getattr(families, family, TEMPLATE), marks=marks)
    found = {row: shown(template, mark_answers(template, talk(*row.split()))) for row in EXPECTED[family]}
    assert found == EXPECTED[family]


@pytest.mark.parametrize("family", EXPECTED)
@pytest.mark.parametrize("row", OPENED)
def test_the_last_answer_follows_the_tokens_that_serving_sends(tmp_path, family, row):
    template = opened(tmp_path / "m", getattr(families, family, TEMPLATE), marks=True)
    messages = talk(*row.split())
    marked = mark_answers(template, messages)
    prompt = (template.on if messages[-1].thought else template.off).prompt_tokens(messages[:-1])
    assert list(marked.ids[: marked.answers[-1][0]]) == prompt


def test_an_empty_thought_has_loss_on_request(tmp_path):
    trained = {
        "QWEN3": "user\nQ1;\nassistant\n[<think>\n\n</think>\n\nA1;]",
        "DEEPSEEK_R1": "user\nQ1;\nassistant\n<think>\n[\n</think>\n\nA1;]",
        "TEMPLATE": "user\nQ1;\nassistant\n[A1;]",
    }
    for family, text in trained.items():
        template = opened(tmp_path / family, getattr(families, family, TEMPLATE), trains_empty_thoughts=True)
        assert shown(template, mark_answers(template, talk("A1"))) == text


def test_template_args_switch_thinking_off_for_all_rows(tmp_path):
    template = opened(tmp_path / "m", families.QWEN3, {"enable_thinking": False})
    assert shown(template, mark_answers(template, talk("A1"))) == f"user\nQ1;\nassistant\n{EMPTY}[A1;]"
    assert mark_answers(template, talk("T1/A1")) == Dropped("thinking_off", "T1")


def test_harmony_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match=r"on channels \(gpt-oss's harmony\), which cannot be trained on; give"):
        opened(tmp_path / "m", families.HARMONY)


def test_a_cut_conversation_ends_as_a_shorter_one_would(tmp_path):
    for family in ("QWEN3", "DEEPSEEK_R1", "QWEN35"):
        template = opened(tmp_path / family, getattr(families, family))
        shorter = mark_answers(template, talk("A1", "T2/A2"))
        messages = talk("A1", "T2/A2", "A3")
        assert mark_fitting(template, messages, len(shorter.ids), cut=True).ids == shorter.ids
        assert mark_fitting(template, messages, len(shorter.ids), cut=True).is_cut


def test_marks_quoted_in_texts_stay_text(tmp_path):
    template = opened(tmp_path / "m", families.QWEN3, marks=True)
    messages = [Message("user", "What is <think>?"), Message("assistant", "A </think> mark.", thought="It is <think>.")]
    marked = mark_answers(template, messages)
    assert shown(template, marked).endswith("[<think>\nIt is <think>.\n</think>\n\nA </think> mark.;]")
    assert [list(marked.ids).count(mark) for mark in (258, 259)] == [1, 1]


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think", "qwen3_5_nothink", "qwen3_6", "nemotron_3_nano"])
def test_templates_as_trl_keeps_them(tmp_path, name):
    """The families' own templates: thoughts and answers are found, and nothing else has loss."""
    spec = find_spec("trl")
    path = Path(str(spec.origin)).parent / "chat_templates" / f"{name}.jinja"
    if not path.is_file():
        pytest.skip(f"trl has no template {name}")
    template = opened(tmp_path / "m", path.read_text(), marks=True)
    for row in OPENED:
        messages = talk(*row.split())
        marked = mark_answers(template, messages)
        last = messages[-1]
        loss = template.decode(marked.ids[slice(*marked.answers[-1])]).replace("\n", "")
        written = f"{last.thought}</think>{last.content}{END}" if last.thought else f"{last.content}{END}"
        assert loss.removeprefix("<think>") == written
        prompt = (template.on if last.thought else template.off).prompt_tokens(messages[:-1])
        assert list(marked.ids[: marked.answers[-1][0]]) == prompt


ROWS = [
    {"messages": [{"role": "user", "content": f"Q{i}"}, {"role": "assistant", "content": "A", "reasoning": "T"}]}
    for i in range(40)
]


@pytest.mark.parametrize(("thinking", "share"), [("keep", (40, 40)), ("drop", (0, 0)), ("mixed", (10, 30))])
def test_thoughts_are_kept_dropped_or_mixed(tmp_path, thinking, share):
    template = opened(tmp_path / "m", families.QWEN3)
    conversations = [conversation_of(row, "chat") for row in ROWS]
    counts = write_tokens(conversations, template, tmp_path / "t", TrainingConfig(base="x", thinking=thinking))
    assert counts.n_trained == 40
    assert share[0] <= counts.n_with_thought <= share[1]
    again = [with_thoughts(one, thinking) for one in conversations]
    assert sum(one.messages[1].thought is not None for one in again) == counts.n_with_thought


def test_labels_are_the_tokens_with_loss(tmp_path):
    template = opened(tmp_path / "m", families.DEEPSEEK_R1)
    marked = mark_answers(template, talk("T1/A1"))
    assert template.decode([label for label in marked.labels() if label != IGNORED]) == f"T1\n</think>\n\nA1{END}"
