"""Training tokens per second: `evalsuite sft` against plain trl with the same recipe, on this machine.

    python bench/sft.py [--base demo] [--steps 4] [--repeats 3]

Both train the same conversations from the same weights with the same batch, precision and
attention; trl gets the conversations as messages and a template with generation marks, and packs
or pads as the recipe says. Loading does not count. Prints medians over the repeats, which alternate.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

CHATS = Path(__file__).resolve().parents[1] / "recipes" / "mini_chats.jsonl"
# A message in the demo model's template, and the same with the generation marks that trl needs.
MESSAGE = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
MARKED_MESSAGE = (
    "{{'<|im_start|>' + message['role'] + '\n'}}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{message['content'] + '<|im_end|>'}}{% endgeneration %}"
    "{% else %}{{message['content'] + '<|im_end|>'}}{% endif %}{{'\n'}}"
)
MAX_LENGTH, BATCH = 256, 2


def evalsuite_sft(base: str, steps: int) -> tuple[float, float]:
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
            "gradient_checkpointing": False,
            "save_every_steps": 1000,
            "warmup_steps": 0,
        }
        recipe.write_text(yaml.safe_dump({"name": "bench", "sft": sft}))
        document = train(recipe, Path(folder) / "out", data=str(CHATS)).document
        return document["tokens_per_second"], document["loss"][-1][1]


def plain_trl(base: str, steps: int) -> tuple[float, float]:
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
            packing=True,
            assistant_only_loss=True,
            lr_scheduler_type="cosine",
            seed=0,
            data_seed=0,
            bf16=False,
            use_cpu=True,
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="demo")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    words = parser.parse_args()
    rates: dict[str, list[float]] = {"evalsuite": [], "trl": []}
    for _ in range(words.repeats):
        for name, side in (("evalsuite", evalsuite_sft), ("trl", plain_trl)):
            rate, loss = side(words.base, words.steps)
            rates[name].append(rate)
            print(f"{name:9} {rate:8.1f} tokens/s   loss {loss:.4f}", flush=True)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    # Consecutive runs share the load of the machine, so only their ratio is compared.
    ratios = [mine / theirs for mine, theirs in zip(rates["evalsuite"], rates["trl"], strict=True)]
    print(
        f"medians: evalsuite {medians['evalsuite']:.1f}, trl {medians['trl']:.1f} tokens/s; ratio of consecutive runs "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}; goal 1.0 or more)"
    )


if __name__ == "__main__":
    main()
