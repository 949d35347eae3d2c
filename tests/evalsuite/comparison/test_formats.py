"""``--judge-format``: presets of published judges, files of one's own, and what is wrong with one."""

import json
import math
import re

import pytest

from evalsuite.comparison.card import judge_card
from evalsuite.comparison.compare import compare
from evalsuite.comparison.formats import FormatWatch, load_format, preset_names
from evalsuite.comparison.formatted import play_format
from evalsuite.comparison.settings import CardConfig, CompareConfig
from evalsuite.config import read_as
from evalsuite.errors import DataError, UsageError
from judges.types import Message, Unscored
from judges.verdicts import Request
from tests.evalsuite.comparison_judges import serving, word
from tests.evalsuite.scripted_chat import ScriptedChat
from tests.evalsuite.stub_endpoint import text_reply

REQUEST = Request(("Name a river.",), reference="The Loire.", rubric="It must be French.")


def test_the_presets():
    assert preset_names() == [
        "auto-j",
        "fastchat-pair",
        "judgelm",
        "prometheus-absolute",
        "prometheus-absolute-logprobs",
        "prometheus-relative",
        "skywork-critic",
        "skywork-critic-logprobs",
    ]
    assert all(name in CompareConfig.model_fields["judge_format"].description for name in preset_names())


@pytest.mark.parametrize(
    ("name", "reply", "preference"),
    [
        ("prometheus-relative", "Feedback: the first is French. [RESULT] A", 1.0),
        ("prometheus-relative", "Answer B says [RESULT] B. It is wrong.\n[RESULT] A", 1.0),
        ("prometheus-relative", "Both are good.", None),
        ("judgelm", "8 6\nThe first is French.", 1.0),
        ("judgelm", "6.5, 7", 0.0),
        ("judgelm", "7 7\nAlike.", 0.5),
        ("judgelm", "I would give 8 6", None),
        ("skywork-critic", "[[B]]", 0.0),
        ("auto-j", "The first is French. So, the final decision is Response 1.", 1.0),
        ("auto-j", "So, the final decision is Tie", 0.5),
        ("auto-j", "so, the final decision is response 2", 0.0),
    ],
)
def test_a_presets_replies(name, reply, preference):
    read = load_format(name).preference(reply)
    assert isinstance(read, Unscored) if preference is None else read == preference


@pytest.mark.parametrize(
    ("reply", "rating"),
    [("Good. [RESULT] 5", 5.0), ("[RESULT] 4.5", 4.5), ("[RESULT] 9", "rating_out_of_range"), ("5 of 5", "no_rating")],
)
def test_ratings_of_single_answers(reply, rating):
    read = load_format("prometheus-absolute").rating(reply)
    assert (read.reason if isinstance(read, Unscored) else read) == rating


def test_prompts_show_what_a_format_has_a_place_for():
    form = load_format("prometheus-relative")
    system, user = form.pair_messages(REQUEST, ["The Seine."], ["The Po."])
    assert system.role == "system"
    for heading, text in (
        ("###Instruction", "Name a river."),
        ("###Response A", "The Seine."),
        ("###Response B", "The Po."),
    ):
        assert f"{heading}:\n{text}" in user.content
    assert "###Reference Answer:\nThe Loire." in user.content
    assert "###Score Rubric:\nIt must be French." in user.content
    assert "###Reference Answer" not in form.pair_messages(Request(("Q",)), ["x"], ["y"])[-1].content
    [rated] = [
        m.content for m in load_format("prometheus-absolute").rating_messages(REQUEST, ["The Po."]) if m.role == "user"
    ]
    assert "###Response to evaluate:\nThe Po." in rated


def own(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


OWN = """
template: "{{ question }}|{{ answer_a }}|{{ answer_b }}"
verdict: {regex: "Winner: (first|second|equal)", labels: {first: a, second: b, equal: tie}}
"""


def test_a_format_of_ones_own_has_keyed_delimiters(tmp_path):
    form = load_format(own(tmp_path, OWN))
    [message] = form.pair_messages(Request(("Q",)), ["one"], ["two"])
    assert re.fullmatch(
        r"Q\|<begin answer A (\w{16})>\none\n<end answer A \1>\|<begin answer B \1>\ntwo\n<end answer B \1>",
        message.content,
    )
    assert form.preference("Winner: Equal") == 0.5
    plain = load_format(own(tmp_path, OWN + "delimiters: false\n"))
    assert plain.pair_messages(Request(("Q",)), ["one"], ["two"])[0].content == "Q|one|two"
    assert plain.sha256 != form.sha256
    # Nothing in an answer is rendered.
    assert "{{ nonce }}" in plain.pair_messages(Request(("Q",)), ["{{ nonce }}"], ["two"])[0].content


def test_a_dialogue_is_shown_turn_by_turn(tmp_path):
    text = OWN.replace("{{ answer_a }}", "{{ dialogue_a }}").replace("{{ answer_b }}", "{{ dialogue_b }}")
    form = load_format(own(tmp_path, text + "delimiters: false\n"))
    content = form.pair_messages(Request(("Q1", "Q2")), ["a1", "a2"], ["b1", "b2"])[0].content
    assert "### User:\nQ1\n\n### Assistant:\na1\n\n### User:\nQ2\n\n### Assistant:\na2" in content


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (OWN.replace("{{ answer_b }}", ""), r"does not show \{\{ answer_b \}\}"),
        (OWN.replace("(first|second|equal)", "first"), "regex has 0 groups; expected 1 for a verdict of label"),
        (OWN.replace("(first|second|equal)", "(first"), "regex is not a regular expression"),
        (OWN.replace("second: b", "second: a"), "labels name a, a, tie; expected one for a and one for b"),
        (OWN.replace("question", "quest"), "uses 'quest'"),
        (OWN + "samples: 0\n", "samples must be"),
        (OWN + "sampels: 2\n", "did you mean 'samples'"),
        ("verdict: {regex: '(A|B)'}\n", "either a template, or the asset"),
        ("template: '{{ answer_a }}{{ answer_b }}'\nverdict: {regex: '(.)', kind: scores}", "expected 2"),
        ("template: '{{ answer_a }}'\nverdict: {regex: '(.)', kind: rating}", "uses 'answer_a'"),
        ("asset: none\nprompt: x\nverdict: {regex: '(A|B)'}\n", "no pinned file 'none'"),
    ],
)
def test_what_is_wrong_with_a_format_is_said(tmp_path, text, fault):
    with pytest.raises((UsageError, DataError), match=fault):
        load_format(own(tmp_path, text))


def test_an_unknown_format_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'judgelm'"):
        load_format("judge-lm")


def test_a_format_that_no_reply_has_is_said_after_ten(tmp_path):
    watch = FormatWatch("mine")
    for _ in range(9):
        watch.saw("8 6", is_read=False)
    with pytest.raises(UsageError, match=r"none of the first 10 replies .* the last one ends 'I say 8 6'"):
        watch.saw("I say\n8 6", is_read=False)
    read = FormatWatch("mine", n_replies=0)
    read.saw("x", is_read=True)
    for _ in range(20):
        read.saw("8 6", is_read=False)


def test_fastchats_own_prompt_is_read_from_its_pinned_file(shared, monkeypatch):
    monkeypatch.setenv("EVALSUITE_MIRROR", str(shared / "mirror"))
    form = load_format("fastchat-pair")
    system, user = form.pair_messages(Request(("Name a river.",)), ["The Seine."], ["{{ nonce }} {answer_a}"])
    assert "impartial judge" in system.content
    assert user.content.startswith("[User Question]\nName a river.")
    assert "[The Start of Assistant B's Answer]\n{{ nonce }} {answer_a}\n" in user.content
    assert form.preference("... My final verdict: [[C]]") == 0.5


def play(tmp_path, says, **options):
    prompts = [{"id": str(i), "prompt": f"Question {i}?", "category": f"kind {i}"} for i in range(6)]
    files = {"prompts": prompts, "a": [], "b": []}
    for name in "ab":
        files[name] = [{"id": str(i), "answer": f"{'good' if name == 'a' else 'bad'} {i}"} for i in range(6)]
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def handler(path, body):
        return 200, text_reply(says(body["messages"][-1]["content"]))

    with serving(umpire=handler) as stubs:
        given = {"models": [str(tmp_path / f"{name}.jsonl") for name in "ab"], "judge": [word(stubs, "umpire")]}
        given |= {"prompts": str(tmp_path / "prompts.jsonl"), "results": tmp_path} | options
        outcome = compare(read_as(CompareConfig, given))
        return outcome.document, [body for _, body in stubs["umpire"].requests]


def test_a_comparison_in_a_published_judges_form(tmp_path):
    def judgelm(prompt):
        return "9 3\nBecause." if prompt.index("good") < prompt.index("bad") else "3 9\nBecause."

    document, asked = play(tmp_path, judgelm, judge_format="judgelm")
    assert (document.pairs[0].wins_a, document.pairs[0].position_flips) == (6, 0)
    assert document.judge.method == "format judgelm"
    assert document.judge.template_sha256 == load_format("judgelm").sha256
    assert "no keyed delimiters" in document.judge.notes[0]
    assert len(asked) == 12, "nothing is probed and nothing closed"


def test_the_template_may_name_the_category(tmp_path):
    form = own(tmp_path, OWN.replace("{{ question }}", "{{ question }} ({{ category }})"))
    says = "Winner: first"
    _, asked = play(tmp_path, lambda prompt: says, judge_format=form)
    shown = {body["messages"][-1]["content"].partition("|")[0] for body in asked}
    assert shown == {f"Question {i}? (kind {i})" for i in range(6)}
    pair = {"id": "1", "prompt": "Q", "output_1": "x", "output_2": "y", "label": 1, "category": "chat"}
    (tmp_path / "pairs.json").write_text(json.dumps([pair]))
    with serving(umpire=lambda path, body: (200, text_reply(says))) as stubs:
        given = {"judge": word(stubs, "umpire"), "pairs": str(tmp_path / "pairs.json"), "judge_format": form}
        judge_card(read_as(CardConfig, given | {"results": tmp_path}))
        asked = [body["messages"][-1]["content"] for _, body in stubs["umpire"].requests]
    assert {content.partition("|")[0] for content in asked} == {"Q (chat)"}


def test_ratings_of_each_answer_become_preferences(tmp_path):
    document, asked = play(
        tmp_path, lambda prompt: f"[RESULT] {5 if 'good' in prompt else 2}", judge_format="prometheus-absolute"
    )
    assert document.pairs[0].wins_a == 6
    assert len(asked) == 12, "each answer once: the order does not matter"


def test_samples_are_averaged(tmp_path):
    text = OWN + "samples: 4\ntemperature: 0.7\n"
    seen = []

    def says(prompt):
        seen.append(prompt)
        return "Winner: first" if len(seen) % 4 else "Winner: second"

    document, asked = play(tmp_path, says, judge_format=own(tmp_path, text), limit=1)
    assert len(asked) == 2 * 4
    assert {body["temperature"] for body in asked} == {0.7}
    assert len({body["seed"] for body in asked}) == 4
    assert document.pairs[0].n == 1


async def test_a_label_read_from_its_probabilities():
    form = load_format("skywork-critic-logprobs")
    assert form.template == load_format("skywork-critic").template
    assert form.sha256 != load_format("skywork-critic").sha256
    # 0.6 of 0.8 for the first: "A" and " a" are one label.
    chat = ScriptedChat(labels={"A": math.log(0.5), " a": math.log(0.1), "B": math.log(0.2)})
    game = await play_format(chat, form, FormatWatch("f"), REQUEST, ["The Seine."], ["The Po."])
    assert (game.first, game.mass) == (pytest.approx(0.75), pytest.approx(0.8))
    assert chat.label_calls[0].messages[-1] == Message("assistant", "[[")
    nobody = ScriptedChat(labels={"A": math.log(1e-3), "B": math.log(1e-4)})
    game = await play_format(nobody, form, FormatWatch("f"), REQUEST, ["x"], ["y"])
    assert game.reason == "label_mass"


async def test_an_expected_rating_of_each_answer():
    form = load_format("prometheus-absolute-logprobs")
    assert form.asked_labels == ("1", "2", "3", "4", "5")

    def labels(call):
        good = "The Seine." in call.messages[-2].content
        return {"1": -30.0, "2": -30.0, "3": math.log(0.5), "4": math.log(0.5 if good else 0.25), "5": math.log(1e-9)}

    chat = ScriptedChat(labels=labels)
    game = await play_format(chat, form, FormatWatch("f"), REQUEST, ["The Seine."], ["The Po."])
    # (3 * 0.5 + 4 * 0.5) / 1 against (3 * 0.5 + 4 * 0.25) / 0.75.
    assert (game.first, game.text) == (1.0, "expected ratings 3.50 and 3.33")
    assert game.mass == pytest.approx(0.75)
    assert chat.label_calls[0].messages[-1].content == "[RESULT] "


def test_a_scale_that_has_no_single_tokens_is_refused(tmp_path):
    (tmp_path / "f.yaml").write_text("base: prometheus-absolute\nverdict: {logprobs: true, scale: [1, 10]}\n")
    with pytest.raises(UsageError, match="a scale within 0 to 9"):
        load_format(str(tmp_path / "f.yaml"))
    (tmp_path / "f.yaml").write_text("base: prometheus\n")
    with pytest.raises(UsageError, match="did you mean 'prometheus-"):
        load_format(str(tmp_path / "f.yaml"))


def test_a_format_and_a_template_are_too_much(tmp_path):
    (tmp_path / "t.jinja").write_text("{{ nonce }}{{ answers_a }}{{ answers_b }}")
    with pytest.raises(UsageError, match="has its own template"):
        play(tmp_path, lambda prompt: "", judge_format="judgelm", template=tmp_path / "t.jinja")


def test_a_judge_that_does_not_speak_the_form_ends_the_comparison(tmp_path):
    with pytest.raises(UsageError, match="none of the first 10 replies"):
        play(tmp_path, lambda prompt: "I like the first.", judge_format="skywork-critic")
