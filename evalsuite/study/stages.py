"""The adapters that run the stages.

What serves a model, trains one or runs lm-eval (generate, sft, run, compare) is a separate process, or units of work
elsewhere; mixes, analyses and pages are made in this process. A model is served once for all suites, all models run in
one call so that their judge is served once, and comparisons read the answers that the runs have recorded, so only the
judge is served.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from evalsuite.checkpoint import Checkpoint
from evalsuite.documents import Scores
from evalsuite.errors import EvalsuiteError
from evalsuite.files import read_json, write_text
from evalsuite.fleet.children import Ended, run_child
from evalsuite.fleet.units import RESULTS, SCRATCH
from evalsuite.recipes.recipe import located_source, recipe_of
from evalsuite.results.folder import model_folder, other_model, stored_manifest, stored_scores, unscored_share
from evalsuite.results.reading import models_in
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.session import served_as
from evalsuite.study.fleet import Fleet, Titled
from evalsuite.study.graph import Kind
from evalsuite.study.pages import analyze, make_paper, make_report, make_tables, named_lineage
from evalsuite.study.state import TELLING, Adapter, Failed, Made, Task, Workspace
from evalsuite.text import plural
from evalsuite.wildchat.study_tables import Trained

_NOTED_SHARE = 0.01
"""Above this share of unscored items a stage carries a note, as `evalsuite run` would exit with 1."""


def generate(task: Task, workspace: Workspace) -> Made | Failed:
    """Let a DGM answer every conversation."""
    settings, arguments = task.stage.settings, task.stage.arguments
    out = workspace.folder_of(task)
    names = ("policy", "max_new_tokens", "temperature", "top_p", "seed", "system", "limit", "language")
    options = {"models": [arguments["model"]], "prompts": arguments["prompts"], "out": str(out)}
    options |= {name: settings[name] for name in names}
    file = _config(task, workspace, options, arguments["serve"])
    if workspace.fleet is not None:
        ended = workspace.fleet.generate(file, Titled(workspace.progress, task.stage.name))
    else:
        ended = _child(task, workspace, ["generate", f"--config={file}"])
    if ended.exit_code:
        return _failure(ended)
    (manifest,) = json.loads(ended.stdout)["models"]
    counts = manifest["counts"]
    missing = sum(counts["unscored"].values())
    reasons = ", ".join(f"{reason} {count}" for reason, count in counts["unscored"].items())
    notes = [f"{missing} of {counts['answers']} answers are missing: {reasons}"] if missing else []
    return Made({"folder": out}, (out / "_manifest.json",), notes)


def mix(task: Task, workspace: Workspace) -> Made:
    """Draw a mix of DGMs' answers, in this process."""
    from evalsuite.mix.build import ContaminationConfig, build_mix

    out = workspace.folder_of(task)
    document = mix_recipe(task, workspace)
    recipe = recipe_of(document, f"the mix {task.stage.cell}")
    write_text(out.with_suffix(".yaml"), yaml.safe_dump(document, sort_keys=False))
    contamination = ContaminationConfig(task.stage.settings["contamination"])
    made = build_mix(recipe, out, workspace.progress, contamination=contamination)
    notes = [
        f"{source['name']} gave {source['taken']} of {source['asked']} conversations"
        for source in made["sources"]
        if source["fewer"]
    ]
    return Made({"folder": out}, (out / "mix.json", out), notes)


def mix_recipe(task: Task, workspace: Workspace) -> dict[str, Any]:
    """Return a mix as the recipe that ``evalsuite mix`` would take; several DGMs are a blend of equal draws."""
    study, stage = workspace.study, task.stage
    mix = study.mix.model_dump(mode="json")
    recorded: Mapping[str, str] = stage.arguments["recorded"]
    members = [
        {"data": recorded[dgm], "dgm": dgm, "format": mix["format"]}
        if dgm in recorded
        else {"data": str(task.inputs[f"generate {dgm}"].outputs["folder"]), "dgm": dgm, "format": None}
        for dgm in stage.settings["dgms"]
    ]
    conversations: dict[str, Any] = {"name": "conversations", "count": stage.settings["size"]}
    conversations |= {key: mix[key] for key in ("allow_fewer", "filters")}
    conversations |= members[0] if len(members) == 1 else {"blend": members}
    added = [located_source(source, study.folder).model_dump(mode="json") for source in study.mix.add]
    settings = {key: mix[key] for key in ("duplicates", "shuffle")}
    settings["tokenizer"] = study.located(study.mix.tokenizer)
    return {"name": stage.cell, "seed": study.seed, "mix": {"sources": [conversations, *added], **settings}}


def sft(task: Task, workspace: Workspace) -> Made | Failed:
    arguments = task.stage.arguments
    model: Trained = arguments["model"]
    folder = workspace.folder_of(task)
    out, recipe = folder / model.name, folder / "recipe.yaml"
    template = {"chat_template": arguments["chat_template"]} if arguments["chat_template"] else {}
    settings = {**task.stage.settings["sft"], **template, "base": arguments["base"]}
    document = {"name": model.name, "seed": workspace.study.seed, "sft": settings}
    write_text(recipe, yaml.safe_dump(document, sort_keys=False))
    data = task.inputs[f"mix {model.mix}"].outputs["folder"]
    command = ["sft", str(recipe), f"--data={data}", f"--out={out}"]
    ended = _carried_out(task, workspace, command)
    if ended.exit_code:
        return _failure(ended)
    n_trained = int(read_json(out / "training.json")["n_conversations"])
    # Conversations that are too long for the context or hold no answer are not trained on.
    n_mixed = int(read_json(Path(data) / "mix.json")["n_rows"])
    notes = [f"{n_trained} of the mix's {n_mixed} conversations were trained on"] if n_trained < n_mixed else []
    return Made({"folder": out}, (out / "training.json", out), notes)


class _Member(NamedTuple):
    """A run stage, its model, and the slug of the model's results folder."""

    task: Task
    model: str
    slug: str


def run(tasks: Sequence[Task], workspace: Workspace) -> dict[str, Made | Failed]:
    """Evaluate models; those served alike share a process, so that the judge starts once for all of them."""
    results: dict[str, Made | Failed] = {}
    groups: dict[tuple[str, bool], list[_Member]] = {}
    written = [record.outputs["folder"] for record in workspace.state.records() if record.name.startswith("run ")]
    for task in tasks:
        trained = [made.outputs["folder"] for name, made in task.inputs.items() if name.startswith("sft ")]
        model = str(trained[0] if trained else task.stage.arguments["model"])
        serve: ServeConfig = task.stage.arguments["serve"]
        try:
            checkpoint = serve.resolve(model, on_step=workspace.progress.step)
            folders = {folder for folder in written if folder.name.partition("~")[0] == checkpoint.slug}
            fresh = any(_holds_other_figures(folder, checkpoint, task) for folder in folders)
        except EvalsuiteError as error:
            results[task.stage.name] = Failed.of(error)
            continue
        member = _Member(task, model, checkpoint.slug)
        groups.setdefault((serve.model_dump_json(), fresh), []).append(member)
    for (_, fresh), group in groups.items():
        if workspace.fleet is not None:
            results |= _run_in_units(group, workspace, workspace.fleet, fresh=fresh)
        else:
            results |= _run_group(group, workspace, fresh=fresh)
    return results


def _holds_other_figures(folder: Path, checkpoint: Checkpoint, task: Task) -> bool:
    """Whether a folder that this study wrote holds figures on other data, limit, dtype or chat template.

    They are moved aside then, so that the new ones are not refused.
    """
    stored = stored_scores(folder)
    if stored is None:
        return False
    options = task.stage.settings["options"]
    served = served_as(checkpoint, task.stage.arguments["serve"], attached=False)
    changed = other_model(stored, stored_manifest(folder), served)
    return bool(changed) or (stored.data, stored.limit) != (options["data"], options["limit"])


def _run_in_units(
    group: Sequence[_Member], workspace: Workspace, fleet: Fleet, *, fresh: bool
) -> dict[str, Made | Failed]:
    """Run a unit per model; those that failed are known by name."""
    first = group[0].task
    title = first.stage.name if len(group) == 1 else f"{first.stage.name} and {len(group) - 1} more"
    file = _run_config(group, workspace, judged=True, fresh=fresh)
    outcome = fleet.run(file, Titled(workspace.progress, title))
    failed = {folder.partition("~")[0]: error for folder, error in outcome.failures.items()}
    documents = {_slug_of(scores): scores for scores in outcome.models}
    results: dict[str, Made | Failed] = {}
    for task, _, slug in group:
        if slug in failed:
            error = failed[slug]
            results[task.stage.name] = _failure(Ended(error.exit_code, "", (f"evalsuite: {error}",)))
        elif slug in documents:
            results[task.stage.name] = _made_of(documents[slug], workspace)
    return results


def _run_group(group: Sequence[_Member], workspace: Workspace, *, fresh: bool) -> dict[str, Made | Failed]:
    """Run all models at once; when that fails, run each by itself to find the faulty one, then the others.

    What was answered before comes from the store, so no model is asked a second time.
    """
    ended = _run_models(group, workspace, judged=True, fresh=fresh)
    if not ended.exit_code:
        return _made_by(group, ended, workspace)
    if len(group) == 1:
        return {group[0].task.stage.name: _failure(ended)}
    workspace.progress.log(f"  running all models failed ({ended.reason}); running each by itself to find out which")
    results: dict[str, Made | Failed] = {}
    sound = []
    for member in group:
        alone = _run_models([member], workspace, judged=False, fresh=fresh)
        if alone.exit_code:
            results[member.task.stage.name] = _failure(alone)
        else:
            sound.append(member)
    if not sound:
        return results
    ended = _run_models(sound, workspace, judged=True, fresh=False)
    if ended.exit_code:
        return results | {member.task.stage.name: _failure(ended) for member in sound}
    return results | _made_by(sound, ended, workspace)


def _run_models(group: Sequence[_Member], workspace: Workspace, *, judged: bool, fresh: bool) -> Ended:
    file = _run_config(group, workspace, judged=judged, fresh=fresh)
    return _child(group[0].task, workspace, ["run", f"--config={file}"], f"run {plural(len(group), 'model')}")


def _run_config(group: Sequence[_Member], workspace: Workspace, *, judged: bool, fresh: bool) -> Path:
    stage = group[0].task.stage
    options: dict[str, Any] = {
        **stage.settings["options"],
        "models": [member.model for member in group],
        "suites": list(stage.arguments["suites"]),
        "results": str(workspace.results),
        "seed": stage.settings["seed"],
        "judge": stage.arguments["judge"] if judged else None,
        "no_judge": not judged,
        "fresh": fresh,
    }
    return _config(group[0].task, workspace, options, stage.arguments["serve"])


def _made_by(group: Sequence[_Member], ended: Ended, workspace: Workspace) -> dict[str, Made | Failed]:
    documents = json.loads(ended.stdout)["models"]
    return {
        member.task.stage.name: _made_of(Scores.model_validate(document), workspace)
        for member, document in zip(group, documents, strict=True)
    }


def _slug_of(scores: Scores) -> str:
    return Checkpoint(scores.model.name, None, scores.model.fingerprint).slug


def _made_of(scores: Scores, workspace: Workspace) -> Made:
    folder = model_folder(workspace.results, _slug_of(scores), scores.variant)
    n_unscored, n_items = unscored_share(scores.suites)
    notes = [f"{n_unscored} of {n_items} items are unscored"] if n_unscored > _NOTED_SHARE * n_items else []
    return Made({"folder": folder}, (folder / "scores.json",), notes)


def compare(task: Task, workspace: Workspace) -> Made | Failed:
    """Compare recorded answers pairwise."""
    stage = task.stage
    folders = {name: made.outputs["folder"] for name, made in task.inputs.items()}
    models = {name: models_in(path)[0].name for name, path in folders.items()}
    lineage = named_lineage(stage.settings["lineage"], models)
    name = f"{workspace.study.name}-{stage.cell}-{task.key[:8]}"
    names = ("turns", "method", "data", "limit", "seed", "tie_margin")
    options: dict[str, Any] = {name: stage.settings[name] for name in names}
    options |= {
        "prompts": stage.arguments["prompts"],
        "models": list(map(str, folders.values())),
        "judge": [stage.arguments["judge"]],
    }
    options |= {"name": name, "results": str(workspace.results)}
    if lineage:
        file = workspace.folder_of(task).with_suffix(".lineage.yaml")
        write_text(file, yaml.safe_dump(lineage, sort_keys=False))
        options["lineage"] = str(file)
    config = _config(task, workspace, options, stage.arguments["serve"])
    in_a_unit = (f"--results={RESULTS}", f"--store={SCRATCH}")
    ended = _carried_out(task, workspace, ["compare", f"--config={config}"], in_a_unit)
    if ended.exit_code:
        return _failure(ended)
    folder = workspace.results / "comparisons" / name
    return Made({"folder": folder}, (folder / "preferences.json",))


def _config(task: Task, workspace: Workspace, options: Mapping[str, Any], serve: ServeConfig) -> Path:
    """Write the config file of a stage's command; ``options`` are its keys, None for the default.

    Unscored items are noted with the stage; they do not fail it.
    """
    values = {**options, **serve.model_dump(mode="json", exclude_unset=True), "max_unscored": 1.0}
    if "judge" in options:
        judge_serve = workspace.study.judge_serve.model_dump(mode="json", exclude_unset=True)
        values |= {f"judge_{name}": value for name, value in judge_serve.items()}
    file = workspace.state.log_of(task.stage).with_suffix(".yaml")
    given = {key: value for key, value in values.items() if value is not None}
    write_text(file, yaml.safe_dump(given, sort_keys=False))
    return file


def _carried_out(task: Task, workspace: Workspace, command: Sequence[str], in_a_unit: Sequence[str] = ()) -> Ended:
    """Carry a stage's command out as a unit, with further options there, or in a process of this machine."""
    if workspace.fleet is None:
        return _child(task, workspace, command)
    stage, progress = task.stage, Titled(workspace.progress, task.stage.name)
    return workspace.fleet.carry_out([*command, *in_a_unit], stage.name, task.key, stage.devices, progress)


def _child(task: Task, workspace: Workspace, arguments: Sequence[str], title: str = "") -> Ended:
    title = title or task.stage.name
    command = [*workspace.command, *arguments, "--json"]
    log = workspace.state.log_of(task.stage)
    return run_child(command, log, lambda line: workspace.progress.step(f"{title}: {line}"))


def _failure(ended: Ended) -> Failed:
    code = ended.exit_code if ended.exit_code in TELLING else 1
    return Failed(ended.reason, 3 if ended.is_servers_fault else code)


def _each(adapter: Callable[[Task, Workspace], Made | Failed]) -> Adapter:
    """Turn a function that runs one task into an adapter."""
    return lambda tasks, workspace: {task.stage.name: adapter(task, workspace) for task in tasks}


ADAPTERS: Mapping[Kind, Adapter] = {
    "generate": _each(generate),
    "mix": _each(mix),
    "sft": _each(sft),
    "run": run,
    "compare": _each(compare),
    "analyze": _each(analyze),
    "tables": _each(make_tables),
    "paper": _each(lambda _, workspace: make_paper(workspace)),
    "report": _each(lambda _, workspace: make_report(workspace)),
}
