"""What a run takes over, what it does again, and what it refuses to put side by side."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from evalsuite.checkpoint import resolve
from evalsuite.config import read_config
from evalsuite.documents import Manifest, Scores, SuiteEntry
from evalsuite.errors import CheckpointError, DataError, ServerError, UsageError
from evalsuite.runs import runner
from evalsuite.runs.judges import Judges
from evalsuite.runs.plan import (
    _with_stored_parts,
    judge_identities,
    refuse_lost_parts,
    refuse_unavailable_parts,
    suite_run,
)
from evalsuite.runs.runner import _Runner, run
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.device import Device
from evalsuite.serving.known_servers import QUESTIONS
from evalsuite.serving.session import Session
from evalsuite.store import Store
from evalsuite.suites.registry import parse_suite
from tests.evalsuite.runs.test_runner import config, folder_of, obliging
from tests.evalsuite.stub_endpoint import StubEndpoint
from tests.evalsuite.tiny_checkpoint import TEMPLATE, write_checkpoint

IDENTITY = {"weights": "w"}


def suite_of(word: str, **changes):
    return suite_run(parse_suite(word), read_config({"models": ["m"], "data": "mini", **changes}), {}, IDENTITY)


def planned(asked: str, stored: str | None, *, identity=IDENTITY, applied=None, **changes):
    """Plan ``asked`` where the figures of ``stored`` stand."""
    settings = read_config({"models": ["m"], "data": "mini", **changes})
    earlier = None if stored is None else suite_of(stored)
    manifest = Manifest()
    if earlier is not None:
        options = earlier.options.model_dump(mode="json")
        entry = SuiteEntry(
            run_key=earlier.run_key(None), options=options, served=dict(earlier.served), applied=applied or {}
        )
        manifest = Manifest(suites={earlier.spec.key: entry})
    return _with_stored_parts(parse_suite(asked), settings, {}, identity, stored_scores({}), manifest), earlier


def stored_scores(suites):
    return Scores(
        model={"name": "m", "fingerprint": "f"}, judge=None, data="mini", limit=None, suites=suites, average={}
    )


@pytest.mark.parametrize(
    ("asked", "stored", "parts"),
    [
        ("openllm:musr", "openllm:ifeval", ("ifeval", "musr")),
        ("openllm:musr", "openllm:musr", ("musr",)),
        ("openllm:musr", "openllm", ()),
        ("openllm", "openllm:musr", ()),
        ("lm_eval:b", "lm_eval:a", ("a", "b")),
        ("lm_eval:a", "lm_eval:a,b", ("a", "b")),
        ("openllm:musr", None, ("musr",)),
        ("mt_bench", "mt_bench", ()),
    ],
)
def test_parts_that_stand_are_kept_beside_new_ones(asked, stored, parts):
    suite, earlier = planned(asked, stored)
    assert suite.spec.parts == suite.options.parts == parts
    if earlier is not None and parts == earlier.spec.parts:
        assert suite.run_keys == earlier.run_keys, "nothing is done again"


def test_parts_made_otherwise_are_neither_mixed_nor_wiped_out():
    with pytest.raises(UsageError, match=r"another chat_template_on_openllm.*--fresh"):
        planned("openllm:musr", "openllm:ifeval", openllm_chat_template=False)
    assert planned("openllm:ifeval", "openllm:ifeval", openllm_chat_template=False)[0].spec.parts == ("ifeval",)


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        ("openllm:ifeval,bbh", "openllm:ifeval"),
        ("openllm:bbh,ifeval", "openllm:ifeval"),
        ("openllm:bbh,gpqa,math,musr,ifeval,mmlu_pro", "openllm"),
        ("lm_eval:b,a", "lm_eval:a"),
    ],
)
def test_all_that_stands_may_be_asked_for_again_with_other_settings(asked, stored):
    suite, _ = planned(asked, stored, seed=1)
    assert suite.spec == parse_suite(asked)


@pytest.mark.parametrize(
    ("identity", "word"),
    [
        ({"max_model_len": 8192}, "max_model_len"),
        ({"vllm_args": {"kv_cache_dtype": "fp8"}}, "vllm_args"),
        ({"attached": "somebody's"}, "attached"),
    ],
)
def test_unrequested_parts_are_not_redone_because_the_server_is_another(identity, word):
    identity = IDENTITY | identity
    with pytest.raises(UsageError, match=f"another {word}"):
        planned("openllm:musr", "openllm:ifeval,bbh", identity=identity)
    assert planned("openllm:ifeval,bbh", "openllm:ifeval,bbh", identity=identity)[0].spec.parts == ("ifeval", "bbh")


def test_a_model_without_a_template_was_given_none_whatever_was_asked():
    without = {"chat_template_on_openllm": False, "fewshot_as_multiturn": False}
    suite, _ = planned("openllm:bbh", "openllm:ifeval", applied=without, openllm_chat_template=False)
    assert suite.spec.parts == ("ifeval", "bbh")


def test_a_part_whose_data_are_gone_keeps_its_figure():
    stored = stored_scores({"openllm": {"gpqa": {"score": 0.3}, "math": None}})
    suite = suite_of("openllm")
    suite.loaded = SimpleNamespace(missing={"math": "no network", "musr": "not asked for"})
    refuse_unavailable_parts(stored, suite)
    refuse_unavailable_parts(None, suite)
    suite.loaded = SimpleNamespace(missing={"gpqa": "gpqa is gated"})
    with pytest.raises(DataError, match=r"of gpqa, which has figures.*gpqa is gated.*--fresh"):
        refuse_unavailable_parts(stored, suite)


def test_what_stands_needs_no_server_any_more(tmp_path):
    folder = str(write_checkpoint(tmp_path / "ckpt", quantization_config={"quant_method": "gptq", "bits": 4}))
    with StubEndpoint(obliging) as stub:
        settings = config(stub, tmp_path / "results", models=[folder], suites=["mt_bench"], base_url=stub.url)
        before = run(settings)
        assert before.models[0].as_json()["model"]["quantization"] == "gptq 4-bit"
        more = config(stub, tmp_path / "results", models=[folder], suites=["mt_bench", "mixeval"], base_url=stub.url)
    assert run(settings).models == before.models
    for asked in (more, settings.model_copy(update={"seed": 7})):
        with pytest.raises(ServerError, match="no response from"):
            run(asked)


def test_figures_that_cannot_be_written_keep_no_other_models_back(tmp_path, monkeypatch):
    with StubEndpoint(obliging) as one, StubEndpoint(obliging, model="two") as two:
        models = [f"stub@{one.url}", f"two@{two.url}"]
        original = runner.write_figures

        def with_a_clash(plan, *others):
            if plan.checkpoint.name == "stub":
                raise UsageError("another run was there")
            original(plan, *others)

        monkeypatch.setattr(runner, "write_figures", with_a_clash)
        with pytest.raises(UsageError, match="another run"):
            run(config(one, tmp_path, models=models, suites=["mt_bench"]))
    (scores,) = tmp_path.glob("*/scores.json")
    assert json.loads(scores.read_text())["model"]["name"] == "two"


def test_what_lm_eval_does_not_know_of_changes_nothing_for_it(tmp_path):
    """A run of all suites has a judge, one of a part of openllm needs none."""
    judge = resolve(str(write_checkpoint(tmp_path / "judge")))
    settings = read_config({"models": ["m"], "data": "mini", "judge": str(judge.path), "as_published": True})
    with_judge = suite_run(parse_suite("openllm"), settings, judge_identities(Judges((judge,)), settings), IDENTITY)
    assert with_judge.run_keys == suite_of("openllm").run_keys


@pytest.mark.parametrize(
    ("stands", "asked", "refused"),
    [
        (["ifeval"], "openllm:musr", True),
        ([], "openllm:musr", True),
        (["musr"], "openllm:musr", False),
        (["musr"], "openllm", False),
        (None, "openllm:musr", False),
    ],
)
def test_parts_that_another_run_wrote_meanwhile_are_not_lost(stands, asked, refused):
    stored = stored_scores({} if stands is None else {"openllm": {}})
    manifest = Manifest(suites={"openllm": SuiteEntry(options={"parts": stands})})
    if refused:
        with pytest.raises(UsageError, match="run the same command again"):
            refuse_lost_parts(stored, manifest, suite_of(asked))
    else:
        refuse_lost_parts(stored, manifest, suite_of(asked))
    refuse_lost_parts(None, manifest, suite_of(asked))


def run_key(judge_folder: Path) -> str:
    settings = read_config({"models": ["m"], "judge": str(judge_folder), "data": "mini"})
    judge = resolve(str(judge_folder))
    judged_by = judge_identities(Judges((judge,)), settings)
    return suite_run(parse_suite("mt_bench"), settings, judged_by, IDENTITY).run_key(judge)


def test_verdicts_are_those_of_the_judge_with_its_template_and_tokenizer(tmp_path):
    one = write_checkpoint(tmp_path / "one")
    same = write_checkpoint(tmp_path / "same")
    other = write_checkpoint(tmp_path / "other", template=TEMPLATE.replace("im_start", "im_begin"))
    assert run_key(one) == run_key(same)
    assert run_key(one) != run_key(other)


@pytest.mark.parametrize(("changes", "own"), [({}, True), ({"chat_template": "fastchat:vicuna_v1.1"}, False)])
def test_a_format_for_the_candidates_is_not_the_judges(tmp_path, changes, own):
    folder = str(write_checkpoint(tmp_path / "ckpt"))
    settings = read_config({"models": [folder], "judge": folder, **changes})
    checkpoint = resolve(folder)
    assert _Runner(settings, Judges((checkpoint,)), None, None, None)._is_served_as(checkpoint, checkpoint) is own


def test_fresh_keeps_the_old_figures_until_new_ones_are_there(tmp_path):
    with StubEndpoint(obliging) as stub:
        settings = config(stub, tmp_path, suites=["mt_bench"], fresh=True)
        run(settings)
        before = (folder_of(tmp_path) / "scores.json").read_text()
    with pytest.raises((ServerError, UsageError, CheckpointError)):
        run(settings)
    assert (folder_of(tmp_path) / "scores.json").read_text() == before
    assert not list(folder_of(tmp_path).glob("replaced/*"))


def test_fresh_sets_aside_what_it_was_to_replace_and_nothing_newer(tmp_path):
    """Two runs with --fresh, one suite each, in one folder: the later one keeps the other's new figures."""
    with StubEndpoint(obliging) as stub:
        run(config(stub, tmp_path, suites=["mt_bench", "mixeval"]))
        settings = config(stub, tmp_path, suites=["mixeval"], fresh=True)
        original = _Runner._finish

        def after_another(self, plan):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_Runner, "_finish", original)
                run(config(stub, tmp_path, suites=["mt_bench"], fresh=True))
            original(self, plan)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_Runner, "_finish", after_another)
            run(settings)
    scores = json.loads((folder_of(tmp_path) / "scores.json").read_text())
    assert set(scores["suites"]) == {"mt_bench", "mixeval"}
    assert len(list(folder_of(tmp_path).glob("replaced/*"))) == 1


@pytest.mark.parametrize(("key", "word"), [("dtype", "dtype float16"), ("chat_template_sha256", "chat template 0000")])
def test_figures_of_another_dtype_or_template_are_refused(tmp_path, monkeypatch, key, word):
    monkeypatch.setattr("evalsuite.serving.session.effective_dtype", lambda *_, **__: "float32")
    with StubEndpoint(obliging) as stub:
        run(config(stub, tmp_path, suites=["mt_bench"]))
        path = folder_of(tmp_path) / "scores.json"
        scores = json.loads(path.read_text())
        scores["model"][key] = {"dtype": "float16", "chat_template_sha256": "0" * 64}[key]
        path.write_text(json.dumps(scores))
        if key == "chat_template_sha256":
            from evalsuite.checkpoint import Checkpoint

            monkeypatch.setattr(Checkpoint, "chat_template_sha256", "1" * 64)
        with pytest.raises(UsageError, match=word):
            run(config(stub, tmp_path, suites=["mixeval"]))


def test_each_model_is_charged_for_its_own_verdicts_alone(tmp_path):
    with (
        StubEndpoint(obliging) as one,
        StubEndpoint(obliging, model="two") as two,
        StubEndpoint(obliging, model="j") as judge,
    ):
        models = [f"stub@{one.url}", f"two@{two.url}"]
        run(config(one, tmp_path, models=models, judge=f"j@{judge.url}", suites=["mt_bench"]))
        asked = len(judge.requests)
    used = [json.loads(path.read_text())["usage"]["judge"]["requests"] for path in tmp_path.glob("*/manifest.json")]
    assert len(used) == 2
    # The fixed questions that tell whether a server has changed, each asked twice, are the run's own.
    fixed = 2 * len(QUESTIONS)
    assert sorted(used) == [0, asked + fixed], "both models answer alike, so the second one's verdicts are stored"


def test_a_server_with_another_tokenizer_is_refused_before_anything_is_asked(tmp_path):
    from evalsuite.serving.chat_format import load_chat_format
    from evalsuite.serving.wire import _PROBE_TEXT

    checkpoint = resolve(str(write_checkpoint(tmp_path / "ckpt")))
    right = load_chat_format(checkpoint).tokenizer.encode(_PROBE_TEXT, add_special_tokens=False)
    with Store(tmp_path / "store.sqlite") as store:
        for ids in (right, [9]):
            with StubEndpoint(obliging, tokens=ids) as stub:
                make = (checkpoint, store, ServeConfig(), tmp_path / "log")
                if ids is right:
                    assert Session(*make, base_url=stub.url).target.identity["attached"] == "stub"
                else:
                    with pytest.raises(UsageError, match="different tokenizer"):
                        Session(*make, base_url=stub.url)


@pytest.mark.parametrize("tokens", [None, []], ids=["404", "another's idea of the path"])
def test_a_server_that_cannot_be_asked_about_its_tokenizer_is_believed(tmp_path, tokens):
    checkpoint = resolve(str(write_checkpoint(tmp_path / "ckpt")))
    with (
        Store(tmp_path / "store.sqlite") as store,
        StubEndpoint(lambda path, body: (404, {"error": {"message": "no"}}), tokens=tokens) as stub,
    ):
        Session(checkpoint, store, ServeConfig(), tmp_path / "log", base_url=stub.url)


@pytest.mark.parametrize(("engines", "in_flight"), [(1, 1024), (4, 4096)])
def test_each_data_parallel_engine_gets_a_full_batch(tmp_path, monkeypatch, engines, in_flight):
    monkeypatch.setattr("evalsuite.serving.session.installed_vllm", lambda: Device("cuda", "0"))
    monkeypatch.setattr("evalsuite.serving.session.max_connections", lambda wanted: wanted)
    checkpoint = resolve(str(write_checkpoint(tmp_path / "ckpt")))
    with Store(tmp_path / "store.sqlite") as store:
        options = ServeConfig(data_parallel_size=engines)
        session = Session(checkpoint, store, options, tmp_path / "log")
    assert session.in_flight == session.client.max_in_flight == in_flight


def test_fresh_sets_aside_what_cannot_even_be_read(tmp_path):
    with StubEndpoint(obliging) as stub:
        settings = config(stub, tmp_path, suites=["mt_bench"])
        run(settings)
        folder = folder_of(tmp_path)
        (folder / "scores.json").unlink()
        (folder / "manifest.json").write_text("{")
        run(config(stub, tmp_path, suites=["mt_bench"], fresh=True))
    assert json.loads((folder / "manifest.json").read_text())["suites"]
    (aside,) = folder.glob("replaced/*/manifest.json")
    assert aside.read_text() == "{"
