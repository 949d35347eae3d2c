"""Packing several conversations into one window, if the model provably keeps them apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Losses of the same tokens differ by rounding only; attending across a border changes them by far more.
LEAK_TOLERANCE = 1e-4
LEAK_TOLERANCE_BF16 = 2e-2
_LENGTHS = (24, 17)


def packing_leak(model: Any, pad_id: int) -> float:
    """Return how much a sample's loss changes when another sample precedes it in its window, in nats per token.

    Two samples of pseudo-random tokens are run packed, in the form of trl's packed windows, and
    separately. The larger of the two changes is returned.
    """
    import torch
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    vocabulary = model.get_input_embeddings().weight.shape[0]
    drawn = torch.randint(0, vocabulary, (sum(_LENGTHS),), generator=torch.Generator().manual_seed(0)).tolist()
    samples = [drawn[: _LENGTHS[0]], drawn[_LENGTHS[0] :]]
    collate = DataCollatorForLanguageModeling(pad_token_id=pad_id, padding_free=True)

    def losses(window: list[list[int]]) -> list[float]:
        ids = [token for sample in window for token in sample]
        batch = collate([{"input_ids": ids, "labels": ids, "seq_lengths": [len(sample) for sample in window]}])
        batch = {key: value.to(model.device) if hasattr(value, "to") else value for key, value in batch.items()}
        del batch["labels"]
        logits = model(**batch, use_cache=False).logits[0].float()
        means, start = [], 0
        for sample in window:
            targets = torch.tensor(sample[1:], device=logits.device)
            part = logits[start : start + len(sample) - 1]
            means.append(float(torch.nn.functional.cross_entropy(part, targets)))
            start += len(sample)
        return means

    was_training = model.training
    model.eval()
    with torch.no_grad():
        alone = [losses([sample])[0] for sample in samples]
        packed = losses(samples)
    model.train(was_training)
    return max(abs(a - b) for a, b in zip(alone, packed, strict=True))


def pack(tokens: Path, folder: Path, max_length: int) -> int:
    """Pack ``tokens`` (train.arrow) into windows of ``max_length`` in ``folder`` and return their number.

    Best fit decreasing, within batches of 1,000 conversations. None is cut, as none is longer than the window.
    """
    from datasets import Dataset, disable_progress_bars
    from trl import pack_dataset

    disable_progress_bars()
    rows = Dataset.from_file(str(tokens)).select_columns(["input_ids", "labels"])
    windows = pack_dataset(rows, max_length, strategy="bfd", map_kwargs={"keep_in_memory": len(rows) < 2000})
    windows.save_to_disk(str(folder))
    return len(windows)
