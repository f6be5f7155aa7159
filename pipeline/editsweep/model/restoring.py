"""The two runs between which causal tracing restores, and restoring at many sites in one pass.

Left of the restored token and below the restored block everything is as in the corrupted run. So
that is run once, with the keys and values of every block kept; a pass over sites begins at the
block and at the token that it restores, and takes the rest from there. Sites of one fact lie behind
one another in a row, each seeing the corrupted run up to its token and then only itself, so nothing
is padding. It is exact.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from transformers import DynamicCache

from editsweep.model.facts import Fact
from editsweep.model.hooks import entering, held, moved, only_blocks, reading
from editsweep.model.language_model import LanguageModel
from editsweep.model.scoring import final_hidden, log_softmax
from editsweep.model.upper import TokenRows

Kind = Literal["state", "mlp", "attention"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Site:
    """A token of fact number `fact` at which something is restored."""

    fact: int
    token: int


@dataclass(frozen=True)
class Runs:
    """F facts, run clean and, R times each, with noise on their subjects; T tokens, the longest.

    `answer` [F] are the traced tokens, `high` [F] and `low` [F] their clean and corrupted
    probabilities. `clean[kind][layer]` [F, T, d] is what that part of the block returned in the clean
    run, `entered[layer]` [F·R, T, d] what entered the block in the corrupted ones (with one more, what
    left the last block), `past[layer]` its keys and values there [F·R, T, heads, d_head].
    """

    model: LanguageModel
    ids: Tensor
    lengths: Tensor
    samples: int
    answer: Tensor
    high: Tensor
    low: Tensor
    clean: Mapping[Kind, Sequence[Tensor]]
    entered: Sequence[Tensor]
    past: Sequence[tuple[Tensor, Tensor]]

    @classmethod
    @torch.no_grad()
    def of(cls, model: LanguageModel, facts: Sequence[Fact], noise: Sequence[Tensor]) -> "Runs":
        """Both runs; `noise` [R, subject tokens, d] is added to each fact's subject."""
        samples = len(noise[0])
        rows = TokenRows.of(model, [fact.ids for fact in facts])
        lengths = rows.real.sum(1)
        clean: dict[Kind, list[Tensor]] = {kind: [] for kind in KINDS}
        with ExitStack() as stack:
            for kind, layer in ((k, n) for k in KINDS for n in range(model.depth)):
                keep = _keep(clean[kind])
                stack.enter_context(reading(model, part(model, kind, layer), keep))
            hidden = final_hidden(model, rows.ids, rows.positions, rows.sees)
        each = torch.arange(len(facts), device=model.device)
        chances = log_softmax(model, hidden[each, lengths - 1]).exp()
        given = [-1 if fact.answer is None else fact.answer for fact in facts]
        answer = torch.tensor(given, device=model.device)
        answer = torch.where(answer < 0, chances.argmax(1), answer)
        entered, past, final = _corrupted(model, facts, noise)
        last = final[torch.arange(len(final)), (lengths - 1).repeat_interleave(samples)]
        low = log_softmax(model, last).exp().gather(1, answer.repeat_interleave(samples)[:, None])
        high = chances.gather(1, answer[:, None])[:, 0]
        low = low.reshape(-1, samples).mean(1)
        return cls(model, rows.ids, lengths, samples, answer, high, low, clean, entered, past)

    @torch.no_grad()
    def restored(self, kind: Kind, layers: range, sites: Sequence[Site]) -> Tensor:
        """Mean probability of the answer with one part of each of `layers` restored [sites]."""
        made = torch.empty(len(sites), device=self.model.device)
        for lines in self._passes(sites):
            order = [index for line in lines for index in line]
            made[order] = self._pass(kind, layers, [[sites[i] for i in line] for line in lines])
        return made

    def _passes(self, sites: Sequence[Site]) -> Iterator[list[list[int]]]:
        """Lines of sites of one fact, by number; lines of like width share a pass."""
        lengths = self.lengths.tolist()
        width = [lengths[site.fact] - site.token for site in sites]
        widest = max(LINE, *width)
        lines: list[list[int]] = []
        for i, site in enumerate(sites):
            fits = lines and sites[lines[-1][0]].fact == site.fact
            if not fits or sum(width[k] for k in lines[-1]) + width[i] > widest:
                lines.append([])
            lines[-1].append(i)
        size = {id(line): sum(width[k] for k in line) for line in lines}
        batch: list[list[int]] = []
        for line in sorted(lines, key=lambda line: -size[id(line)]):
            first = size[id(batch[0])] if batch else 0
            full = self.samples * (len(batch) + 1) * first > self.model.token_budget
            if batch and (full or size[id(line)] < MIN_FILL * first):
                yield batch
                batch = []
            batch.append(line)
        if batch:
            yield batch

    def _pass(self, kind: Kind, layers: range, lines: Sequence[Sequence[Site]]) -> Tensor:
        model, grid = self.model, _Grid.of(self, lines)
        # What a block returns is what enters the next, so a restored state needs no hook.
        first = layers.stop if kind == "state" else layers.start
        hidden = self.entered[first][grid.row[:, None], grid.place]
        if kind == "state":
            hidden[grid.site_row, grid.site_column] = self._at_sites(kind, layers.start, grid)
            layers = range(0)
        values = {part(model, kind, n): self._at_sites(kind, n, grid) for n in layers}
        norm = model.module.get_submodule(model.family.final_norm)
        entrance = model.blocks[first] if first < model.depth else norm
        ids, cached = self.ids[grid.fact[:, None], grid.place], self._cache(first, grid)
        with (
            # Of the last block only what is read out must be right.
            only_at(model, part(model, "mlp", model.depth - 1), grid.site_row, grid.site_last),
            restoring(model, values, grid.site_row, grid.site_column),
            only_blocks(model, first),
            entering(entrance, hidden),
        ):
            final = final_hidden(model, ids, grid.place, grid.sees, **cached)
        logp = log_softmax(model, final[grid.site_row, grid.site_last])
        answer = self.answer[grid.site_fact][:, None]
        return logp.gather(1, answer).exp().reshape(-1, self.samples).mean(1)

    def _at_sites(self, kind: Kind, layer: int, grid: "_Grid") -> Tensor:
        """What the part returned at each site in the clean run [sites · R, d]."""
        return self.clean[kind][layer][grid.site_fact, grid.site_token]

    def _cache(self, first: int, grid: "_Grid") -> dict[str, Any]:
        """The corrupted run's keys and values, as far as a site of the pass looks back."""
        if not grid.before:
            return {}
        cache = DynamicCache()
        for layer in range(first, self.model.depth):
            keys, values = (x[grid.row.to(x.device), : grid.before] for x in self.past[layer])
            cache.update(keys.transpose(1, 2), values.transpose(1, 2), layer)
        return {"past_key_values": cache, "use_cache": True}


# Tokens of a line at most, since its attention grows with their square; and how much of the widest
# line another must fill to share its pass.
LINE = 256
MIN_FILL = 0.8


@dataclass(frozen=True)
class _Grid:
    """N rows, R for each line of sites of one fact, W columns: each site's token and what follows it.

    `fact` [N] and `row` [N] say which fact and which corrupted row it is; `place` [N, W] is each
    column's place in the prompt. A column sees the corrupted run left of its site (the first `before`
    places) and its own site's columns up to itself: `sees` [N, 1, W, before + W]. By site and sample
    [sites · R]: `site_row`, `site_column` and `site_last`, the column of the last token.
    """

    fact: Tensor
    row: Tensor
    place: Tensor
    sees: Tensor
    before: int
    site_fact: Tensor
    site_token: Tensor
    site_row: Tensor
    site_column: Tensor
    site_last: Tensor

    @classmethod
    def of(cls, runs: Runs, lines: Sequence[Sequence[Site]]) -> "_Grid":
        device, samples = runs.ids.device, runs.samples
        lengths = runs.lengths.tolist()
        spans = [[range(site.token, lengths[site.fact]) for site in line] for line in lines]
        width = max(sum(map(len, line)) for line in spans)
        place = torch.zeros(len(lines), width, dtype=torch.long)
        owner = torch.full((len(lines), width), -1)  # the site's token, -1 for padding
        marks: list[tuple[int, int, int, int, int]] = []
        for n, (line, taken) in enumerate(zip(lines, spans, strict=True)):
            start = 0
            for site, span in zip(line, taken, strict=True):
                stop = start + len(span)
                place[n, start:stop], owner[n, start:stop] = torch.tensor(span), site.token
                marks.append((site.fact, site.token, n, start, stop - 1))
                start = stop
        before = int(owner.max())
        left = torch.arange(before) < owner[:, :, None]
        same = owner[:, :, None] == owner[:, None, :]
        # Padding sees only padding; nobody else sees that.
        sees = torch.cat([left, same & torch.ones(width, width, dtype=torch.bool).tril()], 2)
        each = torch.arange(samples)
        fact = torch.tensor([line[0].fact for line in lines])
        by_site = torch.tensor(marks).repeat_interleave(samples, 0)
        by_site[:, 2] = by_site[:, 2] * samples + each.repeat(len(marks))
        site_fact, site_token, site_row, column, last = by_site.T.to(device)
        return cls(
            fact=fact.repeat_interleave(samples).to(device),
            row=(fact[:, None] * samples + each).flatten().to(device),
            place=place.repeat_interleave(samples, 0).to(device),
            sees=sees.repeat_interleave(samples, 0)[:, None].to(device),
            before=before,
            site_fact=site_fact,
            site_token=site_token,
            site_row=site_row,
            site_column=column,
            site_last=last,
        )


def part(model: LanguageModel, kind: Kind, layer: int) -> str:
    """The module whose output is restored: a block, its MLP or its attention."""
    below: Mapping[Kind, str] = {
        "state": "",
        "mlp": f".{model.family.mlp}",
        "attention": f".{model.family.attention}",
    }
    return f"{model.family.blocks}.{layer}{below[kind]}"


@contextmanager
def restoring(
    model: LanguageModel, values: Mapping[str, Tensor], row: Tensor, column: Tensor
) -> Iterator[None]:
    """Within the block, module `name` returns values[name] [sites, d] at (row, column) [sites]."""

    def hook(value: Tensor) -> Any:
        def restore(_module: Any, _args: Any, output: Any) -> None:
            bare = _bare(output)
            at, given = moved(((row, column), value), bare.device)
            bare[at] = given

        return restore

    with held(
        model.module.get_submodule(name).register_forward_hook(hook(value))
        for name, value in values.items()
    ):
        yield


@contextmanager
def only_at(model: LanguageModel, name: str, row: Tensor, column: Tensor) -> Iterator[None]:
    """Within the block, the MLP `name` is computed at (row, column) [places] alone, and else 0.

    An MLP sees one token at a time, so it is the same there.
    """
    module = model.module.get_submodule(name)
    shape: list[torch.Size] = []

    def gather(_module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        shape.append(args[0].shape)
        return (args[0][moved((row, column), args[0].device)][None], *args[1:])

    def scatter(_module: Any, _args: Any, output: Tensor) -> Tensor:
        whole = output.new_zeros(*shape.pop()[:2], output.shape[-1])
        whole[moved((row, column), output.device)] = output[0]
        return whole

    with held([module.register_forward_pre_hook(gather), module.register_forward_hook(scatter)]):
        yield


@contextmanager
def noisy(model: LanguageModel, noise: Tensor) -> Iterator[None]:
    """Within the block, `noise` [rows, tokens, d] is added to what the embedding returns."""
    embedding = model.module.get_input_embeddings()
    with held([embedding.register_forward_hook(lambda _module, _args, output: output + noise)]):
        yield


def _corrupted(
    model: LanguageModel, facts: Sequence[Fact], noise: Sequence[Tensor]
) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]], Tensor]:
    """What entered each block and left the last, keys and values, and the final hidden states."""
    samples = len(noise[0])
    rows = TokenRows.of(model, [fact.ids for fact in facts for _ in range(samples)])
    added = noise[0].new_zeros(*rows.ids.shape, noise[0].shape[-1])
    for i, (fact, drawn) in enumerate(zip(facts, noise, strict=True)):
        added[i * samples : (i + 1) * samples, fact.span.start : fact.span.stop] = drawn
    entered: list[Tensor] = []
    cache: Any = DynamicCache()
    norm = model.family.final_norm
    entrances = [part(model, "state", layer) for layer in range(model.depth)] + [norm]
    with ExitStack() as stack:
        stack.enter_context(noisy(model, added.to(model.device, model.module.dtype)))
        for name in entrances:
            stack.enter_context(reading(model, name, lambda x, _: entered.append(x)))
        final = final_hidden(
            model, rows.ids, rows.positions, rows.sees, past_key_values=cache, use_cache=True
        )
    past = [(kept.keys.transpose(1, 2), kept.values.transpose(1, 2)) for kept in cache.layers]
    return entered, past, final


def _keep(into: list[Tensor]) -> Any:
    return lambda _input, output: into.append(_bare(output))


def _bare(output: Any) -> Tensor:
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden
