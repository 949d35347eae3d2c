import math

import pytest

from judges.labels import read_labels, spellings


def logs(**probabilities):
    return {text: math.log(p) for text, p in probabilities.items()}


def test_spellings_of_two_letters():
    found = spellings(("A", "B"))
    assert {" A", "a", " b", "(A", "[[A", '"B', "A.", "**A", " [A"} <= set(found)
    assert "A" not in found, "the labels themselves are asked for anyway"
    assert len(set(found)) == len(found)
    assert found.index(" A") < found.index("A.")


def test_labels_that_differ_by_case_keep_their_case():
    found = spellings(("m", "M"))
    assert not {"m", "M"} & set(found)
    assert read_labels({"m": -1.0, " M": -0.1}, ("m", "M")).logprobs == {"m": -1.0}


def test_the_spellings_of_a_label_are_summed():
    read = read_labels(
        {"A": math.log(0.1), " A": math.log(0.2), "a.": math.log(0.3), "B": math.log(0.05), "I": -0.1}, "AB"
    )
    assert math.exp(read.logprobs["A"]) == pytest.approx(0.6)
    assert math.exp(read.logprobs["B"]) == pytest.approx(0.05)
    assert read.mass == pytest.approx(0.65)


def test_what_is_no_label_has_no_mass():
    read = read_labels({"I": -0.001, "AB": -1.0, "An": -2.0}, "AB")
    assert (dict(read.logprobs), read.mass) == ({}, 0.0)


def test_a_log_probability_that_is_none_is_passed_on():
    assert math.isnan(read_labels({"A": math.nan, " A": -1.0}, "AB").logprobs["A"])
