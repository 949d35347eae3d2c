"""The stages' adapters to the rooms that do the work.

What serves a model, trains one or runs lm-eval (generate, sft, run, compare) is a process of its own; mixing, the
analyses and the pages are called here. A model is served once for all suites; all models are run in one call, so that
their judge is served once; comparisons read the answers that the runs have recorded, so only the judge is served.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from evalsuite.checkpoint import Checkpoint, resolve
from evalsuite.errors import EvalsuiteError
from evalsuite.files import read_json, write_text
from evalsuite.results.folder import other_model, stored_manifest, stored_scores, unscored_share
from evalsuite.serving.server import ServeOptions
from evalsuite.serving.session import served_as
from evalsuite.study.children import Ended, run_child
from evalsuite.study.file import Serving
from evalsuite.study.pages import analyze, make_paper, make_report, make_tables, named_lineage
from evalsuite.study.plan import Kind, Trained
from evalsuite.study.state import Failed, Made
from evalsuite.study.tasks import KEY_DIGITS, Adapter, Bench, Task

_NOTED_SHARE = 0.01
"""Above this share of missing answers a stage carries a note, as `evalsuite run` would exit with 1."""


def generate(task: Task, bench: Bench) -> Made | Failed:
    """Let a DGM answer every conversation: a process, since it serves."""
    how, words = task.stage.settings, task.stage.words
    out = _folder(task, bench)
    options = ("policy", "max_new_tokens", "temperature", "top_p", "seed", "system", "limit", "language")
    given = [f"--{name.replace('_', '-')}={how[name]}" for name in options if how[name] is not None]
    ended = _evalsuite(
        task,
        bench,
        ["generate", words["model"], f"--prompts={words['prompts']}", f"--out={out}", *given],
        words["serve"],
    )
    if ended.exit_code:
        return _failure(ended)
    (manifest,) = json.loads(ended.stdout)["models"]
    counts = manifest["counts"]
    missing = sum(counts["unscored"].values())
    notes = [f"{missing} of {counts['answers']} answers are missing: {_listed(counts['unscored'])}"] if missing else []
    measures = {
        "conversations": counts["conversations"],
        "answers": counts["answers"],
        "completion_tokens": manifest["tokens"]["completion"],
        "generate_s": manifest["seconds"]["generate"],
        "serve_s": manifest["seconds"]["serve"],
    }
    return Made({"folder": out}, (out / "_manifest.json",), measures, notes)


def mix(task: Task, bench: Bench) -> Made:
    """Draw a mix of DGMs' answers, called here: it neither serves nor trains."""
    from evalsuite.mix.build import ContaminationConfig, build_mix
    from evalsuite.recipes.recipe import recipe_of

    out = _folder(task, bench)
    document = mix_recipe(task, bench)
    recipe = recipe_of(document, f"the mix {task.stage.cell}")
    write_text(out.with_suffix(".yaml"), yaml.safe_dump(document, sort_keys=False))
    made = build_mix(
        recipe, out, bench.progress, contamination=ContaminationConfig(task.stage.settings["contamination"])
    )
    notes = [
        f"{source['name']} gave {source['taken']} of {source['asked']} conversations"
        for source in made["sources"]
        if source["fewer"]
    ]
    measures = {"conversations": made["n_rows"], "characters": made["characters"]}
    return Made({"folder": out}, (out / "mix.json", out), measures, notes)


def mix_recipe(task: Task, bench: Bench) -> dict[str, Any]:
    """Write a mix down as the recipe that ``evalsuite mix`` would take; several DGMs are a blend of equal draws."""
    study, stage = bench.study, task.stage
    own = study.mix
    data = {
        dgm: str(stage.words["recorded"].get(dgm) or task.inputs[f"generate {dgm}"].outputs["folder"])
        for dgm in stage.settings["dgms"]
    }
    members = [
        {"data": place, "dgm": dgm, "format": own.format if dgm in stage.words["recorded"] else None}
        for dgm, place in data.items()
    ]
    conversations: dict[str, Any] = {
        "name": "conversations",
        "count": stage.settings["size"],
        "allow_fewer": own.allow_fewer,
        "filters": own.filters.model_dump(mode="json"),
    }
    conversations |= members[0] if len(members) == 1 else {"blend": members}
    added = [_source(source.model_dump(mode="json"), bench) for source in own.add]
    settings = own.model_dump(mode="json", include={"duplicates", "shuffle"})
    settings["tokenizer"] = None if own.tokenizer is None else study.place(own.tokenizer)
    return {
        "name": stage.cell,
        "seed": study.seed,
        "mix": {"sources": [conversations, *added], **settings},
    }


def _source(source: dict[str, Any], bench: Bench) -> dict[str, Any]:
    """A further source with its data's place as it is reached from here."""
    placed = {key: bench.study.place(value) if key == "data" and value else value for key, value in source.items()}
    placed["blend"] = [{**member, "data": bench.study.place(member["data"])} for member in source["blend"]]
    return placed


def sft(task: Task, bench: Bench) -> Made | Failed:
    """Train a checkpoint: a process, since torch keeps its memory."""
    model: Trained = task.stage.words["model"]
    folder = _folder(task, bench)
    out, recipe = folder / model.name, folder / "recipe.yaml"
    words = task.stage.words
    template = {"chat_template": words["chat_template"]} if words["chat_template"] else {}
    settings = {**task.stage.settings["sft"], **template, "base": words["base"]}
    document = {"name": model.name, "seed": bench.study.seed, "sft": settings}
    write_text(recipe, yaml.safe_dump(document, sort_keys=False))
    data = task.inputs[f"mix {model.mix}"].outputs["folder"]
    ended = _evalsuite(task, bench, ["sft", str(recipe), f"--data={data}", f"--out={out}"])
    if ended.exit_code:
        return _failure(ended)
    training = read_json(out / "training.json")
    measures = {
        "conversations": training["n_conversations"],
        "tokens": training["n_tokens"],
        "train_s": training["seconds"],
        "tokens_per_second": training.get("tokens_per_second") or 0.0,
    }
    # Some are too long for the context, or hold no answer to learn from.
    asked = int(read_json(Path(data) / "mix.json")["n_rows"])
    fewer = [f"{training['n_conversations']} of the mix's {asked} conversations were trained on"]
    return Made({"folder": out}, (out / "training.json", out), measures, fewer * (training["n_conversations"] < asked))


def run(tasks: Sequence[Task], bench: Bench) -> dict[str, Made | Failed]:
    """Evaluate models, those that are served alike in one process, so that the judge starts once for all of them."""
    became: dict[str, Made | Failed] = {}
    groups: dict[tuple[str, bool], list[tuple[Task, str]]] = {}
    written = {record.outputs.get("folder") for record in bench.state.records() if record.name.startswith("run ")}
    for task in tasks:
        word = _model_word(task)
        try:
            checkpoint = resolve(word, on_step=bench.progress.step)
            folder = bench.results / checkpoint.slug
            fresh = folder in written and _holds_other_figures(folder, checkpoint, task)
        except EvalsuiteError as error:
            became[task.stage.name] = Failed(str(error), 3 if error.exit_code == 3 else 1)
            continue
        groups.setdefault((repr(task.stage.words["serve"]), fresh), []).append((task, word))
    for (_, fresh), group in groups.items():
        became |= _run_group(group, bench, fresh=fresh)
    return became


def _holds_other_figures(folder: Path, checkpoint: Checkpoint, task: Task) -> bool:
    """Whether this study's own earlier figures stand there on other data, limit, judge, dtype or template.

    They are set aside then.
    """
    stored = stored_scores(folder)
    if stored is None:
        return False
    now = served_as(checkpoint, ServeOptions(dtype=task.stage.words["serve"].dtype), None, attached=False)
    if other_model(stored, stored_manifest(folder), now):
        return True
    options = task.stage.settings["options"]
    judge = (stored.get("judge") or {}).get("fingerprint")
    other_judge = judge is not None and judge != resolve(task.stage.words["judge"]).fingerprint
    return other_judge or (stored.get("data"), stored.get("limit")) != (options["data"], options["limit"])


def _run_group(group: Sequence[tuple[Task, str]], bench: Bench, *, fresh: bool) -> dict[str, Made | Failed]:
    """Run all at once; when that fails, find out which model it is by itself, and go on with the others.

    What was answered before comes from the store, so no model is asked a second time.
    """
    ended = _run_models(group, bench, judged=True, fresh=fresh)
    if not ended.exit_code:
        return _made_of(group, ended, bench)
    if len(group) == 1:
        return {group[0][0].stage.name: _failure(ended)}
    bench.progress.say(f"  the models together failed ({ended.reason}); each by itself, to find out which")
    became: dict[str, Made | Failed] = {}
    sound = []
    for member in group:
        alone = _run_models([member], bench, judged=False, fresh=fresh)
        if alone.exit_code:
            became[member[0].stage.name] = _failure(alone)
        else:
            sound.append(member)
    if not sound:
        return became
    ended = _run_models(sound, bench, judged=True, fresh=False)
    if ended.exit_code:
        return became | {task.stage.name: _failure(ended) for task, _ in sound}
    return became | _made_of(sound, ended, bench)


def _run_models(group: Sequence[tuple[Task, str]], bench: Bench, *, judged: bool, fresh: bool) -> Ended:
    first = group[0][0].stage
    options: Mapping[str, Any] = first.settings["options"]
    words = ["run", *(word for _, word in group), f"--results={bench.results}", f"--seed={first.settings['seed']}"]
    words += [f"--suite={suite}" for suite in first.settings["suites"]]
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            default = name in ("openllm_chat_template", "fewshot_as_multiturn")
            words += [] if value == default else [f"--{flag}" if value else f"--no-{flag}"]
        elif value is not None:
            words.append(f"--{flag}={value}")
    words += [f"--judge={first.words['judge']}"] if judged else []
    words += ["--fresh"] if fresh else []
    return _evalsuite(group[0][0], bench, words, first.words["serve"], say=f"{len(group)} models")


def _made_of(group: Sequence[tuple[Task, str]], ended: Ended, bench: Bench) -> dict[str, Made | Failed]:
    made: dict[str, Made | Failed] = {}
    for (task, _), scores in zip(group, json.loads(ended.stdout)["models"], strict=True):
        folder = bench.results / Checkpoint(scores["model"]["name"], None, scores["model"]["fingerprint"]).slug
        n_unscored, n_items = unscored_share(scores["suites"])
        many = n_unscored > _NOTED_SHARE * n_items
        measures = {
            "completion_tokens": scores["tokens"]["completion"],
            "items": n_items,
            **{f"{phase}_s": seconds for phase, seconds in scores["seconds"].items()},
        }
        notes = [f"{n_unscored} of {n_items} items are unscored"] if many else []
        made[task.stage.name] = Made({"folder": folder}, (folder / "scores.json",), measures, notes)
    return made


def compare(task: Task, bench: Bench) -> Made | Failed:
    """Compare recorded answers pairwise: a process, since the judge is served."""
    stage = task.stage
    folders = {name: made.outputs["folder"] for name, made in task.inputs.items()}
    names = {name: model_name(folder) for name, folder in folders.items()}
    lineage = named_lineage(stage.settings["lineage"], names)
    name = f"{bench.study.name}-{stage.cell}-{task.key[:8]}"
    words = ["compare", *map(str, folders.values()), f"--judge={stage.words['judge']}", f"--name={name}"]
    words += [f"--results={bench.results}", f"--tie-margin={stage.settings['tie_margin']}"]
    for option in ("prompts", "turns", "method", "data", "limit", "seed"):
        words += [f"--{option}={stage.settings[option]}"] if stage.settings[option] is not None else []
    if lineage:
        file = _folder(task, bench).with_suffix(".lineage.yaml")
        write_text(file, yaml.safe_dump(lineage, sort_keys=False))
        words.append(f"--lineage={file}")
    ended = _evalsuite(task, bench, words, stage.words["serve"])
    if ended.exit_code:
        return _failure(ended)
    folder = bench.results / "comparisons" / name
    document = json.loads(ended.stdout)
    verdicts = 2.0 * len(document["pairs"]) * document["n_prompts"]
    return Made({"folder": folder}, (folder / "preferences.json",), {"verdicts": verdicts})


def model_name(folder: Path) -> str:
    """The name under which a model's results stand."""
    scores = stored_scores(folder)
    return folder.name if scores is None else str(scores["model"]["name"])


def _model_word(task: Task) -> str:
    trained = [made.outputs["folder"] for name, made in task.inputs.items() if name.startswith("sft ")]
    return str(trained[0]) if trained else str(task.stage.words["model"])


def _folder(task: Task, bench: Bench) -> Path:
    return bench.folder / task.stage.kind / task.key[:KEY_DIGITS]


def _evalsuite(task: Task, bench: Bench, words: Sequence[str], serve: Serving | None = None, *, say: str = "") -> Ended:
    """Start ``evalsuite WORDS --json`` with the serving options; unscored items are noted, they do not fail a cell."""
    command = [*bench.command, *words, "--json"]
    if serve is not None:
        command += ["--max-unscored=1", f"--dtype={serve.dtype}"]
        command += [f"--tensor-parallel-size={serve.tensor_parallel_size}"] * (serve.tensor_parallel_size > 1)
        command += [f"--data-parallel-size={serve.data_parallel_size}"] * (serve.data_parallel_size > 1)
        command += [f"--max-model-len={serve.max_model_len}"] if serve.max_model_len else []
        command += [f"--in-flight={serve.in_flight}"] if serve.in_flight else []
        command += [f"--vllm-arg={key}={value}" for key, value in serve.vllm_args.items()]
    title = f"{task.stage.kind} {say}" if say else task.stage.name
    return run_child(command, bench.state.log_of(task.stage), lambda line: bench.progress.step(f"{title}: {line}"))


def _failure(ended: Ended) -> Failed:
    return Failed(ended.reason, 3 if ended.is_servers_fault else 1)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items())


def _one(work: Callable[[Task, Bench], Made | Failed]) -> Adapter:
    """An adapter of a function that does one task."""
    return lambda tasks, bench: {task.stage.name: work(task, bench) for task in tasks}


ADAPTERS: Mapping[Kind, Adapter] = {
    "generate": _one(generate),
    "mix": _one(mix),
    "sft": _one(sft),
    "run": run,
    "compare": _one(compare),
    "analyze": _one(analyze),
    "tables": _one(make_tables),
    "paper": _one(lambda _, bench: make_paper(bench)),
    "report": _one(lambda _, bench: make_report(bench)),
}
