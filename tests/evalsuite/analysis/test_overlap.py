"""ROUGE and METEOR against rouge-score and NLTK: the same figures to the last digits."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.meteor_score import single_meteor_score
from rouge_score.rouge_scorer import RougeScorer

from evalsuite.analysis.overlap import meteor, rouge, rouge_tokens
from evalsuite.analysis.wordnet import find_wordnet

SCORER = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
SYNONYMS = {"car": {"auto", "machine"}, "auto": {"car"}, "run": {"go", "car"}, "go": {"run"}}


class Lemma:
    def __init__(self, name):
        self._name = name

    def name(self):
        return self._name


class Synset:
    def __init__(self, names):
        self._names = names

    def lemmas(self):
        return [Lemma(name) for name in self._names]


class FewSynonyms:
    """NLTK's WordNet reader, as far as METEOR asks it, over a handful of words."""

    def synsets(self, word):
        return [Synset(SYNONYMS[word])] if word in SYNONYMS else []


def ours(texts, wordnet):
    return (*rouge([rouge_tokens(text) for text in texts]), meteor([text.split() for text in texts], wordnet))


def assert_as_the_libraries(texts, wordnet):
    rouge1, rouge_l, found = ours(texts, wordnet)
    for i, j in permutations(range(len(texts)), 2):
        hypothesis, reference = texts[i], texts[j]
        theirs = SCORER.score(hypothesis, reference)
        if np.isnan(rouge1[i, j]):
            assert theirs["rouge1"].fmeasure == 0
        else:
            assert rouge1[i, j] == pytest.approx(theirs["rouge1"].fmeasure, abs=1e-12)
            assert rouge_l[i, j] == pytest.approx(theirs["rougeL"].fmeasure, abs=1e-12)
        if np.isnan(found[i, j]):
            assert not hypothesis.split() or not reference.split()
        else:
            expected = single_meteor_score(reference.split(), hypothesis.split(), wordnet=wordnet)
            assert found[i, j] == pytest.approx(expected, abs=1e-12), (hypothesis, reference)


WORDS = [
    "car",
    "auto",
    "Run",
    "running",
    "runs",
    "go",
    "goes",
    "machine",
    "the",
    "The",
    "of",
    "cats",
    "cat",
    "x.",
    "日本",
]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join), min_size=2, max_size=4)


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_few_words_with_many_repeats_match_in_every_stage(texts):
    assert_as_the_libraries(texts, FewSynonyms())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=2, max_size=3))
def test_any_text_at_all(texts):
    assert_as_the_libraries(texts, FewSynonyms())


def test_real_answers(shared):
    import pyarrow.parquet as pq

    folder = shared / "mirror" / "hub" / "datasets--local-sample--WildChat-1M-mini" / "snapshots"
    answers = []
    for config in ("llama_3_3_70b", "qwen_2_5_72b"):
        (file,) = folder.glob(f"*/{config}/*.parquet")
        rows = pq.read_table(file, columns=["conversation"]).to_pylist()
        answers.append({row["conversation"][0]["content"]: row["conversation"][1]["content"] for row in rows})
    common = sorted(set(answers[0]) & set(answers[1]))[:4]
    assert len(common) == 4
    for prompt in common:
        # rouge-score takes quadratic time.
        assert_as_the_libraries([answers[0][prompt][:900], answers[1][prompt][:900]], FewSynonyms())


def test_the_worked_example_of_nltks_own_page_with_wordnet(shared, monkeypatch):
    monkeypatch.setenv("NLTK_DATA", str(shared / "mirror" / "nltk_data"))
    wordnet = find_wordnet()
    assert wordnet is not None
    hypothesis = "It is a guide to action which ensures that the military always obeys the commands of the party"
    reference = "It is a guide to action that ensures that the military will forever heed Party commands"
    found = ours([hypothesis, reference], wordnet)[2]
    assert round(found[0, 1], 4) == 0.6944
    assert wordnet.is_adjective("clearer")
    assert wordnet.is_adjective("comprehensive")
    assert not wordnet.is_adjective("house")


def test_wordnet_that_is_nowhere_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    monkeypatch.delenv("EVALSUITE_MIRROR", raising=False)
    monkeypatch.setattr("nltk.data.path", [])
    assert find_wordnet() is None


def test_equal_texts_score_as_their_definitions_say():
    rouge1, rouge_l, found = ours(["one two three", "one two three"], None)
    assert rouge1[0, 1] == rouge_l[0, 1] == 1
    # One chunk of three matches: 1 - 0.5 (1/3)^3.
    assert found[0, 1] == pytest.approx(1 - 0.5 / 27)
