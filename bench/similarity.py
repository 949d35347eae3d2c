"""CPU seconds of `evalsuite analyze similarity` on synthetic answers: many models, the same prompts.

python bench/similarity.py --models 50 --prompts 500 --words 250

Words are drawn from a Zipf-like distribution over real ones (WordNet's lemmas with endings, if available), and the
answers to one prompt share a topic, so that all of METEOR's stages are used.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from evalsuite.analysis.settings import SimilarityConfig
from evalsuite.analysis.similarity import similarity
from evalsuite.analysis.wordnet import find_wordnet
from evalsuite.files import write_json

ENDINGS = ("", "", "", "s", "ed", "ing", ".", ",")
N_WORDS, N_TOPIC = 40_000, 200


def vocabulary() -> list[str]:
    wordnet = find_wordnet()
    lemmas = [f"word{i}" for i in range(N_WORDS // 2)]
    if wordnet:
        lemmas = sorted({name for name in wordnet.all_lemma_names() if name.isascii() and name.isalpha()})
    order = np.random.default_rng(0).permutation(len(lemmas))
    return [lemmas[order[i % len(lemmas)]] + ENDINGS[i % len(ENDINGS)] for i in range(N_WORDS)]


def write_answers(folder: Path, n_models: int, n_prompts: int, n_words: int) -> list[str]:
    """Write one file of answers per model; return the arguments NAME=FILE."""
    rng = np.random.default_rng(1)
    words = np.array(vocabulary())
    common = np.cumsum(1 / np.arange(1, len(words) + 1))
    common /= common[-1]
    topics = [rng.integers(len(words), size=N_TOPIC) for _ in range(n_prompts)]
    named = []
    for model in range(n_models):
        rows = []
        for prompt, topic in enumerate(topics):
            length = int(np.clip(rng.normal(n_words, n_words / 4), 10, 3 * n_words))
            general = np.searchsorted(common, rng.random(length))
            drawn = np.where(rng.random(length) < 0.5, general, rng.choice(topic, size=length))
            rows.append({"prompt": f"question {prompt}", "answer": " ".join(words[drawn])})
        write_json(folder / f"model-{model}.json", rows)
        named.append(f"model-{model}={folder / f'model-{model}.json'}")
    return named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--words", type=int, default=250)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        named = write_answers(folder, arguments.models, arguments.prompts, arguments.words)
        began, cpu = time.perf_counter(), time.process_time()
        analysis = similarity(SimilarityConfig(answers=tuple(named), results=folder))
        seconds, busy = time.perf_counter() - began, time.process_time() - cpu
    pairs = arguments.models * (arguments.models - 1) // 2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("| models | prompts | words | comparisons | METEOR | CPU s | wall s | peak GiB |")
    print("| ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |")
    print(
        f"| {arguments.models} | {arguments.prompts} | {arguments.words} | {pairs * arguments.prompts:,} x 3 "
        f"| {analysis.provenance['meteor']} | {busy:.0f} | {seconds:.0f} | {peak:.2f} |"
    )


if __name__ == "__main__":
    main()
