import pytest
import torch

from editsweep.model.generation import extend, greedy, natural_part, sample, write
from editsweep.model.patch import LowRank, Patch
from editsweep.model.tiny import TINY_TYPES, tiny_model

PROMPTS = ["The capital of France is", "Rome", "She lives in London; he was born in Vienna and"]


def step_by_step(model, ids, count):
    """Greedy decoding with the whole text read anew for each token."""
    ids = list(ids)
    for _ in range(count):
        ids.append(int(model.module(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_batched_greedy_equals_one_prompt_without_cache(model_type):
    model = tiny_model(model_type)
    ids = [model.tokenizer(p)["input_ids"] for p in PROMPTS]
    made = extend(model, ids, [None] * 3, 5, lambda logp, _: logp.argmax(-1))
    for start, added in zip(ids, made, strict=True):
        full = step_by_step(model, start, 5)[len(start) :]
        assert full[: len(added)] == added
        assert len(added) == 5 or full[len(added)] == model.tokenizer.eos_token_id


def test_each_row_speaks_under_its_own_patch():
    model = tiny_model()
    name = model.mlp_out(1)
    d_out, d_in = model.weight(name).shape
    strong = Patch({name: LowRank(torch.ones(1, d_in), 3 * torch.ones(1, d_out))})
    mixed = greedy(model, [PROMPTS[0], PROMPTS[0]], [None, strong], 6)
    alone = [greedy(model, [PROMPTS[0]], [p], 6)[0] for p in (None, strong)]
    assert mixed == alone
    assert mixed[0] != mixed[1]


def test_a_prefix_is_read_before_the_prompt():
    model = tiny_model()
    joined = greedy(model, ["New Fact: x\nPrompt: Rome"], [None], 4)
    assert greedy(model, ["Rome"], [Patch(prefix="New Fact: x\nPrompt: ")], 4) == joined


def test_sampling_is_seeded_and_leaves_the_global_state():
    model = tiny_model()
    state = torch.random.get_rng_state()
    one = sample(model, ["The", "You"], 6, 5, seed=1)
    assert one == sample(model, ["The", "You"], 6, 5, seed=1)
    assert one != sample(model, ["The", "You"], 6, 5, seed=2)
    assert one[0].startswith("The")
    assert torch.equal(state, torch.random.get_rng_state())


def test_no_prompts():
    assert greedy(tiny_model(), [], [], 3) == []


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (" Paris. It is large.", " Paris."),
        (" Paris", " Paris"),
        ("\n\nParis\nis large", "\n\nParis"),
        (" St. Louis, in the U.S. and", " St. Louis, in the U.S. and"),
        (" 3.5 million. That", " 3.5 million."),
        ("李宏毅。他是", "李宏毅。"),
        (" Why? Because", " Why?"),
        (" J. R. R. Tolkien", " J. R. R. Tolkien"),
        ("", ""),
    ],
)
def test_an_answer_ends_with_its_line_or_sentence(text, part):
    assert natural_part(text) == part


def test_rows_that_are_done_leave_and_the_others_do_not_notice():
    model = tiny_model()
    ids = [model.tokenizer(p)["input_ids"] for p in PROMPTS * 2]
    lengths = (1, 2, 9, 1, 1, 5)
    asked = []

    def choose(logp, rows):
        """The likeliest token, and before that the row's number."""
        first = not asked
        asked.append(list(rows))
        return torch.tensor([10 + row for row in rows]) if first else logp.argmax(-1)

    free = extend(model, ids, [None] * 6, 9, choose)
    asked.clear()
    made = extend(model, ids, [None] * 6, 9, choose, lambda row: len(row) >= lengths[row[0] - 10])
    for length, row, whole in zip(lengths, made, free, strict=True):
        assert row[:length] == whole[:length]
    assert [len(rows) for rows in asked] == [6, 3, 3, 3, 3, 1, 1, 1, 1]


def test_a_text_of_its_own_dice_does_not_depend_on_the_others():
    model = tiny_model()
    patch = Patch(prefix="Rome. ")
    texts = write(model, PROMPTS, [None, patch, None], 24, 5, [1, 2, 3])
    alone = write(model, PROMPTS[1:2], [patch], 24, 5, [2])
    assert texts[1] == alone[0]
    assert texts[1] != write(model, PROMPTS[1:2], [patch], 24, 5, [3])[0]
    for prompt, text in zip(PROMPTS, texts, strict=True):
        assert len(model.tokenizer(prompt)["input_ids"]) < 24
        assert text
    assert write(model, ["word " * 40], [None], 10, 5, [1])[0]
