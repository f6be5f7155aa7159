"""One checkpoint of a sequence: some more edits in one model, then everything is asked.

The weights are always the unedited ones plus the sum of all patches so far, written anew for each
step. So a sequence that goes on from its kept state does exactly what an undisturbed one does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite
from time import perf_counter

import pyarrow as pa

from editsweep.core.types import CONDITION, EditRequest, Measurement, Phase, only_axes
from editsweep.editors.base import Edited, Editor, State, edit_next
from editsweep.metrics.suite import UNMET, measure, not_measured
from editsweep.model.asking import AskSettings
from editsweep.model.drift import Drift, drift
from editsweep.model.language_model import LanguageModel
from editsweep.model.merge import Packed, merged, pack, unpack
from editsweep.model.patch import Patch, added
from editsweep.model.restrain import Restraint
from editsweep.run.evaluate import Groups, answers_of, kept, outcomes_of, slices
from editsweep.run.rows import Answers, Base, Made, Row, Tables, UnitIds, counts, measured, tables

DRIFT = "drift"
RETAINED = ("reliability", "paraphrase", "reverse", "portability")


@dataclass(frozen=True, eq=False)
class Chain:
    """Where a sequence stands: the sum of its patches, and what its editor remembers.

    `done` edits have been tried, `failed` are the ids of those that could not be made.
    """

    patch: Patch = field(default_factory=Patch)
    state: State = field(default_factory=dict)
    done: int = 0
    failed: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: bytes, device: object = "cpu") -> "Chain":
        """What `bytes` gave; the start of a sequence if there are none.

        Raises:
            StoreError: the bytes are not a sequence's.
        """
        if not data:
            return cls()
        packed = unpack(data, "the state of a sequence", str(device))
        notes = packed.notes
        return cls(packed.patch, packed.beside, notes["done"], tuple(notes["failed"]))

    def bytes(self) -> bytes:
        """One safetensors file, that `model.merge.load_patch` reads too."""
        notes = {"done": self.done, "failed": list(self.failed)}
        return pack(Packed(self.patch, self.state, notes))


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a unit of a sequence is asked and where its rows belong.

    `steps` are the new edits, `again` the earlier ones that are asked again, `base` what the
    unedited model says to all of them. `restrain` is done to the sum of all patches before it is
    asked, and not carried on.
    """

    steps: Groups
    again: Sequence[EditRequest]
    base: pa.Table
    ids: UnitIds
    seed: int
    settings: AskSettings
    restrain: Restraint | None = None


def go_on(
    model: LanguageModel, editor: Editor, chain: Chain, checkpoint: Checkpoint
) -> tuple[Chain, Iterator[Tables]]:
    """Edit step after step on top of `chain`, then ask the model as it is after the last.

    Args:
        model: the unedited model; it is unedited afterwards too.
        editor: what makes each step's patch.
        chain: where the sequence stands.
        checkpoint: what to edit and to ask.

    Returns:
        Where the sequence stands now, and its tables, some tens of edits after others. Beside what
        a unit always has there are rows of the phase `retained` for earlier edits that were made,
        on every axis but locality, and of the axis `drift` at the last edit.
    """
    start, edits = perf_counter(), list[Made]()
    for group, requests in enumerate(checkpoint.steps):
        outcome, chain = _step(model, editor, chain, requests, checkpoint.seed)
        own = outcomes_of(requests, outcome)
        failed = [r.edit_id for r, one in zip(requests, own, strict=True) if one.error]
        for request, one in zip(requests, own, strict=True):
            position = checkpoint.ids.first_position + len(edits)
            edits.append(Made(request, position, checkpoint.ids.first_group + group, one))
        done = chain.done + len(requests)
        chain = Chain(chain.patch, chain.state, done, (*chain.failed, *failed))
    edit_s = (perf_counter() - start) / max(1, len(edits))
    return chain, _asked(model, chain, checkpoint, edits, edit_s)


def _step(
    model: LanguageModel,
    editor: Editor,
    chain: Chain,
    requests: Sequence[EditRequest],
    seed: int,
) -> tuple[Edited, Chain]:
    """One step; one that fails leaves the sequence where it was."""
    with merged(model, chain.patch):
        outcome, state = edit_next(editor, kept(requests), chain.state, seed)
    if outcome.error is not None:
        return outcome, chain
    patch = added(chain.patch, outcome.patch or Patch())
    return outcome, Chain(patch, state, chain.done, chain.failed)


def _asked(
    model: LanguageModel,
    chain: Chain,
    checkpoint: Checkpoint,
    edits: Sequence[Made],
    edit_s: float,
) -> Iterator[Tables]:
    base, ids, total = Base.of(checkpoint.base), checkpoint.ids, chain.patch
    if checkpoint.restrain is not None:
        total = checkpoint.restrain.apply(model, total)
    for part in slices(edits):
        begin = perf_counter()
        before = base.answers([edit.request for edit in part])
        done = [edit.request for edit in part if edit.outcome.error is None]
        after = _answers(model, total, done, before, checkpoint.settings)
        yield tables(part, before, after, ids, (edit_s, (perf_counter() - begin) / len(part)))
    failed = set(chain.failed)
    again = [
        Made(only_axes(request, RETAINED), 0, 0, Edited())
        for request in checkpoint.again
        if request.edit_id not in failed
    ]
    for part in slices(again):
        requests = [edit.request for edit in part]
        before = base.answers(requests)
        after = _answers(model, total, requests, before, checkpoint.settings)
        yield tables([], {}, {}, ids, (0.0, 0.0), _retained(requests, before, after, ids))
    moved = drift(model, total)
    last = edits[-1].request.edit_id
    yield tables([], {}, {}, ids, (0.0, 0.0), (measured(m, last, ids) for m in _drift(moved)))


def _answers(
    model: LanguageModel,
    patch: Patch,
    requests: Sequence[EditRequest],
    before: Answers,
    settings: AskSettings,
) -> Answers:
    """With the patch in the weights: it is one large change, and all questions share it."""
    with merged(model, patch):
        told = [Patch(prefix=patch.prefix)]
        one = {request.edit_id: 0 for request in requests}
        return answers_of(model, one, requests, told, before, settings)


def _retained(
    requests: Sequence[EditRequest], before: Answers, after: Answers, ids: UnitIds
) -> Iterator[Row]:
    for request in requests:
        for probe in request.all_probes:
            if probe.axis == CONDITION:
                continue
            key = request.edit_id, probe.probe_id
            found = (
                measure(probe, before[key], after[key], "retained")
                if counts(probe, request.edit_id, before)
                else not_measured(probe, before[key], UNMET, "retained")
            )
            yield from (measured(one, request.edit_id, ids) for one in found)


def _drift(moved: Drift) -> Iterator[Measurement]:
    values: list[tuple[str, str, Phase, float]] = [
        ("weight_norm", "weights", "post", moved.weight_norm),
        ("relative_norm", "weights", "post", moved.relative_norm),
        ("perplexity", "fixed_text", "pre", moved.before),
        ("perplexity", "fixed_text", "post", moved.after),
        ("collapsed", "fixed_text", "post", float(moved.collapsed)),
    ]
    for metric, protocol, phase, value in values:
        good = isfinite(value)
        status = "ok" if good else "not_finite"
        yield Measurement(
            DRIFT, DRIFT, "", metric, protocol, phase, value if good else None, status
        )
