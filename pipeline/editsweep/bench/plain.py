"""The plain loop, as the field's scripts write it: what the engine is measured against.

One edit at a time. Weights are written, every continuation of every probe is asked in a forward of
its own, weights are restored. Prompts of an optimisation have a forward each too, or, as in the
published code of ROME, share one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from editsweep.core.types import EditRequest
from editsweep.editors.adapters import Adapters
from editsweep.editors.ft import FtSpec
from editsweep.editors.ft_w import Ftw, FtwSpec
from editsweep.editors.one_matrix import OneMatrix
from editsweep.editors.rank_one import RankOne
from editsweep.editors.spreading import Spreading, Value
from editsweep.editors.tuned import Descent
from editsweep.locate.facts import FactRow, fact_rows
from editsweep.locate.value import Search
from editsweep.model.hooks import Addend, adding, reading
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Patch
from editsweep.model.scoring import log_softmax
from editsweep.model.tokens import encode, join


@torch.no_grad()
def ask(model: LanguageModel, request: EditRequest, prefix: str = "") -> list[float]:
    """Mean log-likelihood of each continuation of each probe, one forward each."""
    said = []
    for probe in request.all_probes:
        start = prefix + probe.prompt
        for text in (*probe.answers, *probe.unwanted):
            (code,) = encode(model.tokenizer, [join(start, text)], [len(start)])
            logits = model.module(torch.tensor([code.ids], device=model.device)).logits[0].float()
            logp = torch.log_softmax(logits, -1)[code.start - 1 : -1]
            wanted = torch.tensor(code.ids[code.start :], device=model.device)
            said.append(float(logp.gather(1, wanted[:, None]).mean()))
    return said


@contextmanager
def written(weight: Tensor, delta: Tensor) -> Iterator[None]:
    """Within the block the weight holds the edit."""
    original = weight.detach().clone()
    with torch.no_grad():
        weight.add_(delta)
    try:
        yield
    finally:
        with torch.no_grad():
            weight.copy_(original)


def ft(model: LanguageModel, spec: FtSpec, layer: int, request: EditRequest) -> Tensor:
    """The change [d_out, d_in] that fine-tuning gives; the weight is as before afterwards."""
    name = model.mlp_out(layer)
    return dense(model, (name,), spec.descent, request)[name]


def ft_l(edit: OneMatrix, request: EditRequest) -> dict[str, Tensor]:
    """The change [d_out, d_in] that FT-L gives, by matrix."""
    names = (edit.model.mlp_out(edit.layer),)
    return dense(edit.model, names, edit.descent, request, prompt_last=True, clamp=edit.clamp)


def ft_w(edit: Ftw, request: EditRequest) -> dict[str, Tensor]:
    """The changes [d_out, d_in] that FT-W gives, by matrix."""
    names, spec = edit.model.block_matrices(edit.layer), edit.spec
    last = spec.objective == "prompt_last"
    return dense(edit.model, names, spec, request, prompt_last=last, decay=spec.decay(1))


def dense(
    model: LanguageModel,
    names: tuple[str, ...],
    spec: FtwSpec | Descent,
    request: EditRequest,
    prompt_last: bool = False,
    clamp: float | None = None,
    decay: float = 0.0,
) -> dict[str, Tensor]:
    """Torch's Adam on the weights themselves; the changes, and the weights are as before."""
    weights = {name: model.module.get_submodule(name).weight for name in names}
    original = {name: weight.detach().clone() for name, weight in weights.items()}
    ids, start = _ids(model, request)
    for weight in weights.values():
        weight.requires_grad_()
    adam = torch.optim.Adam(weights.values(), lr=spec.rate, weight_decay=decay)
    for _ in range(spec.steps):
        loss = _nll(model, ids, start, prompt_last)
        if spec.stop is not None and loss < spec.stop:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        for name, weight in weights.items() if clamp is not None else ():
            with torch.no_grad():
                weight.clamp_(original[name] - clamp, original[name] + clamp)
    made = {}
    for name, weight in weights.items():
        weight.requires_grad_(False)
        weight.grad = None
        with torch.no_grad():
            delta = weight - original[name]
            weight.copy_(original[name])
        made[name] = delta.T if model.family.transposed else delta
    return made


def lora(edit: Adapters, request: EditRequest) -> dict[str, Tensor]:
    """The changes [d_out, d_in] that a LoRA adapter gives, by matrix."""
    model, spec = edit.model, edit.spec
    held = {n: t.to(model.device).requires_grad_() for n, t in edit.start([request], 0).items()}
    ids, start = _ids(model, request)
    adam = torch.optim.Adam(held.values(), lr=spec.rate)

    def addend(name: str) -> Addend:
        a, b = spec.factors(held, name)
        return lambda x: (x @ a.T) @ b

    for _ in range(spec.steps):
        with adding(model, {name: addend(name) for name in edit.modules}):
            loss = _nll(model, ids, start, prompt_last=False)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return {n: spec.change(held, n).delta().detach() for n in edit.modules}


def _ids(model: LanguageModel, request: EditRequest) -> tuple[Tensor, int]:
    text = join(request.question, request.target_new)
    (code,) = encode(model.tokenizer, [text], [len(request.question)])
    return torch.tensor([code.ids], device=model.device), code.start


def _nll(model: LanguageModel, ids: Tensor, start: int, prompt_last: bool) -> Tensor:
    """Mean over the target's tokens, each read at its own place or all at the prompt's end."""
    logp = torch.log_softmax(model.module(ids).logits[0].float(), -1)[start - 1 : -1]
    if prompt_last:
        logp = logp[:1].expand(ids.shape[1] - start, -1)
    return -logp.gather(1, ids[0, start:, None]).mean()


def rome(edit: RankOne, request: EditRequest, rows_at_once: int) -> Tensor:
    """The change that ROME or R-ROME gives, whole rows through the whole model in every step."""
    model, module = edit.model, edit.model.mlp_out(edit.layer)
    rows = fact_rows(model, edit.templates, request)
    seen = [_seen(model, module, r.row.ids, r.row.start) for r in rows[:-1]]
    keys, outputs = (torch.stack(column) for column in zip(*seen, strict=True))
    direction = keys[0] if edit.direction == "prompt" else keys.mean(0)
    key, output = (t[0] if edit.reaches == "prompt" else t.mean(0) for t in (keys, outputs))
    u = F.normalize(edit.metric.directions(direction[None])[0], dim=0).to(keys.dtype)
    start = outputs[0]
    delta, _ = _search(model, module, rows, edit.search, float(start.norm()), rows_at_once)
    return torch.outer((start + delta - output) / (key @ u), u)


def spread(edit: Spreading, request: EditRequest) -> Patch:
    """The patch of an editor that spreads a value; only the search is done the plain way."""
    model, layer = edit.model, edit.layers[-1]
    rows = fact_rows(model, edit.templates, request)
    block = f"{model.family.blocks}.{layer}"
    _, stream = _seen(model, block, rows[0].row.ids, rows[0].row.start)
    # What is added to the MLP's output is added to the block's.
    size = float(stream.norm())
    delta, losses = _search(model, model.mlp_out(layer), rows, edit.search, size, len(rows))
    (patch,) = edit.written([[request]], [[Value(stream + delta, losses)]], {})
    return patch


def _search(
    model: LanguageModel,
    module: str,
    rows: Sequence[FactRow],
    search: Search,
    size: float,
    rows_at_once: int,
) -> tuple[Tensor, tuple[float, ...]]:
    """δ at `module`, and the losses; `size` is ‖v₀‖.

    `rows_at_once` is how many of the edit's rows share a forward: all, as published code has it,
    or one.
    """
    templates, bare = rows[:-1], rows[-1]
    delta = torch.zeros(len(model.weight(model.mlp_out(0))), requires_grad=True)
    adam = torch.optim.Adam([delta], lr=search.rate)
    before: Tensor | None = None
    losses: list[float] = []
    for step in range(1, search.steps + 1):
        total, gradient = 0.0, torch.zeros_like(delta)
        for first in range(0, len(rows), rows_at_once):
            part = rows[first : first + rows_at_once]
            places = [(r.row.ids, r.row.start) for r in part]
            loss = torch.zeros(())
            for r, logp in zip(part, _logits(model, module, places, delta), strict=True):
                if r is bare:
                    after = logp[r.row.start]
                    before = after.detach() if before is None else before
                    loss = loss + search.divergence * (after.exp() * (after - before)).sum()
                    loss = loss + search.penalty * delta.norm() / size**2
                else:
                    wanted, end = torch.tensor(r.targets), len(r.row.ids)
                    own = logp[end - len(wanted) : end].gather(1, wanted[:, None])
                    loss = loss - own.mean() / len(templates)
            gradient += torch.autograd.grad(loss, delta)[0]
            total += float(loss.detach())
        losses.append(total)
        if total < search.stop or step == search.steps:
            break
        delta.grad = gradient
        adam.step()
        with torch.no_grad():
            delta *= min(1.0, search.clamp * size / float(delta.norm()))
    return delta.detach(), tuple(losses)


@torch.no_grad()
def _seen(
    model: LanguageModel, module: str, ids: tuple[int, ...], place: int
) -> tuple[Tensor, Tensor]:
    """Input and output of `module` at one token, by a forward of its own."""
    seen: list[tuple[Tensor, Any]] = []
    with reading(model, module, lambda x, y: seen.append((x, y))):
        model.module(torch.tensor([ids]))
    x, y = seen[0]
    return x[0, place], (y[0] if isinstance(y, tuple) else y)[0, place]


def _logits(
    model: LanguageModel, module: str, rows: list[tuple[tuple[int, ...], int]], delta: Tensor
) -> Tensor:
    """Log-probabilities [rows, tokens, vocabulary] with δ added at each row's place."""
    width = max(len(ids) for ids, _ in rows)
    pad = model.tokenizer.pad_token_id
    batch = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids, _ in rows])
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows])
    places = torch.tensor([place for _, place in rows])
    at = torch.zeros(len(rows), width).scatter(1, places[:, None], 1.0)
    with adding(model, {module: lambda _: at[..., None] * delta}):
        output = model.module.base_model(batch, attention_mask=mask, use_cache=False)
    return log_softmax(model, output.last_hidden_state)
