"""The upload, against a fake hub that records the calls."""

from __future__ import annotations

import pytest
import yaml

from evalsuite.errors import DataError
from evalsuite.generation.card import push
from evalsuite.generation.run import generate
from tests.evalsuite.generation_endpoint import answering, config, write_chats
from tests.evalsuite.stub_endpoint import StubEndpoint


class Hub:
    def __init__(self, error=None):
        self.calls = []
        self.error = error

    def __getattr__(self, name):
        def call(*arguments, **options):
            if self.error:
                raise self.error
            self.calls.append((name, arguments, options))

        return call


@pytest.fixture
def generated(tmp_path):
    chats = write_chats(tmp_path / "chats.jsonl", 4)
    with StubEndpoint(answering) as stub, StubEndpoint(answering, model="other") as other:
        one = generate(config(stub, chats, tmp_path / "one"))
        two = generate(config(stub, chats, tmp_path / "two", models=[f"stub@{stub.url}", f"other@{other.url}"]))
    return one, two


def test_only_shards_manifest_and_card_are_uploaded(generated):
    one, two = generated
    hub = Hub()
    assert push("org/chats", one, public=False, api=hub) == "https://huggingface.co/datasets/org/chats"
    assert [name for name, _, _ in hub.calls] == ["create_repo", "upload_folder", "upload_file"]
    assert hub.calls[0][2]["private"] is True
    assert hub.calls[1][2]["allow_patterns"] == ["part-*.parquet", "_manifest*.json"]
    card = hub.calls[2][2]["path_or_fileobj"].decode()
    head = yaml.safe_load(card.split("---")[1])
    assert head["configs"] == [{"config_name": "stub", "data_files": [{"split": "train", "path": "part-*.parquet"}]}]
    assert "`chats.jsonl`" in card
    assert "| 4 | 7 | 0 | 14 | policy own, max_new_tokens 8, temperature 0.7, seed 0 |" in card
    assert str(one.folders[0].parent) not in card
    # Four conversations of one to three user turns.
    assert "| user turns | 4 | 1 | 1 | 3 | 3 | 3 |" in card
    assert "- answers ended: stop 7" in card
    assert "user:\n\n    question 0.0" in card
    several = Hub()
    push("org/chats", two, public=True, api=several)
    assert several.calls[0][2]["private"] is False
    assert [options["path_in_repo"] for _, _, options in several.calls[1:3]] == [folder.name for folder in two.folders]


def test_an_upload_error_is_one_sentence(generated):
    with pytest.raises(DataError, match=r"cannot upload to org/chats \(401 Unauthorized\); log in"):
        push("org/chats", generated[0], public=False, api=Hub(OSError("401 Unauthorized\nmore")))
