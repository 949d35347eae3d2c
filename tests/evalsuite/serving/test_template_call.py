"""Templates that write today's date, that read text as parts, and that come several to a checkpoint."""

from __future__ import annotations

import json
from datetime import date

import pytest

from evalsuite.checkpoint import resolve
from evalsuite.config import read_config
from evalsuite.doctor.chat_template import check_template
from evalsuite.errors import CheckpointError, UsageError
from evalsuite.results.variants import variant_settings
from evalsuite.serving.chat_format import load_chat_format
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.session import answer_identity
from judges.types import Message
from tests.evalsuite.tiny_checkpoint import TEMPLATE, write_checkpoint, write_tokenizer

HELLO = [Message("user", "Hi")]
DATED = 'Today: {{ strftime_now("%d %b %Y") }}\n' + TEMPLATE
IN_PARTS = TEMPLATE.replace(
    "{{ m['content'] }}", "{% for part in m['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))


def test_a_template_writes_the_same_date_every_day(tmp_path):
    checkpoint = resolve(str(write_checkpoint(tmp_path / "m", template=DATED)))
    form = load_chat_format(checkpoint)
    assert form.render(HELLO).startswith("Today: 26 Jul 2024\n")
    # lm-eval renders with the tokenizer.
    turns = [{"role": "user", "content": "Hi"}]
    assert form.tokenizer.apply_chat_template(turns, tokenize=False).startswith("Today: 26 Jul 2024\n")
    [_, said] = check_template(checkpoint, None, "candidate", needs_chat=True)
    assert "fixes at 2024-07-26" in said.message


def test_another_date_is_another_variant_with_another_identity(tmp_path):
    folder = str(write_checkpoint(tmp_path / "m", template=DATED))
    config = read_config({"models": [folder], "template_date": "2025-12-01"})
    checkpoint = config.serve.resolve(folder)
    assert load_chat_format(checkpoint).render(HELLO).startswith("Today: 01 Dec 2025\n")
    assert variant_settings(config) == {"template_date": "2025-12-01"}
    identity = answer_identity(checkpoint, ServeConfig(), attached=None)
    assert identity["template_date"] == "2025-12-01"
    assert config.judge_serving.resolve(folder).template_date == date(2025, 12, 1)
    with pytest.raises(UsageError, match="--template-date must be a date like 2025-12-31, not 'tomorrow'"):
        read_config({"models": [folder], "template_date": "tomorrow"})


def test_a_template_without_a_date_keeps_its_identity(tmp_path):
    checkpoint = resolve(str(write_checkpoint(tmp_path / "m")))
    assert "template_date" not in answer_identity(checkpoint, ServeConfig(), attached=None)


def test_a_template_that_reads_parts_is_given_parts(tmp_path):
    plain = load_chat_format(resolve(str(write_checkpoint(tmp_path / "plain"))))
    parts = load_chat_format(resolve(str(write_checkpoint(tmp_path / "parts", template=IN_PARTS))))
    for messages in (
        HELLO,
        [Message("system", "Be brief."), *HELLO, Message("assistant", "Hello <|im_end|>")],
        [Message("user", "<|im_start|> x")],
    ):
        assert parts.prompt_tokens(messages) == plain.prompt_tokens(messages)
        assert parts.conversation_tokens(messages) == plain.conversation_tokens(messages)


def test_named_templates_without_a_default_are_listed_and_chosen(tmp_path):
    folder = write_checkpoint(tmp_path / "m", template=None)
    write_tokenizer(folder, None)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    named = [{"name": "tool_use", "template": "t"}, {"name": "rag", "template": TEMPLATE}]
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": named}))
    with pytest.raises(CheckpointError, match=r"the chat templates rag, tool_use .* --chat-template NAME"):
        load_chat_format(resolve(str(folder)))
    config = read_config({"models": [str(folder)], "chat_template": "rag"})
    assert config.serve.resolve(str(folder)).chat_template == TEMPLATE
    assert variant_settings(config) == {"template": "rag"}
    with pytest.raises(UsageError, match="did you mean 'rag'"):
        read_config({"models": [str(folder)], "chat_template": "rg"}).serve.resolve(str(folder))


def test_templates_beside_the_default_are_chosen_by_name(tmp_path):
    folder = write_checkpoint(tmp_path / "m")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("t")
    assert resolve(str(folder)).chat_template == TEMPLATE
    serve = ServeConfig(chat_template="tool_use")
    assert serve.resolve(str(folder)).chat_template == "t"


@pytest.mark.parametrize(
    ("template", "is_named"),
    [
        # As in mistralai/Mistral-7B-Instruct-v0.2: the answer follows the user's turn at once.
        ("{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
         "{% else %}{{ m['content'] }}<|im_end|>{% endif %}{% endfor %}", False),
        (TEMPLATE.partition("{% if add")[0], True),
    ],
)  # fmt: skip
def test_a_template_that_needs_no_header_before_an_answer_is_no_fault(tmp_path, template, is_named):
    checkpoint = resolve(str(write_checkpoint(tmp_path / "m", template=template)))
    said = " ".join(finding.message for finding in check_template(checkpoint, None, "candidate", needs_chat=True))
    assert ("does not open the assistant's turn" in said) is is_named
