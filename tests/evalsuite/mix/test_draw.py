"""The draw depends only on seed and content, is without replacement, and has equal shares."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.fingerprint import key_of
from evalsuite.mix.draw import Allocation, batches, blend_order, candidates_of, ranks
from evalsuite.mix.rows import Pool

OFFERS = st.lists(st.sets(st.integers(0, 2), min_size=1).map(sorted), max_size=14).map(
    lambda sets: [(key_of(str(number)), members) for number, members in enumerate(sets)]
)
SHARES = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))


def pool(keys, texts=None, rows=None, contents=None) -> Pool:
    return Pool(
        len(keys),
        {},
        {},
        np.array(keys, dtype=np.uint64),
        np.array(keys if texts is None else texts, dtype=np.uint64),
        np.array(keys if contents is None else contents, dtype=np.uint64),
        np.array(range(len(keys)) if rows is None else rows, dtype=np.int64),
    )


def allocate(offers, shares):
    """Return the member of each offer, or None if the shares cannot be filled."""
    allocation = Allocation(offers, len(shares))
    allocation.fill(shares)
    return None if any(allocation.quota) else allocation.taken


def can_be_allocated(offers, shares) -> bool:
    """Hall's condition: every group of members has enough offers."""
    members = range(len(shares))
    return all(
        sum(bool(set(group) & set(owners)) for _, owners in offers) >= sum(shares[member] for member in group)
        for size in range(1, len(shares) + 1)
        for group in combinations(members, size)
    )


def test_ranks_are_splitmix64():
    # The first output of splitmix64 from state 0, as published with it.
    start = np.array([key_of("draw\x1f0")], dtype=np.uint64)
    assert ranks(start, 0, "draw")[0] == np.uint64(0xE220A8397B1DCDAF)


def test_keys_are_the_same_on_every_machine():
    # BLAKE2b with 8 bytes of output, from coreutils' `printf abc | b2sum -l 64`.
    assert key_of("abc") == 0xD8BB14D833D59559


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=40), st.integers(0, 9), st.randoms())
def test_the_draw_does_not_depend_on_the_order_of_rows(keys, seed, random):
    shuffled = random.sample(keys, len(keys))
    assert list(candidates_of([pool(keys)], seed, exact=True).keys) == list(
        candidates_of([pool(shuffled)], seed, exact=True).keys
    )


def test_different_seeds_draw_different_rows():
    keys = [key_of(str(number)) for number in range(200)]
    first, second = ({*candidates_of([pool(keys)], seed, exact=True).keys[:50].tolist()} for seed in (1, 2))
    # Two independent samples of 50 of 200 share 12.5 rows on average, with a standard deviation of 2.7.
    assert 2 <= len(first & second) <= 24


def test_every_row_is_equally_likely():
    keys = [key_of(str(number)) for number in range(20)]
    drawn = Counter()
    for seed in range(2000):
        drawn.update(candidates_of([pool(keys)], seed, exact=True).keys[:5].tolist())
    # Binomial(2000, 1/4): mean 500, standard deviation 19.4.
    assert all(abs(drawn[key] - 500) < 5 * 19.4 for key in keys)


def test_equal_texts_are_one_candidate_unless_duplicates_are_kept():
    rows = pool([1, 2, 3, 3], texts=[7, 7, 8, 8])
    exact = candidates_of([rows], 0, exact=True)
    assert (len(exact), exact.repeated) == (2, (2,))
    kept = candidates_of([rows], 0, exact=False)
    assert sorted(kept.rows[:, 0]) == [0, 1, 2, 3]
    assert len(set(kept.keys.tolist())) == 4


def test_a_blend_aligns_the_members_rows_of_one_conversation():
    both = candidates_of([pool([10, 20, 30]), pool([20, 30, 30, 40])], 0, exact=True)
    rows = {int(key): tuple(row) for key, row in zip(both.keys, both.rows.tolist(), strict=True)}
    assert rows == {10: (0, -1), 20: (1, 0), 30: (2, 1), 40: (-1, 3)}
    assert both.repeated == (0, 1)


def test_of_rows_with_equal_texts_the_content_decides_and_not_the_index():
    rows = [(10, 7, 501), (10, 7, 500), (20, 8, 502)]
    other = pool([30])
    for order in (rows, rows[::-1]):
        keys, texts, contents = zip(*order, strict=True)
        drawn = candidates_of([pool(keys, texts, contents=contents), other], 0, exact=True)
        indices = dict(zip(drawn.keys.tolist(), drawn.rows[:, 0].tolist(), strict=True))
        assert {key: contents[i] for key, i in indices.items() if i >= 0} == {10: 500, 20: 502}


@settings(max_examples=200, deadline=None)
@given(OFFERS, SHARES)
def test_shares_are_filled_if_and_only_if_possible(offers, shares):
    taken = allocate(offers, shares)
    assert (taken is not None) == can_be_allocated(offers, shares)
    if taken is not None:
        counts = Counter(member for member in taken if member >= 0)
        assert tuple(counts[member] for member in range(3)) == shares
        assert all(member < 0 or member in owners for member, (_, owners) in zip(taken, offers, strict=True))


@settings(max_examples=100, deadline=None)
@given(OFFERS, SHARES)
def test_no_earlier_offer_is_dropped_for_a_later_one(offers, shares):
    taken = allocate(offers, shares)
    if taken is None:
        return
    kept: list[int] = []
    for number in range(len(offers)):
        # An offer is drawn if it can be allocated together with all earlier drawn ones.
        group = [offers[i] for i in [*kept, number]]
        if can_hold(group, shares):
            kept.append(number)
    assert [number for number, member in enumerate(taken) if member >= 0] == kept


def can_hold(group, shares) -> bool:
    """Return whether every offer of ``group`` fits in the shares: Hall's condition for the offers."""
    return all(
        sum(set(owners) <= set(members) for _, owners in group) <= sum(shares[member] for member in members)
        for size in range(1, len(shares) + 1)
        for members in combinations(range(len(shares)), size)
    )


def test_a_full_member_moves_a_conversation_to_another():
    # The first can go to either; only member 0 has the others.
    taken = allocate([(0, [0, 1]), (0, [0]), (1, [0])], [2, 1])
    assert taken == [1, 0, 0]


@settings(max_examples=300, deadline=None)
@given(OFFERS)
def test_a_blend_is_drawn_in_the_maximum_number_of_rounds(offers):
    order = blend_order(offers, 3)
    assert len({offer for offer, _ in order}) == len(order)
    assert all(member in offers[offer][1] for offer, member in order)
    # Any draw is a prefix of this order: at each length the shares must differ by at most one.
    counts = Counter({0: 0, 1: 0, 2: 0})
    for _, member in order:
        counts[member] += 1
        assert max(counts.values()) - min(counts.values()) <= 1
    rounds = len(order) // 3
    assert can_be_allocated(offers, (rounds,) * 3)
    assert not can_be_allocated(offers, (rounds + 1,) * 3)


@given(st.integers(2, 5), st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=40))
def test_if_every_member_has_everything_the_first_are_drawn(members, keys):
    order = blend_order([(key, range(members)) for key in keys], members)
    for n in range(len(keys) + 1):
        assert {offer for offer, _ in order[:n]} == set(range(n))


def test_conversations_are_left_to_a_short_member():
    # Member 1 has three of eight, all of which are needed for three rounds.
    offers = [(number, [0, 1] if number < 3 else [0]) for number in range(8)]
    order = blend_order(offers, 2)
    assert {offer for offer, member in order if member == 1} == {0, 1, 2}
    assert Counter(member for _, member in order) == {0: 4, 1: 3}


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 500), st.none() | st.integers(1, 400))
def test_batches_cover_every_candidate_once(n_candidates, wanted):
    assert [i for batch in batches(n_candidates, wanted) for i in batch] == list(range(n_candidates))
