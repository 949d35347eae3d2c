"""Upload the finished folder to the hub as a data set with a card (``--push-to``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.conversations.formats import Conversation, conversation_of, detect_format
from evalsuite.conversations.source import open_source
from evalsuite.conversations.summary import summarised, summary_lines, summary_rows
from evalsuite.errors import DataError, first_line

if TYPE_CHECKING:
    from evalsuite.generation.run import Generated

_SHOWN = ("policy", "max_new_tokens", "temperature", "top_p", "seed", "language", "limit")
_SUMMARISED, _EXAMPLE = 10_000, 600


def push(repo: str, generated: Generated, *, public: bool, api: Any = None) -> str:
    """Upload shards, manifests and a card, and return the data set's URL.

    A new data set is private unless ``public``. ``api`` replaces ``huggingface_hub.HfApi()``. Raises
    DataError with the hub's reason; the local folder is not changed.
    """
    if api is None:
        from huggingface_hub import HfApi

        api = HfApi()
    single = len(generated.folders) == 1
    try:
        api.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True)
        for folder, manifest in zip(generated.folders, generated.manifests, strict=True):
            api.upload_folder(
                repo_id=repo,
                repo_type="dataset",
                folder_path=str(folder),
                path_in_repo="" if single else folder.name,
                allow_patterns=["part-*.parquet", "_manifest*.json"],
                commit_message=f"{manifest['model']['name']}: answers",
            )
        names = ["" if single else folder.name for folder in generated.folders]
        card = data_card(repo, generated.manifests, names, generated.folders)
        api.upload_file(
            path_or_fileobj=card.encode(),
            path_in_repo="README.md",
            repo_id=repo,
            repo_type="dataset",
            commit_message="Card",
        )
    except Exception as error:  # the hub client raises many types; all mean that nothing was uploaded
        raise DataError(
            f"cannot upload to {repo} ({first_line(error)}); log in with 'hf auth login' and run the same command "
            "again; the answers are kept"
        ) from error
    return f"https://huggingface.co/datasets/{repo}"


def data_card(
    repo: str, manifests: Sequence[Mapping[str, Any]], folders: Sequence[str], answers: Sequence[Path] = ()
) -> str:
    """Return the card: YAML metadata for ``datasets``, then the source, and settings and counts per model.

    ``folders`` are the models' folders in the data set, "" for the root; ``answers`` are the folders here, of which the
    card has the lengths and one conversation.
    """
    import yaml

    configs = []
    for manifest, folder in zip(manifests, folders, strict=True):
        pattern = f"{folder}/part-*.parquet" if folder else "part-*.parquet"
        name = folder or manifest["model"]["name"]
        configs.append({"config_name": name, "data_files": [{"split": "train", "path": pattern}]})
    head = yaml.safe_dump({"tags": ["synthetic", "conversations"], "configs": configs}, sort_keys=False)
    source = manifests[0]["source"]
    lines = [
        f"# {repo.rpartition('/')[2]}",
        "",
        f"Conversations of `{source['word']}` (fingerprint `{source['fingerprint']}`), answered by "
        f"{', '.join(manifest['model']['name'] for manifest in manifests)} with evalsuite "
        f"{manifests[0]['versions'].get('evalsuite', '')}. The source's licence and terms apply to its texts, "
        "and each model's to its answers.",
        "",
        "One row is a conversation: `conversation_hash, model, language, messages, policy, unscored` and the "
        "source's columns (as `source_<name>` if the name is taken or trainers read it). A missing answer has "
        "`content` null and the reason as `finish_reason`.",
        "",
        "| model | conversations | answers | missing | tokens | settings |",
        "| --- | ---: | ---: | --- | ---: | --- |",
    ]
    for manifest in manifests:
        counts, arguments = manifest["counts"], manifest["arguments"]
        settings = ", ".join(f"{key} {arguments[key]}" for key in _SHOWN if arguments.get(key) is not None)
        missing = ", ".join(f"{count} {reason}" for reason, count in counts["unscored"].items()) or "0"
        lines.append(
            f"| {manifest['model']['name']} (`{manifest['model']['fingerprint'][:12]}`, {manifest['model']['dtype']}) "
            f"| {counts['conversations']:,} | {counts['answers']:,} | {missing} "
            f"| {manifest['tokens']['completion']:,} | {settings} |"
        )
    lines += [
        "",
        "With policy `own` later turns follow the model's own earlier answers, with `teacher-forced` the original "
        "ones. `_manifest.json` has versions, hardware and hashes.",
        *(line for folder in answers for line in _described(folder)),
    ]
    return f"---\n{head}---\n\n" + "\n".join(lines) + "\n"


def _described(folder: Path) -> list[str]:
    """Return the lines on a folder's rows: lengths, how answers ended, and the first whole conversation."""
    rows = open_source(str(folder))
    summary = summarised(rows, _SUMMARISED)
    table = summary_rows(summary)
    heads = [name for name in table[0] if not name.startswith("histogram")] if table else []
    lines = ["", f"## {folder.name}", "", f"Of {summary['n_rows']:,} rows:", ""]
    lines += ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)] if heads else []
    lines += ["| " + " | ".join(row[name] for name in heads) + " |" for row in table]
    lines += ["", *(f"- {line}" for line in summary_lines(summary))]
    read = (conversation_of(row, detect_format(rows.columns, rows.spec)) for row in rows)
    example = next((each for each in read if isinstance(each, Conversation)), None)
    for message in example.messages if example is not None else ():
        text = message.content if len(message.content) <= _EXAMPLE else f"{message.content[:_EXAMPLE]} …"
        # Indented, so that no mark in it is Markdown.
        lines += ["", f"{message.role}:", "", *(f"    {line}" for line in text.splitlines())]
    return lines
