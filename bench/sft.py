"""Training tokens per second: `evalsuite sft` against plain trl with the same recipe, on this machine.

    python bench/sft.py [--base demo] [--steps 4] [--pairs 9] [--packing yes|no|both]

Both train the same conversations from the same weights with the same batch, precision and
attention; trl gets the conversations as messages and a template with generation marks, and packs
or pads as the recipe says. Loading does not count. Each side runs in a process of its own, and the sides take turns
in going first: consecutive runs share the load of the machine, so only their ratio is compared. Goal: 1.0 or more.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.ratios import summary

CHATS = Path(__file__).resolve().parents[1] / "recipes" / "mini_chats.jsonl"
# A message in the demo model's template, and the same with the generation marks that trl needs.
MESSAGE = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
MARKED_MESSAGE = (
    "{{'<|im_start|>' + message['role'] + '\n'}}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{message['content'] + '<|im_end|>'}}{% endgeneration %}"
    "{% else %}{{message['content'] + '<|im_end|>'}}{% endif %}{{'\n'}}"
)
MAX_LENGTH, BATCH = 256, 2


def evalsuite_sft(base: str, steps: int, packing: bool) -> tuple[float, float]:
    import yaml

    from evalsuite.training.train import train

    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        sft = {
            "base": base,
            "batch_size": BATCH,
            "micro_batch_size": BATCH,
            "max_length": MAX_LENGTH,
            "max_steps": steps,
            "packing": packing,
            "gradient_checkpointing": False,
            "save_every_steps": 1000,
            "warmup_steps": 0,
        }
        recipe.write_text(yaml.safe_dump({"name": "bench", "sft": sft}))
        document = train(recipe, Path(folder) / "out", data=str(CHATS)).document
        return document["tokens_per_second"], document["loss"][-1][1]


def plain_trl(base: str, steps: int, packing: bool) -> tuple[float, float]:
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from evalsuite.checkpoint import resolve
    from evalsuite.serving.chat_format import load_tokenizer
    from evalsuite.training.loading import load_model

    class Clock(TrainerCallback):
        begun = 0.0
        seconds = 0.0

        def on_train_begin(self, *_: object, **__: object) -> None:
            Clock.begun = time.monotonic()

        def on_step_end(self, *_: object, **__: object) -> None:
            Clock.seconds = time.monotonic() - Clock.begun

    path = resolve(base).path
    tokenizer = load_tokenizer(path)
    template = tokenizer.chat_template
    if MESSAGE not in template:
        raise SystemExit("this bench knows the demo model's chat template only; use --base demo")
    tokenizer.chat_template = template.replace(MESSAGE, MARKED_MESSAGE)
    rows = Dataset.from_list([json.loads(line) for line in CHATS.read_text(encoding="utf-8").splitlines()])
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            max_steps=steps,
            max_length=MAX_LENGTH,
            packing=packing,
            assistant_only_loss=True,
            lr_scheduler_type="cosine",
            seed=0,
            data_seed=0,
            bf16=torch.cuda.is_available(),
            use_cpu=not torch.cuda.is_available(),
            gradient_checkpointing=False,
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = SFTTrainer(
            model=load_model(str(path), "sdpa"),
            args=arguments,
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        trainer.train()
        logged = [row for row in trainer.state.log_history if "loss" in row]
        return logged[-1]["num_tokens"] / Clock.seconds, logged[-1]["loss"]


SIDES = {"evalsuite": evalsuite_sft, "trl": plain_trl}


def side_in_process(name: str, arguments: argparse.Namespace, packing: bool) -> dict[str, float]:
    """Run one side in a process of its own; return its tokens per second, last loss and peak memory in GB."""
    command = [sys.executable, __file__, "--side", name, "--base", arguments.base, "--steps", str(arguments.steps)]
    command += ["--packing", "yes" if packing else "no"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{name} failed:\n{ended.stderr[-2000:]}")
    found = next(line for line in ended.stdout.splitlines() if line.startswith("MEASURED "))
    return dict(json.loads(found.removeprefix("MEASURED ")))


def pairs(arguments: argparse.Namespace, packing: bool) -> str:
    """Run the pairs and return the table's row."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    for pair in range(arguments.pairs):
        for name in (list(SIDES), list(reversed(SIDES)))[pair % 2]:
            one = side_in_process(name, arguments, packing)
            found[name].append(one)
            print(f"# {name:9} {one['rate']:8.1f} tokens/s   loss {one['loss']:.4f}   {one['gb']:.2f} GB", flush=True)
    rates = {name: [one["rate"] for one in each] for name, each in found.items()}
    ratios = [ours / theirs for ours, theirs in zip(rates["evalsuite"], rates["trl"], strict=True)]
    medians = " | ".join(f"{statistics.median(each):.1f}" for each in rates.values())
    memory = " | ".join(f"{max(one['gb'] for one in each):.2f}" for each in found.values())
    return f"| {'packed' if packing else 'unpacked'} | {medians} | {summary(ratios)} | {memory} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="demo")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--packing", choices=("yes", "no", "both"), default="both")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        rate, loss = SIDES[arguments.side](arguments.base, arguments.steps, arguments.packing == "yes")
        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print("MEASURED " + json.dumps({"rate": rate, "loss": loss, "gb": peak / 2**20}))
        return
    chosen = {"yes": (True,), "no": (False,), "both": (True, False)}[arguments.packing]
    rows = [pairs(arguments, packing) for packing in chosen]
    print("\n| | evalsuite, tokens/s | trl, tokens/s | evalsuite / trl | evalsuite, GB | trl, GB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
