"""lm-eval's tasks through our LM against lm-eval's own way, on the same server."""

from __future__ import annotations

import pytest

from evalsuite.suites.harness.run import lm_eval_seeds, quiet_harness, run_tasks
from evalsuite.suites.harness.suite import LmEvalOptions
from evalsuite.suites.openllm.suite import OpenLLM
from tests.live.conftest import Live

pytestmark = [
    # lm-eval's API back end leaves its session to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def _loglikelihoods(samples):
    return {
        (task, sample["doc_id"]): [float(response[0][0]) for response in sample["resps"]]
        for task, rows in samples.items()
        for sample in rows
        if isinstance(sample["resps"][0][0], (tuple, list))
    }


@pytest.mark.parametrize("chat", [False, True])
def test_scores_and_log_likelihoods_are_lm_evals_own(live: Live, demo_folder, monkeypatch, chat):
    from lm_eval.evaluator import evaluate
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    options = LmEvalOptions(data="mini", parts=("bbh", "musr", "mmlu_pro"), limit=2)
    live.wait(live.session.client.detect_features())
    client, loop = live.session.client, live.thread.loop
    ours = run_tasks(OpenLLM().load(options), client, loop, chat_template=chat, limit=options.limit)

    monkeypatch.setenv("OPENAI_API_KEY", live.api_key)
    loaded = OpenLLM().load(options)
    with quiet_harness(), lm_eval_seeds():
        theirs = evaluate(
            lm=LocalCompletionsAPI(
                base_url=f"{live.url}/completions",
                model=live.session.server.model_name,
                tokenizer=str(demo_folder),
                tokenizer_backend="huggingface",
                tokenized_requests=True,
                max_length=live.session.client.max_model_len,
                num_concurrent=4,
            ),
            task_dict={"tasks": dict(loaded.tasks), "groups": dict(loaded.groups)},
            limit=options.limit,
            bootstrap_iters=0,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
        )
    own, their = _loglikelihoods(ours.samples), _loglikelihoods(theirs["samples"])
    assert own.keys() == their.keys()
    assert own
    for key, values in own.items():
        assert values == pytest.approx(their[key], abs=1e-3), key
    for task, metrics in theirs["results"].items():
        for metric, value in metrics.items():
            if isinstance(value, float) and "stderr" not in metric:
                assert ours.results["results"][task][metric] == pytest.approx(value), (task, metric)
