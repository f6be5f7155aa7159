"""Units of a batch and of a sequence, on a tiny model, without plan or store."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from editsweep.core import schema
from editsweep.core.types import EditRequest, Regime
from editsweep.editors.base import Asset, Edited
from editsweep.editors.ft import FtSpec
from editsweep.editors.memit import MemitSpec
from editsweep.editors.none import NoneSpec
from editsweep.errors import EditError, StoreError
from editsweep.model.merge import merged
from editsweep.model.patch import Dense, Patch
from editsweep.model.restrain import Restraint
from editsweep.run import evaluate as module
from editsweep.run.chain import Chain, Checkpoint, go_on
from editsweep.run.evaluate import AskSettings, UnitIds, ask_base, evaluate, failed_unit, joined
from editsweep.testing import tiny_model, tiny_requests

SETTINGS = AskSettings(("reliability",), 2)
IDS = UnitIds("s", "c", "u")


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def other(request, target):
    """The same fact with another target."""
    return EditRequest.of(request.subject.upper(), request.prompt, target, relation="lives in")


def test_of_edits_that_contradict_each_other_the_last_is_made(model):
    first, second = tiny_requests(2)
    last = other(first, "Atlantis")
    seen = []

    class Spy:
        def edit(self, groups, seed):
            seen.extend(groups)
            return [Edited(Patch()) for _ in groups]

    group = [first, second, last]
    tables = evaluate(model, Spy(), [group], ask_base(model, group, SETTINGS), IDS, 0, SETTINGS)
    assert seen == [[second, last]]
    rows = tables["edits"].to_pylist()
    assert [row["status"] for row in rows] == ["failed", "ok", "ok"]
    assert rows[0]["error_kind"] == "superseded"
    assert "Atlantis" in rows[0]["error_text"]
    assert last.edit_id in rows[0]["error_text"]
    lost = [r for r in tables["measurements"].to_pylist() if r["status"] == "superseded"]
    assert {row["edit_id"] for row in lost} == {first.edit_id}
    assert {(row["phase"], row["value"]) for row in lost} == {("post", None)}


def test_an_edit_that_the_editor_leaves_out_is_a_failure_and_the_others_are_not(model):
    first, second, third = tiny_requests(3)
    last = other(first, "Atlantis")

    class Picky:
        def edit(self, groups, seed):
            return [Edited(Patch(), left_out={1: EditError("refused", "not this one")})]

    group = [first, second, third, last]
    tables = evaluate(model, Picky(), [group], ask_base(model, group, SETTINGS), IDS, 0, SETTINGS)
    kinds = [row["error_kind"] for row in tables["edits"].to_pylist()]
    # Index 1 of what the editor was given, which is without the contradicted first.
    assert kinds == ["superseded", None, "refused", None]


@pytest.mark.parametrize("good", [0, 1])
def test_each_row_of_a_batch_says_what_came_of_its_own_edit(model, good):
    spec = MemitSpec(layers=(0, 1), moment="identity", contexts=0, steps=2)
    editor = spec.build(model, {"contexts": Asset(meta={"templates": []})})
    bad = [EditRequest.of(None, f"{name} lives in", "Rome") for name in ("Ada", "Bao")]
    group = [*bad, *tiny_requests(good)]
    tables = evaluate(model, editor, [group], ask_base(model, group, SETTINGS), IDS, 0, SETTINGS)
    kinds = [row["error_kind"] for row in tables["edits"].to_pylist()]
    assert kinds == ["no_subject"] * 2 + [None] * good
    after = [r for r in tables["measurements"].to_pylist() if r["phase"] == "post"]
    made = {row["edit_id"] for row in after if row["value"] is not None}
    assert made == {request.edit_id for request in group[2:]}
    assert {r["status"] for r in after if r["edit_id"] not in made} == {"no_subject"}


def test_nothing_contradicts_in_models_of_their_own(model):
    first = tiny_requests(1)[0]
    pair = [first, other(first, "Atlantis")]
    base = ask_base(model, pair, SETTINGS)
    tables = evaluate(
        model, NoneSpec().build(model, {}), [[r] for r in pair], base, IDS, 0, SETTINGS
    )
    assert tables["edits"]["status"].to_pylist() == ["ok", "ok"]


def test_slices_do_not_change_the_tables(model, monkeypatch):
    requests = tiny_requests(7)
    groups = Regime("batch", 3).groups(requests)
    base, editor = ask_base(model, requests, SETTINGS), FtSpec(steps=2).build(model, {})
    whole = evaluate(model, editor, groups, base, IDS, 0, SETTINGS)
    monkeypatch.setattr(module, "SLICE", 2)
    cut = evaluate(model, editor, groups, base, IDS, 0, SETTINGS)
    lost = failed_unit(groups, base, IDS, "kind", "text")
    for kind, names in (
        ("edits", ["edit_id", "position", "group", "status", "patch_norm"]),
        ("measurements", ["edit_id", "probe_id", "metric", "phase"]),
        ("answers", ["edit_id", "probe_id", "text"]),
    ):
        assert cut[kind].select(names) == whole[kind].select(names)
        assert len(lost[kind]) == len(whole[kind])
    values = zip(*(t["measurements"]["value"].to_pylist() for t in (whole, cut)), strict=True)
    assert all(one == pytest.approx(two, abs=1e-4) for one, two in values)


def test_a_unit_without_answers_is_an_error_and_not_a_row(model):
    requests = tiny_requests(2)
    base = ask_base(model, requests[:1], SETTINGS)
    with pytest.raises(KeyError):
        evaluate(model, NoneSpec().build(model, {}), [requests], base, IDS, 0, SETTINGS)


class Pusher:
    """Adds 1 to the weight at [step, 0]; `refuse` are the subjects that it cannot do."""

    def __init__(self, model, refuse=()):
        self.name, self.model, self.refuse = model.mlp_out(0), model, set(refuse)
        self.saw = []

    def edit_next(self, group, state, seed):
        weight = self.model.weight(self.name)
        self.saw.append(weight[:, 0].clone())
        if self.refuse & {request.subject for request in group}:
            return Edited(error=EditError("refused", "no")), state
        place = int(state.get("place", torch.zeros(1)))
        change = torch.zeros_like(weight)
        change[place, 0] = 1
        return Edited(Patch({self.name: Dense(change)})), {"place": torch.tensor([place + 1.0])}

    edit = None


def checkpoint(model, steps, again=(), ids=IDS):
    asked = [*again, *(request for step in steps for request in step)]
    return Checkpoint(steps, again, ask_base(model, asked, SETTINGS), ids, 0, SETTINGS)


def run(model, editor, chain, point):
    chain, parts = go_on(model, editor, chain, point)
    return chain, joined(parts)


class Strong(Pusher):
    """A hundred times as much."""

    def edit_next(self, group, state, seed):
        edited, state = super().edit_next(group, state, seed)
        change = edited.patch.adds[self.name]
        return Edited(Patch({self.name: Dense(100 * change.d)})), state


def test_each_step_sees_the_ones_before_it(model):
    requests = tiny_requests(3)
    before = model.weight(model.mlp_out(0)).clone()
    editor = Pusher(model, [requests[1].subject])
    chain, tables = run(model, editor, Chain(), checkpoint(model, [[r] for r in requests]))
    seen = [(column - before[:, 0]).round().nonzero()[:, 0].tolist() for column in editor.saw]
    assert seen == [[], [0], [0]]
    assert torch.equal(model.weight(model.mlp_out(0)), before)
    assert chain.done == 3
    assert chain.failed == (requests[1].edit_id,)
    assert chain.patch.norm == pytest.approx(2**0.5)
    rows = tables["edits"].to_pylist()
    assert [r["error_kind"] for r in rows] == [None, "refused", None]
    assert [r["patch_norm"] for r in rows] == [1, None, 1]
    assert [r["position"] for r in rows] == [r["group"] for r in rows] == [0, 1, 2]


def test_all_are_asked_of_the_model_after_the_last_step(model):
    requests = tiny_requests(2)
    editor = FtSpec(steps=3).build(model, {})
    chain, tables = run(model, editor, Chain(), checkpoint(model, [[r] for r in requests]))
    found = [r for r in tables["answers"].to_pylist() if r["axis"] == "reliability"]
    with merged(model, chain.patch):
        said = ask_base(model, requests, SETTINGS)
    now = {(r["edit_id"], r["probe_id"], r["text"]): r["logprobs"] for r in said.to_pylist()}
    for row in found:
        key = row["edit_id"], row["probe_id"], row["text"]
        assert row["post_logprobs"] == pytest.approx(now[key], abs=1e-4)


def test_prune_holds_down_what_is_asked_and_not_what_is_carried_on(model):
    requests = tiny_requests(2)
    steps, base = [[r] for r in requests], ask_base(model, requests, SETTINGS)
    norms = {}
    for name, restrain in (("free", None), ("held", Restraint.parse({"prune": 1e6}))):
        editor = Strong(model)
        point = Checkpoint(steps, (), base, IDS, 0, SETTINGS, restrain)
        chain, made = go_on(model, editor, Chain(), point)
        rows = joined(made)["measurements"].to_pylist()
        norms[name] = (
            next(r["value"] for r in rows if r["metric"] == "weight_norm"),
            chain.patch.norm,
        )
    assert norms["held"][0] < norms["free"][0] == pytest.approx(norms["free"][1])
    assert norms["held"][1] == norms["free"][1]


def test_earlier_edits_are_asked_again_unless_they_failed(model):
    requests = tiny_requests(4)
    editor = Pusher(model, [requests[0].subject])
    chain, _ = run(model, editor, Chain(), checkpoint(model, [[requests[0]], [requests[1]]]))
    point = checkpoint(
        model, [[r] for r in requests[2:]], requests[:2], UnitIds("s", "c", "v", 2, 2)
    )
    chain, tables = run(model, editor, Chain.of(chain.bytes()), point)
    rows = tables["measurements"].to_pylist()
    kept = [r for r in rows if r["phase"] == "retained"]
    assert {r["edit_id"] for r in kept} == {requests[1].edit_id}
    assert {r["unit_id"] for r in kept} == {"v"}
    assert {r["axis"] for r in kept} == {"reliability", "paraphrase", "reverse", "portability"}
    new = {r.edit_id for r in requests[2:]}
    assert {r["edit_id"] for r in rows if r["phase"] != "retained"} == new
    assert set(tables["answers"]["edit_id"].to_pylist()) == new
    assert tables["edits"]["position"].to_pylist() == [2, 3]


def test_drift_stands_at_the_last_edit(model):
    requests = tiny_requests(3)
    chain, tables = run(
        model, Pusher(model), Chain(), checkpoint(model, [requests[:2], requests[2:]])
    )
    rows = [r for r in tables["measurements"].to_pylist() if r["axis"] == "drift"]
    assert {(r["edit_id"], r["probe_id"]) for r in rows} == {(requests[2].edit_id, "drift")}
    values = {(r["metric"], r["phase"]): r["value"] for r in rows}
    assert values["weight_norm", "post"] == pytest.approx(chain.patch.norm)
    assert values["collapsed", "post"] == 0
    assert set(values) == {
        *((m, "post") for m in ("weight_norm", "relative_norm", "perplexity", "collapsed")),
        ("perplexity", "pre"),
    }


class Breaker:
    """Makes the model say nothing that is a number, though its patch is finite."""

    def __init__(self, model):
        self.model = model

    def edit(self, groups, seed):
        name = self.model.mlp_out(0)
        huge = torch.full_like(self.model.weight(name), 3e38)
        return [Edited(Patch({name: Dense(huge)})) for _ in groups]


def test_a_model_that_is_no_longer_one_has_collapsed(model):
    _, tables = run(model, Breaker(model), Chain(), checkpoint(model, [tiny_requests(1)]))
    rows = {r["metric"]: r for r in tables["measurements"].to_pylist() if r["axis"] == "drift"}
    assert rows["collapsed"]["value"] == 1
    assert (rows["perplexity"]["value"], rows["perplexity"]["status"]) == (None, "not_finite")


def test_a_step_of_several_edits_drops_what_it_contradicts_itself(model):
    first, second = tiny_requests(2)
    step = [first, second, other(first, "Atlantis")]
    chain, tables = run(model, Pusher(model), Chain(), checkpoint(model, [step]))
    assert Counter(tables["edits"]["error_kind"].to_pylist()) == {"superseded": 1, None: 2}
    assert chain.failed == (first.edit_id,)


def test_the_state_of_a_sequence_comes_back_as_it_was(model):
    name = model.mlp_out(0)
    change = torch.randn(model.weight(name).shape).T.contiguous().T
    half = torch.arange(6.0).view(2, 3)
    state = {"a.b": half[0], "same.memory": half[0], "none": torch.empty(0), "n": torch.tensor(3)}
    chain = Chain(Patch({name: Dense(change)}, "so "), state, 7, ("x",))
    back = Chain.of(chain.bytes())
    assert back.bytes() == chain.bytes()
    assert torch.equal(back.patch.adds[name].delta(), change)
    assert (back.patch.prefix, back.done, back.failed) == ("so ", 7, ("x",))
    assert {k: v.tolist() for k, v in back.state.items()} == {
        k: v.tolist() for k, v in state.items()
    }
    assert Chain.of(b"").done == 0
    with pytest.raises(StoreError, match="the state of a sequence"):
        Chain.of(chain.bytes()[:-1])


def many(n):
    """So many requests that are asked their own prompt only."""
    return [EditRequest.of(f"Person {i}", "{} lives in", "Rome") for i in range(n)]


@pytest.mark.slow
def test_ten_thousand_edits_in_one_model(model):
    requests, quiet = many(10_000), AskSettings(())
    wide = replace(model, token_budget=16384)
    (group,) = Regime.parse({"batch": 10_000}).groups(requests)
    base = ask_base(wide, requests, quiet)
    tables = evaluate(wide, FtSpec(steps=1).build(wide, {}), [group], base, IDS, 0, quiet)
    assert tables["edits"]["status"].to_pylist() == ["ok"] * 10_000
    assert len(set(tables["edits"]["patch_norm"].to_pylist())) == 1
    assert schema.from_ipc(schema.to_ipc(tables["measurements"])).equals(tables["measurements"])
