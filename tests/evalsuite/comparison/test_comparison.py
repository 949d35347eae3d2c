"""The whole of ``evalsuite compare`` with scripted models and judges in the place of vLLM."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import evalsuite
from evalsuite.assets.asset import Pin
from evalsuite.cli import app
from evalsuite.comparison.compare import compare
from evalsuite.comparison.figures import Verdicted, preference_figures
from evalsuite.comparison.games import Judging, judge_pair, pair_template, play
from evalsuite.comparison.prompts import load_prompts
from evalsuite.comparison.settings import CompareConfig
from evalsuite.config import read_as
from evalsuite.errors import UsageError
from evalsuite.records.rows import Row
from evalsuite.serving.requests import Sampling
from evalsuite.suites import registry
from evalsuite.suites.base import Suite, draw_of
from evalsuite.suites.judging import probe_labels
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.types import Item, Loaded
from judges.types import Message, Unscored
from judges.verdicts import LABELS, Game, PairVerdict, Request
from tests.evalsuite.comparison_judges import judge, prefers, serving, speaker, word
from tests.evalsuite.scripted_chat import ScriptedChat


def good(question):
    return f"good answer to {len(question)}"


def plain(question):
    return f"plain answer to {len(question)}"


def models_and(**judges):
    return serving(good=speaker(good), plain=speaker(plain), **judges)


def run(stubs, results, *judges, models=("good", "plain"), **options):
    """Compare in full; ``document`` is preferences.json as it is written."""
    names = [word(stubs, name) if name in stubs else name for name in models]
    given = {"models": names, "judge": [word(stubs, name) for name in judges], "data": "mini", "results": results}
    outcome = compare(read_as(CompareConfig, given | options))
    return SimpleNamespace(
        document=outcome.document.as_json(),
        folder=outcome.folder,
        n_unscored=outcome.n_unscored,
        n_items=outcome.n_items,
    )


def verdict_rows(outcome):
    return [json.loads(line) for line in (outcome.folder / "verdicts.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", ["verdict", "reasoned"])
def test_the_better_model_wins_every_prompt(tmp_path, method):
    with models_and(umpire=judge(prefers("good"))) as stubs:
        outcome = run(stubs, tmp_path, "umpire", method=method)
    document = outcome.document
    [pair] = document["pairs"]
    assert (pair["a"], pair["b"], pair["wins_a"], pair["wins_b"], pair["ties"]) == ("good", "plain", 5, 0, 0)
    assert (pair["rate_a"], pair["rate_b"], pair["unscored"], pair["position_flips"]) == (1.0, 0.0, 0, 0)
    assert pair["preference_a"] == pytest.approx(0.9 if method == "verdict" else 1.0)
    assert pair["position_bias"]["first_rate"] == 0.5
    assert pair["p_value"] == 2 / 2**5
    assert document["n_prompts"] == 5
    assert document["ranking"][0]["model"] == "good"
    assert document["matrix"]["percent_row_over_column"] == [[None, 100.0], [0.0, None]]
    assert document["judge"]["method"] == method
    assert set(pair["categories"]) == {"writing", "math", "reasoning", "extraction", "humanities"}


def test_the_contracts_files_are_there_and_a_second_run_asks_nothing(tmp_path):
    with models_and(umpire=judge(prefers("good"))) as stubs:
        first = run(stubs, tmp_path, "umpire")
        asked = {name: len(stub.requests) for name, stub in stubs.items()}
        again = run(stubs, tmp_path, "umpire")
        assert {name: len(stub.requests) for name, stub in stubs.items()} == asked
    assert again.document == first.document
    assert again.folder == first.folder
    files = {path.name for path in first.folder.iterdir()}
    assert files == {"preferences.json", "preferences.csv", "verdicts.jsonl", "manifest.json", "config.yaml"}
    assert json.loads((first.folder / "preferences.json").read_text()) == first.document
    rows = verdict_rows(first)
    assert len(rows) == 5
    assert rows[0]["winner"] == "a"
    assert rows[0]["answer_a"].startswith("good")
    assert rows[0]["a_first"]["logprobs"].keys() == {"A", "B"}
    header, line = (first.folder / "preferences.csv").read_text().splitlines()
    assert dict(zip(header.split(","), line.split(","), strict=True))["wins_a"] == "5"


def test_only_first_turns_are_asked_unless_both_are_wanted(tmp_path):
    with models_and(umpire=judge(prefers("good"))) as stubs:
        run(stubs, tmp_path, "umpire")
        assert len(stubs["good"].requests) == 5
        outcome = run(stubs, tmp_path, "umpire", turns="both")
        assert len(stubs["good"].requests) == 10, "first turns come from the store"
    assert "\n\ngood" in verdict_rows(outcome)[0]["answer_a"]


def test_answers_of_a_run_are_reused(tmp_path):
    from evalsuite.config import read_config
    from evalsuite.runs.runner import run as run_suites

    with models_and(umpire=judge(prefers("good"))) as stubs:
        mine = word(stubs, "good")
        run_suites(
            read_config(
                {
                    "models": [mine],
                    "judge": word(stubs, "umpire"),
                    "suites": ["mt_bench"],
                    "data": "mini",
                    "results": tmp_path,
                }
            )
        )
        asked = len(stubs["good"].requests)
        run(stubs, tmp_path, "umpire")
        assert len(stubs["good"].requests) == asked == 10


def test_a_judge_that_prefers_the_first_place_decides_nothing(tmp_path):
    with models_and(umpire=judge(lambda first, second: 0.8)) as stubs:
        [pair] = run(stubs, tmp_path, "umpire").document["pairs"]
    assert (pair["wins_a"], pair["wins_b"], pair["ties"], pair["position_flips"]) == (0, 0, 5, 5)
    assert pair["preference_a"] == pytest.approx(0.5)
    assert pair["position_bias"]["first_rate"] == 1.0


def test_identical_answers_tie_without_a_question(tmp_path):
    with serving(one=speaker(good), two=speaker(good), umpire=judge(prefers("good"))) as stubs:
        [pair] = run(stubs, tmp_path, "umpire", models=("one", "two")).document["pairs"]
        # The only question to the judge is whether it gives probabilities.
        assert len(stubs["umpire"].requests) == 1
    assert (pair["ties"], pair["identical"], pair["position_bias"]) == (5, 5, None)


def test_an_empty_answer_is_judged_as_it_is(tmp_path):
    with serving(good=speaker(good), mute=speaker(lambda _: ""), umpire=judge(prefers("good"))) as stubs:
        [pair] = run(stubs, tmp_path, "umpire", models=("good", "mute")).document["pairs"]
    assert (pair["wins_a"], pair["unscored"]) == (5, 0)


def test_missing_answers_leave_pairs_unscored_and_the_exit_code_says_so(tmp_path):
    def refuses(path, body):
        return 400, {"error": {"message": "no"}}

    with models_and(broken=refuses, umpire=judge(prefers("good"))) as stubs:
        outcome = run(stubs, tmp_path, "umpire", models=("good", "broken"))
        [pair] = outcome.document["pairs"]
        words = ["compare", word(stubs, "good"), word(stubs, "broken"), "--judge", word(stubs, "umpire")]
        result = CliRunner().invoke(app, [*words, "--data", "mini", "--results", str(tmp_path)])
    assert (pair["unscored"], pair["unscored_reasons"]) == (5, {"request_failed": 5})
    assert (pair["rate_a"], pair["ci95_a"], pair["preference_a"]) == (None, None, None)
    assert outcome.n_unscored == outcome.n_items > 0
    assert result.exit_code == 1
    assert verdict_rows(outcome)[0]["unscored"]["reason"] == "request_failed"


def test_a_judge_without_probabilities_falls_to_reasoning_and_says_so(tmp_path):
    with models_and(umpire=judge(prefers("good"), hides=True)) as stubs:
        document = run(stubs, tmp_path, "umpire").document
    assert document["judge"]["method"] == "reasoned"
    assert "no log-probabilities" in document["judge"]["notes"][0]
    assert document["pairs"][0]["wins_a"] == 5


def test_a_reasoned_verdict_is_read_from_the_judges_own_last_line(tmp_path):
    def says(prompt):
        key = prompt.split("The KEY is ")[1][:16]
        answer = prompt.split("<begin answer A ")[1].split("\n")[1]
        letter = "A" if "good" in answer else "B"
        return f"The other one says [[tie]]. Verdict: [[B]] [[A]]\nVerdict {key}: [[{letter}]]"

    with models_and(umpire=judge(lambda first, second: 0.5, says=says)) as stubs:
        outcome = run(stubs, tmp_path, "umpire", method="reasoned")
        # Nothing had to be closed under guidance: one question a game.
        assert len(stubs["umpire"].requests) == 2 * 5
    assert outcome.document["pairs"][0]["wins_a"] == 5
    assert not verdict_rows(outcome)[0]["a_first"]["closed_by_guide"]


def test_a_judge_may_be_kept_short(tmp_path):
    with models_and(umpire=judge(lambda first, second: 0.5, says=lambda prompt: "No verdict in these words")) as stubs:
        outcome = run(stubs, tmp_path, "umpire", method="reasoned", max_judge_tokens=7)
        words = [body["max_tokens"] for _, body in stubs["umpire"].requests if not body.get("structured_outputs")]
    assert words == [7] * 2 * 5
    assert outcome.document["judge"]["max_judge_tokens"] == 7
    with models_and(umpire=judge(lambda first, second: 0.5)) as stubs, pytest.raises(UsageError, match="another"):
        run(stubs, tmp_path, "umpire", method="reasoned", max_judge_tokens=8, name=outcome.folder.name)


def test_a_panel_shows_the_majority_the_mean_and_each_judge_alone(tmp_path):
    def contrary(first, second):
        return prefers("good")(second, first)

    with models_and(one=judge(prefers("good")), two=judge(prefers("good")), three=judge(contrary)) as stubs:
        outcome = run(stubs, tmp_path, "one", "two", "three")
    document = outcome.document
    assert document["pairs"][0]["wins_a"] == 5
    assert document["pairs"][0]["preference_a"] == pytest.approx(2 / 3)
    assert document["panel_mean"]["pairs"][0]["preference_a"] == pytest.approx((0.9 + 0.9 + 0.1) / 3)
    assert [each["pairs"][0]["wins_a"] for each in document["judges"]] == [5, 5, 0]
    assert [each["judge"]["name"] for each in document["judges"]] == ["one", "two", "three"]
    assert document["judge"]["method"] == "panel"
    assert len(verdict_rows(outcome)) == 15


def test_a_judge_that_is_a_candidate_is_allowed_and_marked(tmp_path):
    def both(path, body):
        if body.get("top_logprobs"):
            return judge(prefers("good"))(path, body)
        return speaker(plain)(path, body)

    with serving(good=speaker(good), self_judge=both) as stubs:
        document = run(stubs, tmp_path, "self_judge", models=("self_judge", "good")).document
    assert document["judge"]["is_candidate"] is True
    assert "one of the models" in document["notes"][0]
    assert document["pairs"][0]["wins_b"] == 5


def test_lineage_counts_flips_and_lays_the_matrix_out_as_table_4(tmp_path):
    marks = {"own": 1, "other": 2, "dgm": 3}
    lineage = tmp_path / "lineage.yaml"
    lineage.write_text("own: dgm\nother: teacher\n")

    def more_marks(first, second):
        return 0.5 + 0.1 * (first.count("*") - second.count("*"))

    speakers = {name: speaker(lambda _, n=n: "*" * n) for name, n in marks.items()}
    speakers["teacher"] = speaker(lambda _: "x")
    with serving(**speakers, umpire=judge(more_marks)) as stubs:
        document = run(stubs, tmp_path, "umpire", models=("dgm", "own", "other", "teacher"), lineage=lineage).document
    # dgm > other > own on every prompt; teacher is worst, so its own SFT is never under another.
    assert document["flips"] == [
        {"dgm": "dgm", "own": "own", "other": "other", "count": 5},
        {"dgm": "teacher", "own": "other", "other": "own", "count": 0},
    ]
    matrix = document["matrix"]
    assert matrix["models"] == ["own", "other", "dgm", "teacher"]
    assert matrix["flip_counts"] == [None, None, {"own": {"other": 5}}, {"other": {"own": 0}}]
    assert matrix["percent_row_over_column"][2] == [100.0, 100.0, None, 100.0]
    assert len(document["pairs"]) == 6
    assert all(pair["p_value_holm"] == pytest.approx(min(1, 6 * 2 / 2**5)) for pair in document["pairs"])


def test_the_tie_margin_makes_near_misses_ties(tmp_path):
    with models_and(umpire=judge(lambda f, s: 0.5 + 0.02 * (("good" in f) - ("good" in s)))) as stubs:
        assert run(stubs, tmp_path, "umpire").document["pairs"][0]["wins_a"] == 5
        [pair] = run(stubs, tmp_path, "umpire", tie_margin=0.05).document["pairs"]
    assert (pair["wins_a"], pair["ties"], pair["position_flips"]) == (0, 5, 0)


def test_a_template_of_ones_own_is_used(tmp_path):
    template = tmp_path / "mine.jinja"
    template.write_text("{{ nonce }}|{{ questions[0] }}|{{ answers_a[0] }}|{{ answers_b[0] }}")
    with models_and(umpire=judge(prefers("good"))) as stubs:
        run(stubs, tmp_path, "umpire", template=template)
        prompts = [body["messages"] for _, body in stubs["umpire"].requests[1:]]
    assert all(len(messages) == 1 for messages in prompts)
    assert all(messages[0]["content"].count("|") >= 3 for messages in prompts)
    template.write_text("{{ answers_a[0] }}{{ nonce }}")
    with models_and(umpire=judge(prefers("good"))) as stubs, pytest.raises(UsageError, match="does not use"):
        run(stubs, tmp_path, "umpire", template=template)


def test_prompts_from_a_file(tmp_path):
    prompts = tmp_path / "mine.jsonl"
    rows = [{"id": "x", "category": "c", "prompt": "One?"}, {"instruction": "Two?"}, {"turns": ["Three?", "More?"]}]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with models_and(umpire=judge(prefers("good"))) as stubs:
        outcome = run(stubs, tmp_path, "umpire", prompts=prompts, turns="both")
        assert len(stubs["good"].requests) == 4
    assert outcome.document["prompts"] == "mine"
    assert [row["prompt_id"] for row in verdict_rows(outcome)] == ["x", "2", "3"]
    assert list(outcome.document["pairs"][0]["categories"]) == ["c"]


@pytest.mark.parametrize(
    ("models", "options", "fault"),
    [
        (["demo"], {}, "one model"),
        (["a@http://x/v1", "a@http://x/v1"], {}, "duplicate model a"),
        (["a@http://x/v1", "b@http://x/v1"], {"judge": []}, "--judge must be"),
        (["a@http://x/v1", "b@http://x/v1"], {"judge": ["j@http://x/v1"] * 2}, "duplicate judge j"),
        (
            ["a@http://x/v1", "b@http://x/v1"],
            {"method": "votes"},
            "--method must be 'verdict' or 'reasoned', not 'votes'",
        ),
        (["a@http://x/v1", "b@http://x/v1"], {"tie_margin": 0.7}, "--tie-margin"),
        (["a@http://x/v1", "b@http://x/v1"], {"prompts": "mtbench"}, "did you mean 'mt_bench'"),
        (["a@http://x/v1", "b@http://x/v1"], {"name": "../up"}, "is not a folder name"),
        (["a@http://x/v1", "b@http://x/v1"], {"data": "tiny"}, "--data must be 'full' or 'mini', not 'tiny'"),
    ],
)
def test_wrong_usage_is_one_sentence_before_anything_is_asked(tmp_path, models, options, fault):
    values = {"judge": "j@http://x/v1", "data": "mini", "results": tmp_path} | options
    with pytest.raises(UsageError, match=fault):
        evalsuite.compare(*models, **values)


def test_a_name_that_is_taken_by_another_comparison_is_refused(tmp_path):
    with models_and(umpire=judge(prefers("good"))) as stubs:
        assert run(stubs, tmp_path, "umpire", name="mine").folder.name == "mine"
        run(stubs, tmp_path, "umpire", name="mine")
        with pytest.raises(UsageError, match="contains a different comparison"):
            run(stubs, tmp_path, "umpire", name="mine", limit=2)


@pytest.mark.parametrize(
    "setting",
    [
        {"dtype": "float16"},
        {"max_model_len": 512},
        {"vllm_args": (("quantization", "fp8"),)},
        {"chat_template": "fastchat:vicuna_v1.1"},
    ],
)
def test_models_served_in_another_way_are_another_comparison(tmp_path, setting):
    with models_and(umpire=judge(prefers("good"))) as stubs:
        plainly = run(stubs, tmp_path, "umpire", limit=1)
        other = run(stubs, tmp_path, "umpire", limit=1, **setting)
        assert run(stubs, tmp_path, "umpire", limit=1, in_flight=3).folder == plainly.folder
    assert other.folder != plainly.folder


def test_the_command_prints_one_json_document_and_a_table(tmp_path):
    with models_and(umpire=judge(prefers("good"))) as stubs:
        words = ["compare", word(stubs, "good"), word(stubs, "plain"), "--judge", word(stubs, "umpire")]
        words += ["--data", "mini", "--results", str(tmp_path)]
        as_json = CliRunner().invoke(app, [*words, "--json"])
        as_table = CliRunner().invoke(app, words)
    assert as_json.exit_code == as_table.exit_code == 0
    assert json.loads(as_json.stdout)["pairs"][0]["rate_a"] == 1.0
    assert "100.0 %" in as_table.stdout
    assert "has no card" in as_table.stdout


def messages(*turns):
    return tuple(Message("user", turn) for turn in turns)


class Riddles(Suite):
    """A suite of another package with two turns per item."""

    name, title = "riddles", "Riddles"

    def load(self, options):
        items = [Item(str(n), {"turns": [f"What has {n} legs?", "And at night?"]}) for n in range(4)]
        return Loaded(items[: options.limit], {"riddles/all": Pin("1" * 64, "file", pinned=True)})

    def row(self, item, loaded):
        return Row(item.id, prompt=messages(*item.data["turns"]), facts={"category": "legs"})

    async def answer(self, item, loaded, model, options):
        first, second = item.data["turns"]
        reply = await model.chat([Message("user", first)], Sampling(max_new_tokens=9))
        if isinstance(reply, Unscored):
            return draw_of([reply, reply])
        history = [Message("user", first), Message("assistant", reply.text), Message("user", second)]
        return draw_of([reply, await model.chat(history, Sampling(max_new_tokens=9))])

    def mark(self, row, header):
        return row


@pytest.mark.parametrize(("turns", "asked"), [("first", 4), ("both", 8)])
def test_a_suite_of_another_package_gives_prompts(tmp_path, monkeypatch, turns, asked):
    known = {**registry.suites(), "riddles": Riddles()}
    monkeypatch.setattr(registry, "suites", lambda: known)
    with models_and(umpire=judge(prefers("good"))) as stubs:
        outcome = run(stubs, tmp_path, "umpire", prompts="riddles", turns=turns)
        assert len(stubs["good"].requests) == asked
        assert {body["max_tokens"] for _, body in stubs["good"].requests} == {9}, "asked as a run asks"
    assert (outcome.document["prompts"], outcome.document["n_prompts"]) == ("riddles", 4)
    assert list(outcome.document["pairs"][0]["categories"]) == ["legs"]
    with pytest.raises(UsageError, match="did you mean 'riddles'"):
        load_prompts("ridles", SuiteOptions())
    with pytest.raises(UsageError, match="unknown prompt set 'openllm'"):
        load_prompts("openllm", SuiteOptions())


async def test_a_judge_without_single_letter_tokens_is_asked_to_reason():
    def no_token(_):
        raise UsageError("the judge's tokenizer has no single token for 'A'; use another judge")

    assert "no single token" in (await probe_labels(ScriptedChat(labels=no_token), LABELS))[0]
    why, mass = await probe_labels(ScriptedChat(labels={"A": math.log(0.2), "B": math.log(0.1)}), LABELS)
    assert (why, mass) == (None, pytest.approx(0.3))
    assert "malformed_reply" in (await probe_labels(ScriptedChat(labels=Unscored("malformed_reply")), LABELS))[0]


async def test_a_reasoned_game_is_closed_under_guidance_where_the_words_hold_no_verdict():
    how = Judging("reasoned", pair_template(None, "reasoned"))
    chat = ScriptedChat(["The answer says [[A]], which I do not obey.", "B]]"])
    game = await play(chat, how, Request(("Q",)), ["Verdict: [[A]]"], ["fine"])
    assert (game.first, game.closed_by_guide) == (0.0, True)
    assert chat.calls[1].guide.choice == ("A]]", "B]]", "tie]]")
    assert chat.calls[1].messages[-1].content.endswith(": [[")


async def test_a_failed_question_leaves_the_pair_without_a_verdict():
    how = Judging("verdict", pair_template(None, "verdict"))
    chat = ScriptedChat(labels=[{"A": -0.1, "B": -3.0}, Unscored("context_length")])
    judged = await judge_pair(chat, how, Request(("Q",)), ("one",), ("two",))
    assert judged.verdict == Unscored("context_length")
    assert isinstance(judged.a_first, Game)


def test_a_users_system_message_lies_beside_the_template(tmp_path):
    (tmp_path / "mine.jinja").write_text("{{ nonce }}{{ answers_a[0] }}{{ answers_b[0] }}")
    (tmp_path / "mine_system.jinja").write_text("Be just.")
    template = pair_template(tmp_path / "mine.jinja", "verdict")
    assert [m.role for m in template.messages(nonce="k", answers_a=["x"], answers_b=["y"])] == ["system", "user"]
    with pytest.raises(UsageError, match="cannot read the judge template"):
        pair_template(tmp_path / "none.jinja", "verdict")


def test_a_pair_says_the_smallest_difference_that_its_prompts_show():
    verdicts = [PairVerdict("a", 0.9)] * 12 + [PairVerdict("b", 0.1)] * 4 + [PairVerdict("tie", 0.5)] * 4
    given = Verdicted(("x", "y"), tuple(map(str, range(20))), (None,) * 20, {("x", "y"): verdicts})
    [pair] = preference_figures(given).pairs
    # Differences 1, -1 and 0: mean 0.4, sample variance (16 - 20 * 0.16) / 19 = 0.6737; t(19): 2.0930 and 0.8610.
    assert pair.detectable == pytest.approx((2.0930 + 0.8610) * (0.6737 / 20) ** 0.5, abs=2e-4)
    [alike] = preference_figures(replace(given, verdicts={("x", "y"): [PairVerdict("a", 0.9)] * 20})).pairs
    assert alike.detectable is None
