import torch
from hypothesis import given
from hypothesis import strategies as st

from editsweep.model.packing import Query, batches, rows_of, tensors

ids = st.lists(st.integers(0, 3), min_size=2, max_size=8).map(tuple)


@st.composite
def queries(draw):
    made = []
    for _ in range(draw(st.integers(1, 20))):
        tokens = draw(ids)
        made.append(Query(draw(st.integers(0, 2)), tokens, draw(st.integers(1, len(tokens) - 1))))
    return made


def path_to(row, node):
    tokens = []
    while node >= 0:
        tokens.append(row.tokens[node])
        node = row.parents[node]
    return tokens[::-1]


@given(queries(), st.integers(4, 40))
def test_every_scored_position_has_exactly_its_own_past(asked, budget):
    seen = set()
    for row in rows_of(asked, budget):
        for index, places in row.places.items():
            query = asked[index]
            assert row.patch == query.patch
            for place, end in zip(places, range(query.start, len(query.ids)), strict=True):
                assert path_to(row, place) == list(query.ids[:end])
            seen.add(index)
    assert seen == set(range(len(asked)))


@given(queries(), st.integers(4, 40))
def test_a_token_sees_its_ancestors_only(asked, budget):
    for batch in batches(rows_of(asked, budget), budget):
        _, positions, sees = tensors(batch, pad=9)
        for i, row in enumerate(batch):
            for node, depth in enumerate(row.depths):
                past = [n for n in range(sees.shape[-1]) if sees[i, 0, node, n]]
                assert [row.tokens[n] for n in past] == path_to(row, node)
                assert positions[i, node] == depth == len(past) - 1


def test_shared_beginnings_are_read_once():
    long = tuple(range(10, 30))
    asked = [Query(0, (*long, 1, 2), 20), Query(0, (*long, 1, 3), 20), Query(0, (*long, 4, 5), 20)]
    (row,) = rows_of(asked, 1000)
    assert len(row.tokens) == 20 + 2


def test_a_long_shared_beginning_is_not_computed_twice():
    long = tuple(range(1000, 1400))
    asked = [Query(0, (*long, *range(i, i + 50)), 420) for i in range(0, 400, 50)]
    assert len(rows_of(asked, 4096)) == 1
    short = [Query(0, (7, *range(i, i + 50)), 20) for i in range(100, 1000, 50)]
    assert len(rows_of(short, 4096)) > 1


def test_batches_stay_within_the_budget():
    asked = [Query(p, (1, *range(p * 9, p * 9 + 9)), 3) for p in range(50)]
    sizes = [len(b) * max(len(r.tokens) for r in b) for b in batches(rows_of(asked, 40), 40)]
    assert max(sizes) <= 40
    assert torch.tensor(sizes).sum() >= 50 * 9
