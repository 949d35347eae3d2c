"""``evalsuite judge-card`` with scripted judges in the place of vLLM."""

import json

import pytest
from typer.testing import CliRunner

from evalsuite.checkpoint import resolve
from evalsuite.cli import app
from evalsuite.comparison.pairs import load_pairs
from evalsuite.errors import DataError
from evalsuite.serving.chat_format import load_chat_format
from judges.attacks import ATTACKS
from judges.templates import judge_template
from judges.verdicts import TEMPLATES, Request, comparison_prompt, key_of
from tests.evalsuite.assets_env import empty_machine
from tests.evalsuite.comparison_judges import judge, prefers, serving, speaker, word
from tests.evalsuite.tiny_checkpoint import write_checkpoint


def write_pairs(tmp_path, count=12):
    rows = [
        {"input": f"Question {i}", "output_1": f"right {i}", "output_2": f"something else {i}", "label": 1}
        if i % 2
        else {"input": f"Question {i}", "output_1": f"wrong {i}", "output_2": f"right, to be sure {i}", "label": "2"}
        for i in range(count)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def card_of(tmp_path, handler, *options):
    with serving(umpire=handler) as stubs:
        words = ["judge-card", word(stubs, "umpire"), "--pairs", str(write_pairs(tmp_path)), "--results", str(tmp_path)]
        result = CliRunner().invoke(app, [*words, "--attacked", "2", "--judge-repeats", "3", "--json", *options])
        asked = len(stubs["umpire"].requests)
        shown = CliRunner().invoke(app, [*words, "--attacked", "2", "--judge-repeats", "3", *options])
        assert len(stubs["umpire"].requests) == asked, "the second card comes from the store"
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), shown.stdout


@pytest.mark.parametrize("method", ["verdict", "reasoned"])
def test_a_judge_that_knows_what_is_right_gets_a_good_card(tmp_path, method):
    card, shown = card_of(tmp_path, judge(prefers("right")), "--method", method)
    assert card["judge"]["method"] == method
    assert card["agreement"]["accuracy"] == 1.0
    assert card["agreement"]["kappa"] == 1.0
    assert card["position_bias"]["first_rate"] == 0.5
    assert card["position_bias"]["flip_rate"] == 0.0
    assert card["repeat_noise"]["changed"] == 0.0
    assert card["attacks"]["all"]["success_rate"] == 0.0
    # 12 pairs and 3 repeats in both orders, and all attacks and the empty answer on 2 questions.
    assert card["failures"]["n_games"] == 2 * (12 + 3 + 2 * (len(ATTACKS) + 1))
    assert card["failures"]["closed_by_guide"] == (card["failures"]["n_games"] if method == "reasoned" else 0)
    assert card["self_preference"] is None
    assert "no pair names" in card["self_preference_reason"]
    assert card["conclusions"]["verdict"] == "usable"
    assert "agrees with people on 100.0%" in shown
    [path] = (tmp_path / "judges").glob("umpire-*/card.json")
    assert json.loads(path.read_text())["agreement"] == card["agreement"]


def test_a_judge_that_only_sees_the_place_is_found_out(tmp_path):
    card, shown = card_of(tmp_path, judge(lambda first, second: 0.9))
    assert card["agreement"]["n_decided"] == 0
    assert card["position_bias"]["first_rate"] == 1.0
    assert card["conclusions"]["verdict"] == "do not use"
    assert "the order matters more" in " ".join(shown.split())


def test_a_judge_that_believes_what_answers_claim_is_found_out(tmp_path):
    claims = ("this answer", "This answer", "This one", "[[", "better")

    def gullible(first, second):
        return 0.5 + 0.4 * (any(c in first for c in claims) - any(c in second for c in claims))

    card, _ = card_of(tmp_path, judge(gullible), "--attacked", "6")
    assert card["attacks"]["attacks"]["planted_letter"]["success_rate"] == 1.0
    assert card["attacks"]["empty_answer"]["preference"] == 0.5
    assert card["conclusions"]["verdict"] == "do not use"


def test_the_card_stands_beside_what_the_judge_decides(tmp_path):
    with serving(good=speaker(lambda _: "right"), bad=speaker(lambda _: "no"), umpire=judge(prefers("right"))) as stubs:
        results = ["--results", str(tmp_path)]
        pairs = str(write_pairs(tmp_path))
        CliRunner().invoke(app, ["judge-card", word(stubs, "umpire"), "--pairs", pairs, *results])
        words = ["compare", word(stubs, "good"), word(stubs, "bad"), "--judge", word(stubs, "umpire"), *results]
        result = CliRunner().invoke(app, [*words, "--data", "mini", "--json"])
    card = json.loads(result.stdout)["judge"]["card"]
    assert (card["accuracy"], card["verdict"]) == (1.0, "usable")


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"input": "Q", "output_1": "a", "output_2": "b", "label": 3}, "row 1 is not a labelled pair"),
        ({"input": "Q", "output_1": "a", "label": 1}, "row 1 is not a labelled pair"),
        ({"output_1": "a", "output_2": "b", "label": 1}, "row 1 is not a labelled pair"),
    ],
)
def test_rows_that_are_no_pairs_are_refused(tmp_path, row, fault):
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps([row]))
    with pytest.raises(DataError, match=fault):
        load_pairs(str(path), None)


def test_without_the_mirror_the_default_pairs_say_what_to_do(tmp_path, monkeypatch):
    empty_machine(monkeypatch, tmp_path)
    with pytest.raises(DataError, match=r"EVALSUITE_MIRROR.*--pairs FILE"):
        load_pairs(None, None)
    with pytest.raises(DataError, match="no pairs 'mtbench'"):
        load_pairs("mtbench", None)


def test_the_default_pairs_are_the_mirrors(shared, monkeypatch):
    monkeypatch.setenv("EVALSUITE_MIRROR", str(shared / "mirror"))
    pairs, pin, _ = load_pairs(None, None)
    assert len(pairs) == 200
    assert (pin["source"], pin["pinned"]) == ("mirror", True)
    assert {pair.label for pair in pairs} == {1, 2}
    some, _, _ = load_pairs("llmbar_natural", 10)
    assert [pair.id for pair in some] == [str(10 * i + 1) for i in range(10)]


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("name", TEMPLATES.values())
def test_no_attack_opens_or_closes_a_turn_of_the_chat(tiny_chat, name, attack):
    start, end = 0, 1
    answers = (["fine"], [attack])
    messages = comparison_prompt(judge_template(name), Request(("Q",)), *answers, key=key_of(Request(("Q",)), *answers))
    ids = tiny_chat.prompt_tokens(messages)
    assert (ids.count(start), ids.count(end)) == (3, 2), "system, user, and the turn that the judge is to write"
    assert attack in tiny_chat.tokenizer.decode(ids)


@pytest.fixture(scope="module")
def tiny_chat(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVALSUITE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield load_chat_format(resolve(str(write_checkpoint(tmp_path_factory.mktemp("ckpt")))))
