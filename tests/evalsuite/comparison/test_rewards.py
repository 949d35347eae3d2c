"""Reward models as judges (``--judge-kind reward``) behind scripted pooling endpoints."""

import json
import math
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.errors import CheckpointError
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.rewards import read_reward, reward_path
from evalsuite.serving.server import Server
from judges.types import Unscored
from judges.verdicts import combine_orders, game_from_rewards
from tests.evalsuite.comparison_judges import serving, speaker, word
from tests.evalsuite.tiny_checkpoint import write_checkpoint

NOT_FOUND = (404, {"detail": "Not Found"})


def scorer(score, *, at="/classify", label_count=1):
    """A server that scores the last answer with ``score`` of it, at one path; of two labels the second one's logit."""

    def handler(path, body):
        if path != at:
            return NOT_FOUND
        assert body["use_activation"] is False
        value = score(body["messages"][-1]["content"])
        logits = [value] if label_count == 1 else [1.0, 1.0 + value, *[0.0] * (label_count - 2)]
        data = {"probs": logits, "num_classes": len(logits)} if at == "/classify" else {"data": [[0.5], logits]}
        return 200, {"data": [{"index": 0, **data}], "usage": {"prompt_tokens": 7}}

    return handler


def by_length(text):
    return float(len(text))


def compared(stubs, tmp_path, *options, models=("long", "short")):
    words = ["compare", *(word(stubs, name) for name in models), "--judge", word(stubs, "umpire")]
    words += ["--judge-kind", "reward", "--data", "mini", "--results", str(tmp_path), "--json", *options]
    return CliRunner().invoke(app, words)


def longer_and(**judges):
    return serving(long=speaker(lambda q: "a long answer"), short=speaker(lambda q: "answer"), **judges)


@pytest.mark.parametrize(("at", "label_count"), [("/classify", 1), ("/classify", 2), ("/pooling", 1)])
def test_the_higher_score_wins_and_the_preference_is_the_sigmoid_of_the_difference(tmp_path, at, label_count):
    # 13 characters against 6, a tenth of a point each.
    umpire = scorer(lambda text: len(text) / 10, at=at, label_count=label_count)
    with longer_and(umpire=umpire) as stubs:
        result = compared(stubs, tmp_path)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    [pair] = document["pairs"]
    assert (pair["wins_a"], pair["wins_b"], pair["ties"], pair["position_flips"]) == (5, 0, 0, 0)
    assert pair["preference_a"] == pytest.approx(1 / (1 + math.exp(-0.7)))
    assert document["ranking"][0]["model"] == "long"
    assert document["judge"]["method"] == "reward"
    assert "there are no flips" in document["judge"]["notes"][0]
    [row, *_] = [
        json.loads(line)
        for path in tmp_path.glob("comparisons/*/verdicts.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert row["a_first"]["rewards"] == pytest.approx([1.3, 0.6])
    assert row["b_first"]["rewards"] == pytest.approx([0.6, 1.3])


def test_every_answer_is_scored_once_for_all_pairs_and_orders_and_again_comes_from_the_store(tmp_path):
    with serving(
        one=speaker(lambda q: "a"),
        two=speaker(lambda q: "bb"),
        three=speaker(lambda q: "ccc"),
        umpire=scorer(by_length),
    ) as stubs:
        compared(stubs, tmp_path, models=("one", "two", "three"))
        scored = [body["messages"] for _, body in stubs["umpire"].requests]
        # The first request finds out where the server scores.
        assert len(scored) == 1 + 5 * 3
        compared(stubs, tmp_path, models=("one", "two", "three"))
        assert len(stubs["umpire"].requests) == 1 + 5 * 3 + 1
    assert all([message["role"] for message in messages] == ["user", "assistant"] for messages in scored)


def test_a_card_measures_a_reward_model_as_any_judge(tmp_path):
    rows = [
        {"input": f"Question {i}", "output_1": "right" * (1 + i % 2), "output_2": "wrong", "label": 1}
        for i in range(12)
    ]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with longer_and(umpire=scorer(lambda text: float("right" in text))) as stubs:
        words = [
            "judge-card",
            word(stubs, "umpire"),
            "--judge-kind",
            "reward",
            "--pairs",
            str(pairs),
            "--attacked",
            "2",
        ]
        result = CliRunner().invoke(app, [*words, "--results", str(tmp_path), "--json"])
        shown = CliRunner().invoke(app, [*words, "--results", str(tmp_path)])
        outcome = compared(stubs, tmp_path)
    assert result.exit_code == 0, result.output
    card = json.loads(result.stdout)
    assert (card["judge"]["method"], card["agreement"]["accuracy"]) == ("reward", 1.0)
    assert (card["position_bias"]["flip_rate"], card["repeat_noise"]) == (0.0, None)
    assert card["failures"]["unscored"] == {}
    assert "no flips" in " ".join(shown.stdout.split())
    assert json.loads(outcome.stdout)["judge"]["card"]["accuracy"] == 1.0


def test_a_system_prompt_is_read_and_a_reference_is_refused(tmp_path):
    prompts = tmp_path / "mine.jsonl"
    prompts.write_text(json.dumps({"id": "x", "prompt": "One?", "system": "Be brief."}) + "\n")
    with longer_and(umpire=scorer(by_length)) as stubs:
        assert compared(stubs, tmp_path, "--prompts", str(prompts)).exit_code == 0
        roles = {tuple(message["role"] for message in body["messages"]) for _, body in stubs["umpire"].requests[1:]}
        prompts.write_text(json.dumps({"id": "x", "prompt": "One?", "reference": "1"}) + "\n")
        result = compared(stubs, tmp_path, "--prompts", str(prompts))
    assert roles == {("system", "user", "assistant")}
    assert result.exit_code == 2
    assert "a reference, which a reward model cannot read" in result.output


def test_a_failed_score_leaves_the_pair_unscored(tmp_path):
    with longer_and(umpire=scorer(lambda text: math.nan if "long" in text else 1.0)) as stubs:
        result = compared(stubs, tmp_path)
    [pair] = json.loads(result.stdout)["pairs"]
    assert (result.exit_code, pair["unscored_reasons"]) == (1, {"no_score": 5})


@pytest.mark.parametrize("umpire", [lambda path, body: NOT_FOUND, scorer(by_length, label_count=28)])
def test_a_server_without_a_reward_model_is_named(tmp_path, umpire):
    with longer_and(umpire=umpire) as stubs:
        result = compared(stubs, tmp_path)
    assert result.exit_code == 2
    assert "returns no score of a conversation at /classify or /pooling" in " ".join(result.output.split())


@pytest.mark.parametrize(
    "option",
    [
        ("--method", "reasoned"),
        ("--judge-format", "judgelm"),
        ("--template", "x.jinja"),
        ("--max-judge-tokens", "64"),
    ],
)
def test_what_a_reward_model_has_no_use_for_is_refused(tmp_path, option):
    with longer_and(umpire=scorer(by_length)) as stubs:
        result = compared(stubs, tmp_path, *option)
    assert result.exit_code == 2
    assert f"leave out {option[0]}" in " ".join(result.output.split())


def reward_checkpoint(folder, architecture="LlamaForSequenceClassification", **config):
    write_checkpoint(folder)
    settings = {"architectures": [architecture], "max_position_embeddings": 2048, "id2label": {"0": "LABEL_0"}}
    (folder / "config.json").write_text(json.dumps(settings | config))
    return folder


@pytest.mark.parametrize("command", ["run", "compare", "generate", "doctor"])
def test_a_reward_model_is_refused_where_answers_are_wanted_before_anything_is_served(tmp_path, command):
    folder, results = str(reward_checkpoint(tmp_path / "rm")), ["--results", str(tmp_path / "results")]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "One?"}\n')
    words = {
        "run": ["run", folder, "--data", "mini", "--suite", "mt_bench", "--judge", folder, *results],
        "compare": ["compare", folder, folder, "--judge", folder, *results],
        "generate": ["generate", folder, "--prompts", str(prompts), "--out", str(tmp_path / "out")],
        "doctor": ["doctor", folder, *results],
    }[command]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "rm is a reward model (LlamaForSequenceClassification)" in " ".join(result.output.split())
    assert not list(tmp_path.rglob("*.log"))


@pytest.mark.parametrize(
    ("architecture", "config", "fault"),
    [
        ("LlamaForCausalLM", {}, r"rm is not a reward model \(LlamaForCausalLM\)"),
        ("Qwen2ForProcessRewardModel", {}, "scores steps, not answers"),
        ("LlamaForSequenceClassification", {"id2label": {str(i): str(i) for i in range(5)}}, "has 5 labels"),
    ],
)
def test_another_checkpoint_is_refused_as_a_reward_model(tmp_path, architecture, config, fault):
    folder = reward_checkpoint(tmp_path / "rm", architecture, **config)
    with pytest.raises(CheckpointError, match=fault):
        ServeConfig().resolve(str(folder), kind="reward")


def test_a_reward_model_is_served_by_the_pooling_runner_and_asked_at_its_path(tmp_path, monkeypatch):
    monkeypatch.setattr("evalsuite.serving.server.Guarded", lambda *given, **named: SimpleNamespace(end=lambda: None))

    def command_of(checkpoint):
        with Server(checkpoint, ServeConfig(), tmp_path / "log") as server:
            return server.command

    paths = {}
    for architecture in ("LlamaForSequenceClassification", "Qwen2ForRewardModel"):
        checkpoint = ServeConfig().resolve(str(reward_checkpoint(tmp_path / architecture, architecture)), kind="reward")
        command = command_of(checkpoint)
        assert command[command.index("--runner") + 1] == "pooling"
        paths[architecture] = reward_path(checkpoint)
    assert paths == {"LlamaForSequenceClassification": "/classify", "Qwen2ForRewardModel": "/pooling"}
    generator = ServeConfig().resolve(str(write_checkpoint(tmp_path / "generator")))
    assert reward_path(generator) is None
    assert "--runner" not in command_of(generator)


@pytest.mark.parametrize("values", [[0.5], [1.0, 1.5]])
def test_scores_are_read_from_logits(values):
    assert read_reward({"data": [{"probs": values}]}) == {"score": 0.5}
    assert isinstance(read_reward({"data": [{"data": [0.1] * 384}]}), Unscored)


def test_no_difference_is_a_tie_and_no_difference_is_too_large():
    assert combine_orders(game_from_rewards(2.0, 2.0), game_from_rewards(2.0, 2.0)).winner == "tie"
    huge = combine_orders(game_from_rewards(1e6, -1e6), game_from_rewards(-1e6, 1e6))
    assert (huge.winner, huge.preference_a) == ("a", 1.0)
    for difference in (0.01, 1.0, 30.0):
        assert game_from_rewards(difference, 0.0).first + game_from_rewards(0.0, difference).first == pytest.approx(1.0)
        assert game_from_rewards(difference, 0.0).first == pytest.approx(1 / (1 + math.exp(-difference)))
