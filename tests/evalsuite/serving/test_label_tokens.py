"""Which tokens of a tokenizer are a label."""

import pytest

from evalsuite.errors import UsageError
from evalsuite.serving.label_tokens import MAX_IDS, by_text, label_tokens
from judges.labels import read_labels, spellings


class Tokenizer:
    """A vocabulary; ``boundary`` is what stands for a word boundary, put before every text as SentencePiece does."""

    unk_token_id = 0

    def __init__(self, *tokens, boundary=""):
        self.ids = {token: number for number, token in enumerate(tokens, 1)}
        self.boundary = boundary

    def encode(self, text, add_special_tokens=False):
        whole = self.boundary + text
        return [self.ids[whole]] if whole in self.ids else [self.ids.get(letter, 0) for letter in whole]

    def convert_tokens_to_ids(self, token):
        return self.ids.get(token, self.unk_token_id)


def test_spellings_that_are_one_token_are_asked_for():
    tokenizer = Tokenizer("A", "B", " A", " B", "a", "(A", "other")
    ids = label_tokens(tokenizer, "AB", spellings("AB"))
    assert ids == {1: "A", 2: "B", 3: " A", 4: " B", 5: "a", 6: "(A"}
    assert label_tokens(tokenizer, "AB") == {1: "A", 2: "B"}, "without spellings the labels alone"


def test_a_label_with_and_without_a_word_boundary_has_two_tokens():
    tokenizer = Tokenizer("_A", "_B", "A", "B", boundary="_")
    ids = label_tokens(tokenizer, "AB", spellings("AB"))
    assert ids == {1: "A", 2: "B", 3: "A", 4: "B"}
    found = by_text(ids, {1: -1.0, 2: -2.0, 3: -3.0, 4: -4.0})
    assert found == {"A": -1.0, "B": -2.0, " A": -3.0, " B": -4.0}
    assert set(read_labels(found, "AB").logprobs) == {"A", "B"}


def test_no_more_tokens_than_a_server_returns():
    letters = "ABCDEFGHIJ"
    texts = [*letters, *spellings(letters)]
    assert len(label_tokens(Tokenizer(*texts), letters, texts)) == MAX_IDS


def test_a_label_of_several_tokens_is_refused():
    with pytest.raises(UsageError, match="no single token for 'AB'"):
        label_tokens(Tokenizer("A", "B"), ("AB",))
