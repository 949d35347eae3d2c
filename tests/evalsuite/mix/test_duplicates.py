"""Near-duplicates are found at the rate that is promised, on pairs of known similarity, in any script."""

from __future__ import annotations

import random

import numpy as np
import pytest

from evalsuite.conversations.words import tokens_of
from evalsuite.mix.duplicates import PERMUTATIONS, NearDuplicates, bands_for
from evalsuite.mix.runs import SortedRuns
from tests.evalsuite.mix.test_mix import build, chat_of, write

N_PAIRS = 400


def ngrams(words, n=5):
    return {tuple(words[start : start + n]) for start in range(len(words) - n + 1)}


def jaccard(one, other, n=5):
    return len(ngrams(one, n) & ngrams(other, n)) / len(ngrams(one, n) | ngrams(other, n))


def pair_at(generator, similarity):
    """Two texts of distinct words whose 5-grams have nearly the given Jaccard similarity, and its exact value."""
    # One changed word in a text of distinct words changes five 5-grams: J = (m - 5) / (m + 5), m = n - 4.
    n_changed = generator.randint(1, 6)
    per_change = round(5 * (1 + similarity) / (1 - similarity))
    words = [f"w{number}" for number in generator.sample(range(10**6), n_changed * per_change + 4)]
    other = list(words)
    for change in range(n_changed):
        other[4 + change * per_change + generator.randrange(max(per_change - 8, 1))] = f"other{change}"
    return words, other, jaccard(words, other)


def recall(tmp_path, threshold, pairs):
    """The share of pairs of which the second text is found by the first."""
    index = NearDuplicates(threshold, 5, tmp_path)
    first = index.sketch([" ".join(one) for one, _, _ in pairs])
    second = index.sketch([" ".join(other) for _, other, _ in pairs])
    for number in first:
        index.add(number)
    index.expect(second)
    found = [index.matches(number) for number in second]
    assert all(index.similarity(a, b) == pair[2] for a, b, pair in zip(first, second, pairs, strict=True))
    index.close()
    return sum(one in others for one, others in zip(first, found, strict=True)) / len(pairs)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
def test_nearly_all_pairs_above_the_threshold_are_found_and_none_below(tmp_path, threshold):
    generator = random.Random(0)
    above = [pair_at(generator, min(threshold + 0.03, 0.97)) for _ in range(4 * N_PAIRS)]
    above = [pair for pair in above if threshold <= pair[2] < threshold + 0.06][:N_PAIRS]
    below = [pair_at(generator, threshold - 0.04) for _ in range(4 * N_PAIRS)]
    below = [pair for pair in below if pair[2] < threshold][:N_PAIRS]
    assert min(len(above), len(below)) >= N_PAIRS // 2
    (tmp_path / "above").mkdir()
    (tmp_path / "below").mkdir()
    assert recall(tmp_path / "above", threshold, above) >= 0.97
    assert recall(tmp_path / "below", threshold, below) == 0


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_the_bands_propose_nearly_every_pair_at_the_threshold(threshold):
    bands, rows = bands_for(threshold)
    assert bands * rows <= PERMUTATIONS
    assert 1 - (1 - threshold**rows) ** bands >= 0.985


def test_pairs_of_random_texts_with_a_few_changed_words_are_dropped(tmp_path):
    generator = random.Random(1)
    vocabulary = [f"w{number}" for number in range(5000)]
    rows, n_near = [], 0
    for _ in range(60):
        words = generator.choices(vocabulary, k=400)
        changed = list(words)
        for place in generator.sample(range(400), 6):
            changed[place] = generator.choice(vocabulary)
        n_near += jaccard(words, changed) >= 0.8
        rows += [chat_of(" ".join(each[:60]), " ".join(each[60:])) for each in (words, changed)]
    document = build(tmp_path / "out", [{"data": write(tmp_path / "c.jsonl", rows)}], duplicates={"near": 0.8})
    assert document["sources"][0]["refused"]["near_duplicate"] >= 0.97 * n_near
    assert n_near > 50


SENTENCES = {
    "Chinese": "今天我们来讨论一下河流与湖泊的区别，河流是流动的水体，而湖泊是静止的水体，它们都很重要{}",
    "Japanese": "今日は川と湖の違いについて話します。川は流れる水で、湖は静かな水です。どちらも大切です{}",
    "Thai": "วันนี้เราจะพูดถึงความแตกต่างระหว่างแม่น้ำกับทะเลสาบแม่น้ำไหลแต่ทะเลสาบนิ่ง{}",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_texts_that_differ_in_one_sign_are_near_duplicates_in_any_script(tmp_path, language):
    rows = [chat_of(SENTENCES[language].format(sign) + " ", "好 yes fine " + sign) for sign in "。！？"]
    document = build(tmp_path / "out", [{"data": write(tmp_path / "c.jsonl", rows)}], duplicates={"near": 0.5})
    assert (document["n_rows"], document["sources"][0]["refused"]) == (1, {"near_duplicate": 2})


def test_the_size_of_an_ngram_is_a_key(tmp_path):
    # Every third word differs: no 5-gram in common, half of the single words.
    words = [f"w{number}" for number in range(60)]
    other = [f"x{number}" if number % 3 == 0 else word for number, word in enumerate(words)]
    path = write(tmp_path / "c.jsonl", [chat_of(" ".join(each), "yes") for each in (words, other)])
    assert jaccard(["user", *words, "assistant", "yes"], ["user", *other, "assistant", "yes"], 1) > 0.5
    for ngram, taken in ((5, 2), (1, 1)):
        document = build(tmp_path / f"out{ngram}", [{"data": path}], duplicates={"near": 0.5, "ngram": ngram})
        assert document["n_rows"] == taken


def test_a_text_is_compared_with_texts_of_every_run(tmp_path):
    generator = random.Random(3)
    texts = [" ".join(f"w{generator.randrange(10**6)}" for _ in range(30)) for _ in range(500)]
    index = NearDuplicates(0.8, 5, tmp_path)
    numbers = index.sketch(texts)
    again = index.sketch([f"{text} more" for text in texts])
    for together in _batches(numbers, 37):
        index.expect(together)
        for number in together:
            assert index.matches(number) == []
            index.add(number)
    index.discard(numbers[:100])
    index.expect(again)
    assert [index.matches(number) for number in again] == [[]] * 100 + [[number] for number in numbers[100:]]
    index.close()


@pytest.mark.parametrize("block", [1, 7, 64, 2**19])
def test_the_index_in_files_finds_what_a_dictionary_would(tmp_path, monkeypatch, block):
    monkeypatch.setattr("evalsuite.mix.runs._BLOCK", block)
    generator = np.random.default_rng(block)
    runs, known = SortedRuns(tmp_path, most=3), []
    for number in range(0, 900, 30):
        # Few different keys, so that many are equal, within a run and across runs.
        keys = generator.integers(0, 200, 30).astype(np.uint64)
        numbers = np.arange(number, number + 30, dtype=np.uint32)
        runs.add(keys, numbers)
        known.append(dict(zip(numbers.tolist(), keys.tolist(), strict=True)))
    wanted = generator.integers(0, 220, 100).astype(np.uint64)
    found = {(position, number) for position, number in runs.find(wanted)}
    everything = {number: key for each in known for number, key in each.items()}
    assert all(everything[number] == wanted[position] for position, number in found)
    for position, key in enumerate(wanted.tolist()):
        having = sorted(number for number, its in everything.items() if its == key)
        # The first three of a key in each run: at least the first three of all.
        assert {number for at, number in found if at == position} >= set(having[:3])
    runs.close()
    assert not list(tmp_path.iterdir())


def _batches(values, size):
    return [values[start : start + size] for start in range(0, len(values), size)]


def test_short_texts_are_not_compared(tmp_path):
    index = NearDuplicates(0.5, 5, tmp_path)
    assert index.sketch(["two words", "河流", "", "three short words"]) == [-1, -1, -1, 0]
    index.add(-1)
    index.expect([-1, 0])
    assert index.matches(-1) == []
    index.close()


def test_tokens_are_words_and_single_characters_without_spaces():
    assert tokens_of("two words, 河流 and สวัส") == ["two", "words,", "河", "流", "and", "ส", "ว", "ั", "ส"]
