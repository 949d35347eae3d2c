"""Upload the finished folder to the hub as a data set with a card (``--push-to``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evalsuite.errors import DataError, first_line

if TYPE_CHECKING:
    from evalsuite.generation.run import Generated

_SHOWN = ("policy", "max_new_tokens", "temperature", "top_p", "seed", "language", "limit")


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
        card = data_card(repo, generated.manifests, ["" if single else folder.name for folder in generated.folders])
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


def data_card(repo: str, manifests: list[Mapping[str, Any]] | Any, folders: list[str]) -> str:
    """Return the card: YAML metadata for ``datasets``, then the source, and settings and counts per model.

    ``folders`` are the models' folders in the data set, "" for the root.
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
    ]
    return f"---\n{head}---\n\n" + "\n".join(lines) + "\n"
