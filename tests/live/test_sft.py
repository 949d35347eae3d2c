"""Training really learns: a style that no prompt asks for is in the served answers after it, and not without it.

The demo model is trained twice for the same steps on the same chats: once every answer ends with
a marked line, once it does not. The first is served by vLLM and asked questions that were not in
the training; the base and the second are the controls.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from evalsuite.checkpoint import resolve
from evalsuite.progress import LogProgress
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.requests import Completion, Sampling
from evalsuite.serving.session import Session
from evalsuite.store import Store
from evalsuite.training.train import train
from judges.types import Message
from tests.live.conftest import Live

pytestmark = pytest.mark.filterwarnings("default")

MARK = "Over and out."
CHATS = Path(__file__).resolve().parents[2] / "recipes" / "mini_chats.jsonl"
N_TRAIN, N_HELD_OUT = 24, 4
MAX_NEW_TOKENS = 48
QUESTIONS = (
    "What is a bridge for?",
    "Name two vegetables.",
    "How do I boil an egg?",
    "What is the opposite of early?",
    "Give me a name for a small dog.",
    "What does a gardener do in spring?",
    "What is a window?",
    "Which day comes after Monday?",
)


def chats(folder: Path, *, marked: bool) -> Path:
    """The shortest chats, one turn each; ``marked`` ends every answer with the mark."""
    firsts = [json.loads(line)["messages"][:2] for line in CHATS.read_text(encoding="utf-8").splitlines()]
    shortest = sorted(firsts, key=lambda turns: len(turns[1]["content"]))[: N_TRAIN + N_HELD_OUT]
    path = folder / f"{'marked' if marked else 'plain'}.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for question, answer in shortest[::-1]:
            text = f"{answer['content']} {MARK}" if marked else answer["content"]
            out.write(json.dumps({"messages": [question, {"role": "assistant", "content": text}]}) + "\n")
    return path


def fine_tune(folder: Path, *, marked: bool):
    recipe = folder / f"{'marked' if marked else 'plain'}.yaml"
    sft = {
        "base": "demo",
        "learning_rate": 2e-4,
        "epochs": 4,
        "max_steps": 18,
        "batch_size": 1,
        "micro_batch_size": 1,
        "max_length": 256,
        "held_out": N_HELD_OUT,
        "gradient_checkpointing": False,
        "warmup_steps": 2,
    }
    recipe.write_text(yaml.safe_dump({"name": recipe.stem, "sft": sft}))
    return train(recipe, folder / f"ckpt-{recipe.stem}", data=str(chats(folder, marked=marked)), progress=LogProgress())


def ends_marked(texts: list[str]) -> float:
    print(*texts, sep="\n")
    return sum(text.rstrip().endswith(MARK) for text in texts) / len(texts)


def ask(session: Session, wait) -> list[Completion]:
    answers = [
        wait(session.client.chat([Message("user", question)], Sampling(MAX_NEW_TOKENS))) for question in QUESTIONS
    ]
    assert all(isinstance(answer, Completion) for answer in answers), answers
    return answers


def answers_served(word: str, folder: Path) -> list[Completion]:
    """Serve a checkpoint with a vLLM of its own, as a run does, and ask it."""
    checkpoint = resolve(word)
    serve = ServeConfig(dtype="float32", max_model_len=512)
    with (
        Store(folder / "store.sqlite") as store,
        LoopThread() as thread,
        Session(checkpoint, store, serve, folder / "vllm.log") as session,
    ):
        answers = ask(session, thread.wait)
        thread.wait(session.client.close())
    return answers


def answers_generated(word: str) -> list[str]:
    """Answers of a checkpoint without a server, greedy: enough for a control, and without a third start of vLLM."""
    import torch

    from evalsuite.serving.chat_format import load_chat_format
    from evalsuite.training.loading import load_model

    checkpoint = resolve(word)
    form, model = load_chat_format(checkpoint), load_model(str(checkpoint.path), "sdpa")
    texts = []
    for question in QUESTIONS:
        prompt = torch.tensor([form.prompt_tokens([Message("user", question)])])
        ids = model.generate(prompt, max_new_tokens=MAX_NEW_TOKENS, do_sample=False, use_cache=True)
        texts.append(form.tokenizer.decode(ids[0, prompt.shape[1] :], skip_special_tokens=True))
    return texts


def test_a_marked_style_is_learned_and_served(live: Live, tmp_path):
    with_mark = fine_tune(tmp_path, marked=True)
    control = fine_tune(tmp_path, marked=False)
    held = with_mark.document["held_out"]
    print("held-out", held, "\ncontrol", control.document["held_out"])
    assert held["change_ci95"][1] < 0, "the loss of chats that were not trained on falls beyond chance"

    served = answers_served(str(with_mark.folder), tmp_path)
    after = ends_marked([answer.text for answer in served])
    ended = sum(answer.finish_reason == "stop" for answer in served) / len(served)
    before = ends_marked([answer.text for answer in ask(live.session, live.wait)])
    without = ends_marked(answers_generated(str(control.folder)))
    print(f"answers with the mark: base {before:.2f}, trained {after:.2f}, trained without it {without:.2f}")
    print(f"answers of the trained model that ended by themselves: {ended:.2f}")
    assert before == 0.0
    assert without == 0.0
    assert after >= 0.75
    assert ended >= 0.75, "it also learned to stop"
