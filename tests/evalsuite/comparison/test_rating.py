"""``evalsuite rate`` with scripted judges in the place of vLLM."""

import json
import math

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.comparison.settings import RateConfig
from evalsuite.config import read_as
from evalsuite.errors import UsageError
from evalsuite.report.analyses import read_analyses
from tests.evalsuite.comparison_judges import serving, speaker, word
from tests.evalsuite.stub_endpoint import text_reply


def rates(path, body):
    """A rater: J (10) for conciseness, and E (5) or F (6) with the same probability for the rest."""
    prompt = body["messages"][-1]["content"]
    assert "an answer" in prompt, "the answer must be shown"
    ratings = {"J": 1.0} if "The quality to rate is conciseness" in prompt else {"E": 0.4, "F": 0.4, "the": 0.2}
    top = [{"token": token, "logprob": math.log(p)} for token, p in ratings.items()]
    return 200, {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}], "usage": {}}


def probes(handler):
    """Answer the question whether there are probabilities at all."""

    def answering(path, body):
        if "Write the letter" in body["messages"][-1]["content"]:
            top = [{"token": "A", "logprob": -0.1}]
            return 200, {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}], "usage": {}}
        return handler(path, body)

    return answering


def rate(tmp_path, handler, *options):
    with serving(writer=speaker(lambda _: "an answer"), rater=handler) as stubs:
        words = ["rate", word(stubs, "writer"), "--judge", word(stubs, "rater"), "--data", "mini", "--json"]
        return CliRunner().invoke(app, [*words, "--results", str(tmp_path), *options])


def only_model(document):
    [model] = document["models"]
    return model


def test_ratings_are_expectations_over_the_scale(tmp_path):
    result = rate(tmp_path, probes(rates), "--factors", "conciseness,factuality")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["judge"]["method"] == "expected_rating"
    assert only_model(document)["factors"]["conciseness"]["score"] == 10.0
    assert only_model(document)["factors"]["factuality"]["score"] == pytest.approx(5.5)
    assert only_model(document)["mean"]["score"] == pytest.approx((10 + 5.5) / 2)
    assert only_model(document)["mean"]["n_scored"] == 10
    [folder] = (tmp_path / "ratings").iterdir()
    rows = [json.loads(line) for line in (folder / "ratings.jsonl").read_text().splitlines()]
    assert len(rows) == 10
    assert {row["likeliest"] for row in rows if row["factor"] == "conciseness"} == {"J"}


def test_ratings_made_otherwise_do_not_write_over_each_other(tmp_path):
    with serving(writer=speaker(lambda _: "an answer"), rater=probes(rates)) as stubs:
        words = ["rate", word(stubs, "writer"), "--judge", word(stubs, "rater"), "--data", "mini"]
        for factor in ("conciseness", "factuality", "conciseness"):
            result = CliRunner().invoke(app, [*words, "--factors", factor, "--results", str(tmp_path / "one")])
            assert result.exit_code == 0, result.output
    found = [json.loads(path.read_text())["factors"] for path in (tmp_path / "one" / "ratings").glob("*/factors.json")]
    assert sorted(map(list, found)) == [["conciseness"], ["factuality"]]


def test_a_rater_without_probabilities_chooses_a_letter(tmp_path):
    def silent(path, body):
        return 200, text_reply("D" if body.get("structured_outputs") else "Hm.")

    document = json.loads(rate(tmp_path, silent, "--factors", "readability").stdout)
    assert document["judge"]["method"] == "guided_letter"
    assert only_model(document)["factors"]["readability"]["score"] == 4.0
    assert "no log-probabilities" in document["notes"][0]


def test_factors_are_named_or_all():
    def factors(given):
        return read_as(RateConfig, {"models": ["demo"], "judge": "demo", "factors": given}).factors

    assert len(factors("all")) == 12
    assert factors("factuality, conciseness,factuality") == ("factuality", "conciseness")
    with pytest.raises(UsageError, match="did you mean 'readability'"):
        factors("readibility")


FACTORS = """
scale: [1, 5]
factors:
  warmth: it is kind.
  truth:
    name: truth of what it says
    meaning: what it says is so.
    scale: [0, 3]
    levels: {0: all of it is wrong, 3: all of it is right}
"""


def written(tmp_path, text, name="mine.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_factors_and_scales_of_ones_own(tmp_path):
    seen = {}

    def handler(path, body):
        system, user = (message["content"] for message in body["messages"])
        factor = "truth" if "truth of what it says" in user else "warmth"
        seen[factor] = system
        letters = {"truth": {"D": 0.5, "A": 0.5}, "warmth": {"E": 1.0}}[factor]
        top = [{"token": token, "logprob": math.log(p)} for token, p in letters.items()]
        return 200, {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}], "usage": {}}

    result = rate(tmp_path, probes(handler), "--factors", written(tmp_path, FACTORS))
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    model = only_model(document)
    assert {key: one["score"] for key, one in model["factors"].items()} == {"warmth": 5.0, "truth": 1.5}
    # Ratings on different scales have no common mean.
    assert model["mean"] is None
    assert {key: one["scale"] for key, one in document["factors"].items()} == {"warmth": [1, 5], "truth": [0, 3]}
    assert "A = 0 of 3: all of it is wrong\n" in seen["truth"]
    assert "E = 5 of 5\n" in seen["warmth"]
    assert "F = " not in seen["warmth"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("factors: {}", "factors must be"),
        ("factors: {a: {meaning: x, scale: [5, 1]}}", "the scale of a is 5 to 1"),
        ("factors: {a: {meaning: x, scale: [1, 40]}}", "expected 2 to 20 whole numbers"),
        ("scale: [1, 5]\nfactors: {a: {meaning: x, levels: {9: y}}}", "describes the level 9, and its scale is 1 to 5"),
        ("factors: {a: {meaning: x, scal: [1, 5]}}", "did you mean 'scale'"),
    ],
)
def test_a_file_of_factors_at_fault_is_refused_before_anything_is_asked(tmp_path, text, fault):
    result = rate(tmp_path, lambda path, body: None, "--factors", written(tmp_path, text))
    assert result.exit_code == 2
    assert fault in " ".join(result.output.split())


def test_a_template_with_another_scale_is_refused(tmp_path):
    template = written(tmp_path, "{{ nonce }} {{ factor }} {{ answers[0] }} from 1 to 10, A to J", "mine.jinja")
    factors = written(tmp_path, "scale: [1, 5]\nfactors: {warmth: it is kind.}")
    result = rate(tmp_path, lambda path, body: None, "--factors", factors, "--template", template)
    assert result.exit_code == 2
    assert "the template says 1 to 10, and the scale is 1 to 5" in " ".join(result.output.split())


def by_words(path, body):
    """Rates conciseness by the answer: "a" is E (5), each further word one less; the first prompt's answers alike."""
    prompt = body["messages"][-1]["content"]
    answer = prompt.split("<begin answer ")[1].split("\n")[1]
    letter = "EDCBA"[min(4, answer.count(" "))]
    return 200, {"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": letter, "logprob": 0.0}]}]}}]}


def answers_file(tmp_path, name, texts):
    path = tmp_path / f"{name}.jsonl"
    rows = [{"id": str(i), "prompt": f"Prompt {i}?", "answer": text} for i, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_several_models_are_compared_by_paired_tests(tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"id": str(i), "prompt": f"Prompt {i}?", "category": ["even", "odd"][i % 2]} for i in range(6)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [
        answers_file(tmp_path, "one", ["a", "a", "a", "a", "a", "a b"]),
        answers_file(tmp_path, "two", ["a", "a b", "a b", "a b", "a b", "a b c"]),
        answers_file(tmp_path, "three", ["a", "a", "a", "a", "a", "a b"]),
    ]
    with serving(rater=probes(by_words)) as stubs:
        words = ["rate", *files, "--judge", word(stubs, "rater"), "--prompts", str(prompts), "--factors", "conciseness"]
        result = CliRunner().invoke(app, [*words, "--results", str(tmp_path / "results"), "--json"])
        shown = CliRunner().invoke(app, [*words, "--results", str(tmp_path / "results")])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    scores = {model["name"]: model["factors"]["conciseness"]["score"] for model in document["models"]}
    assert scores == {"one": pytest.approx(29 / 6), "two": 4.0, "three": pytest.approx(29 / 6)}
    found = {(one["a"], one["b"]): one for one in document["differences"]}
    # Differences 0, 1, 1, 1, 1, 1: t = (5 / 6) / sqrt(1 / 6 / 6) = 5 with five degrees of freedom.
    assert found["one", "two"]["difference"] == pytest.approx(5 / 6)
    assert found["one", "two"]["p_value"] == pytest.approx(0.0041, abs=1e-4)
    assert found["one", "two"]["p_value_holm"] == pytest.approx(3 * found["one", "two"]["p_value"])
    assert found["one", "three"]["p_value"] == 1.0
    categories = {model["name"]: model["categories"] for model in document["models"]}
    assert categories["two"]["even"]["conciseness"]["score"] == pytest.approx((5 + 4 + 4) / 3)
    assert "conciseness by category" in shown.stdout
    assert "paired differences" in shown.stdout


def test_copies_of_a_prompt_are_one_observation(tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"id": str(i), "prompt": "Same?"}) + "\n" for i in range(6)))
    files = []
    for name, texts in {"one": ["a"] * 6, "two": ["a b"] * 6}.items():
        rows = [{"id": str(i), "prompt": "Same?", "answer": text} for i, text in enumerate(texts)]
        files.append(written(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), f"{name}.jsonl"))
    with serving(rater=probes(by_words)) as stubs:
        words = ["rate", *files, "--judge", word(stubs, "rater"), "--prompts", str(prompts), "--factors", "conciseness"]
        result = CliRunner().invoke(app, [*words, "--results", str(tmp_path / "results"), "--json"])
    [found] = json.loads(result.stdout)["differences"]
    assert found.get("p_value") is None
    assert json.loads(result.stdout)["models"][0]["factors"]["conciseness"].get("ci95") is None


def test_what_the_judge_is_not_shown_is_refused(tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"id": "1", "prompt": "Prompt 0?", "reference": "yes"}) + "\n")
    template = written(tmp_path, "{{ nonce }} {{ factor }} {{ answers[0] }} {{ scale }}", "mine.jinja")
    file = answers_file(tmp_path, "one", ["a"])
    with serving(rater=probes(by_words)) as stubs:
        words = ["rate", file, "--judge", word(stubs, "rater"), "--prompts", str(prompts), "--factors", "conciseness"]
        words += ["--results", str(tmp_path / "results")]
        assert CliRunner().invoke(app, words).exit_code == 0
        assert "<begin reference " in stubs["rater"].requests[-1][1]["messages"][-1]["content"]
        result = CliRunner().invoke(app, [*words, "--template", template])
    assert result.exit_code == 2
    assert "a reference that the judge template does not show" in " ".join(result.output.split())


def test_a_reward_models_score_is_a_rating(tmp_path):
    def scorer(path, body):
        value = float(len(body["messages"][-1]["content"]))
        return 200, {"data": [{"probs": [value]}], "usage": {}}

    files = [answers_file(tmp_path, "one", ["a", "aa"]), answers_file(tmp_path, "two", ["aaa", "aaaaa"])]
    prompts = written(
        tmp_path, "".join(json.dumps({"id": str(i), "prompt": f"Prompt {i}?"}) + "\n" for i in (0, 1)), "p.jsonl"
    )
    with serving(rater=scorer) as stubs:
        words = ["rate", *files, "--judge", word(stubs, "rater"), "--judge-kind", "reward", "--prompts", prompts]
        result = CliRunner().invoke(app, [*words, "--results", str(tmp_path / "results"), "--json"])
        wrong = CliRunner().invoke(app, [*words, "--factors", "factuality"])
        shown = CliRunner().invoke(app, [*words, "--results", str(tmp_path / "results")])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["judge"]["method"] == "reward"
    assert [model["factors"]["reward"]["score"] for model in document["models"]] == [1.5, 4.0]
    assert document["factors"]["reward"]["scale"] is None
    [rows] = (tmp_path / "results").glob("ratings/*/ratings.jsonl")
    first = json.loads(rows.read_text().splitlines()[0])
    assert (first["model"], first["rating"], len(first["content_hash"])) == ("one", 1.0, 32)
    assert wrong.exit_code == 2
    assert "leave out --factors" in " ".join(wrong.output.split())
    assert shown.exit_code == 0


def labels_file(tmp_path, n=30, **more):
    """Answers of one to five words, which people rate from 5 down to 1 for conciseness, two of them differently."""
    rows = [
        {
            "id": str(i),
            "prompt": f"Prompt {i}?",
            "answer": "a" + " b" * (i % 5),
            "category": ["even", "odd"][i % 2],
            "ratings": {"conciseness": [5 - i % 5, 5 - i % 5 + (i % 3) / 10], "factuality": (7 * i) % 4},
            **more,
        }
        for i in range(n)
    ]
    return written(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "labels.jsonl")


def card(tmp_path, stubs, *options):
    words = ["judge-card", word(stubs, "rater"), "--results", str(tmp_path / "results"), *options]
    return CliRunner().invoke(app, words)


def test_a_judge_that_rates_has_a_card_of_its_own_which_stands_beside_its_ratings(tmp_path):
    file = answers_file(tmp_path, "one", ["a", "a b"])
    prompts = written(tmp_path, '{"id": "0", "prompt": "Prompt 0?"}\n{"id": "1", "prompt": "Prompt 1?"}\n', "p.jsonl")
    with serving(rater=probes(by_words)) as stubs:
        result = card(tmp_path, stubs, "--ratings", labels_file(tmp_path), "--json")
        shown = card(tmp_path, stubs, "--ratings", labels_file(tmp_path))
        words = ["rate", file, "--judge", word(stubs, "rater"), "--prompts", prompts, "--factors", "conciseness"]
        [kept] = (tmp_path / "results").glob("judges/*/rating-card-*.json")
        larger = {**json.loads(kept.read_text()), "labels": {"n": 1000}, "factors": None}
        kept.with_name("rating-card-damaged.json").write_text(json.dumps(larger))
        rated = CliRunner().invoke(app, [*words, "--results", str(tmp_path / "results"), "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["kind"], document["labels"]["n"]) == ("ratings", 30)
    concise, factual = document["factors"]["conciseness"], document["factors"]["factuality"]
    assert concise["spearman"]["value"] > 0.95
    assert concise["people_mean"] == pytest.approx(3.05)
    assert concise["judge_mean"] == pytest.approx(3.0)
    assert set(concise["categories"]) == {"even", "odd"}
    # Both letters and factuality say nothing of each other.
    assert abs(factual["spearman"]["value"]) < 0.4
    assert document["conclusions"]["verdict"] == "do not use"
    assert "factuality: Spearman's rho with people" in " ".join(shown.stdout.split())
    assert json.loads(kept.read_text())["factors"] == document["factors"]
    summary = json.loads(rated.stdout)["judge"]["card"]
    assert summary["factors"]["conciseness"]["value"] == pytest.approx(concise["spearman"]["value"])


def test_a_reward_model_is_measured_by_ratings_too(tmp_path):
    def scorer(path, body):
        return 200, {"data": [{"probs": [-float(len(body["messages"][-1]["content"]))]}], "usage": {}}

    with serving(rater=scorer) as stubs:
        options = ["--ratings", labels_file(tmp_path), "--judge-kind", "reward", "--json"]
        document = json.loads(card(tmp_path, stubs, *options).stdout)
    assert document["judge"]["method"] == "reward"
    assert document["factors"]["conciseness"]["spearman"]["value"] > 0.95
    assert document["factors"]["factuality"]["judged_as"] == "reward"


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"ratings": {"wit": 3}}, "unknown factor 'wit'"),
        ({"ratings": {"conciseness": "good"}}, "has the rating 'good' of conciseness"),
        ({"ratings": {}}, "has no ratings"),
        ({"answer": None}, "no prompt with an answer to each turn"),
        ({"id": "same"}, "duplicate id 'same'"),
    ],
)
def test_labels_at_fault_are_refused_before_anything_is_asked(tmp_path, more, fault):
    with serving(rater=lambda path, body: None) as stubs:
        result = card(tmp_path, stubs, "--ratings", labels_file(tmp_path, 2, **more))
        assert not stubs["rater"].requests
    assert result.exit_code == 2
    assert fault in " ".join(result.output.split())


def test_the_report_shows_ratings_and_names_what_it_cannot_read(tmp_path):
    files = [answers_file(tmp_path, "one", ["a", "a b", "a"]), answers_file(tmp_path, "two", ["a b", "a b c", "a"])]
    rows = [{"id": str(i), "prompt": f"Prompt {i}?", "category": "tea"} for i in range(3)]
    prompts = written(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "p.jsonl")
    results = tmp_path / "results"
    with serving(rater=probes(by_words)) as stubs:
        words = ["rate", *files, "--judge", word(stubs, "rater"), "--prompts", prompts, "--results", str(results)]
        assert CliRunner().invoke(app, [*words, "--factors", "conciseness,factuality,insightfulness"]).exit_code == 0
    faults: list[str] = []
    [shown] = read_analyses(results, faults)
    assert not faults
    assert shown.analysis.title == "Ratings of one, two"
    ratings, differences, categories = shown.tables
    assert [box.text for box in ratings.rows[0]] == ["one", "4.67", "4.67", "4.67", "4.67"]
    assert [box.text for box in ratings.rows[1]][:2] == ["two", "4.00"]
    assert [box.text for box in differences.rows[0]][:4] == ["conciseness", "one", "two", "0.67"]
    assert [box.text for box in categories.rows[0]][:3] == ["one", "tea", "4.67"]
    assert {chart.key for chart in shown.charts} == {"mean", "factors-spider"}
    [file] = results.glob("ratings/*/factors.json")
    file.write_text('{"schema": 1}')
    assert read_analyses(results, faults) == []
    assert "run `evalsuite rate` again" in faults[0]
