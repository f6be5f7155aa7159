"""Edits per second, editing and asking together: the engine against the plain loop.

Both do the same edits on the same model with the same threads, in turn, in one run; figures of
different runs do not compare, ratios within one do. Prints Markdown.
"""

import argparse
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from editsweep.bench import memory, plain
from editsweep.core.types import Corpus, EditRequest
from editsweep.data.registry import load as load_data
from editsweep.data.texts import statements
from editsweep.editors.adalora import AdaLoraSpec
from editsweep.editors.alphaedit import AlphaEditSpec
from editsweep.editors.base import Asset, Editor, EditorSpec
from editsweep.editors.emmet import EmmetSpec
from editsweep.editors.enn import EnnSpec
from editsweep.editors.ft import FtSpec
from editsweep.editors.ft_l import FtlSpec
from editsweep.editors.ft_w import FtwSpec
from editsweep.editors.ike import IkeSpec
from editsweep.editors.ke import KeSpec
from editsweep.editors.lora import LoraSpec
from editsweep.editors.malmen import MalmenSpec
from editsweep.editors.memit import MemitSpec
from editsweep.editors.mend import MendSpec
from editsweep.editors.none import NoneSpec
from editsweep.editors.pmet import PmetSpec
from editsweep.editors.r_rome import RRomeSpec
from editsweep.editors.rank_one import RankOne
from editsweep.editors.rome import RomeSpec
from editsweep.editors.spreading import Spreading
from editsweep.editors.ultraedit import UltraEditSpec
from editsweep.learn.network import make_network
from editsweep.model.asking import AskSettings
from editsweep.model.language_model import LanguageModel
from editsweep.model.load import load
from editsweep.model.merge import merged
from editsweep.model.patch import Dense, Patch
from editsweep.run.evaluate import UnitIds, ask_base, evaluate

LearnedSpec = KeSpec | MendSpec | MalmenSpec | EnnSpec

SILENT = AskSettings(generate=(), kl=False)  # the plain loop does neither


@dataclass(frozen=True)
class Contest:
    """One editor both ways; `plain_edit` edits and asks one request the plain way."""

    editor: Editor
    plain_edit: Callable[[EditRequest], object]


def main() -> None:
    """Run it; `--help` says how much."""
    parser = argparse.ArgumentParser(prog="python -m editsweep.bench", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--edits", type=int, default=10, help="edits for the engine")
    parser.add_argument("--plain-edits", type=int, default=2, help="of these, for the plain loop")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="*", choices=CONTESTS, default=list(CONTESTS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load(options.model)
    requests = load_data("world", "test", limit=options.edits).requests
    base = ask_base(model, requests, SILENT)
    rate = matmul_rate()
    print(
        f"{platform.processor() or platform.machine()}, {options.threads} threads, "
        f"torch {torch.__version__}, {model.name}, world:test, {len(requests)} edits; "
        f"matrix multiplication {rate / 1e9:.0f} GFLOP/s\n"
    )
    print(
        "| editor | engine, edits/s | plain loop, edits/s | ratio | edit s | ask s | peak MB an edit "
        "| of peak FLOP/s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in options.only:
        contest = CONTESTS[name](model)
        few = requests[: max(1, options.plain_edits)]
        slow = [timed(contest.plain_edit, request) for request in few]
        edit_s, ask_s, flops, megabytes = engine(model, contest.editor, requests, base)
        fast = (edit_s + ask_s) / len(requests)
        plain_s = sum(slow) / len(slow)
        print(
            f"| {name} | {1 / fast:.2f} | {1 / plain_s:.3f} | {plain_s / fast:.1f} | "
            f"{edit_s / len(requests):.3f} | {ask_s / len(requests):.3f} | "
            f"{megabytes / len(requests):.0f} | {flops / (edit_s + ask_s) / rate:.0%} |",
            flush=True,
        )


def none_contest(model: LanguageModel) -> Contest:
    """Asking alone."""
    return Contest(built(NoneSpec(), model), lambda request: plain.ask(model, request))


def ft_contest(model: LanguageModel) -> Contest:
    """Fine-tuning one matrix, then asking."""
    spec, layer = FtSpec(), model.checked_layer(None, 0.7)
    weight = model.weight(model.mlp_out(layer))

    def edit(request: EditRequest) -> None:
        with plain.written(weight, plain.ft(model, spec, layer, request)):
            plain.ask(model, request)

    return Contest(built(spec, model), edit)


def rank_one_contest(model: LanguageModel, spec: EditorSpec, rows_at_once: int) -> Contest:
    """One rank-one change, then asking; the plain loop searches with that many rows a forward."""
    editor = built(spec, model)
    assert isinstance(editor, RankOne)
    weight = model.weight(model.mlp_out(editor.layer))

    def edit(request: EditRequest) -> None:
        with plain.written(weight, plain.rome(editor, request, rows_at_once)):
            plain.ask(model, request)

    return Contest(editor, edit)


def spread_contest(model: LanguageModel, spec: EditorSpec) -> Contest:
    """A value searched and spread over layers, then asking."""
    editor = built(spec, model)
    assert isinstance(editor, Spreading)

    def edit(request: EditRequest) -> None:
        with merged(model, plain.spread(editor, request)):
            plain.ask(model, request)

    return Contest(editor, edit)


def learned_contest(model: LanguageModel, spec: LearnedSpec) -> Contest:
    """An untrained network, which costs what a trained one does, then asking."""
    network = make_network(spec.network, model, seed=0)
    return alone_contest(model, spec.build(model, {"network": Asset(network.state_dict())}))


def trained_contest(
    model: LanguageModel,
    spec: EditorSpec,
    plainly: Callable[[Any, EditRequest], Mapping[str, torch.Tensor]],
) -> Contest:
    """What is trained at edit time, with `plainly` giving the same changes by torch's own Adam."""
    editor = built(spec, model)

    def edit(request: EditRequest) -> None:
        changes = {name: Dense(delta) for name, delta in plainly(editor, request).items()}
        with merged(model, Patch(changes)):
            plain.ask(model, request)

    return Contest(editor, edit)


def alone_contest(model: LanguageModel, editor: Editor) -> Contest:
    """The engine's own editor with one edit at a time, then asking with the weights written."""

    def edit(request: EditRequest) -> None:
        (edited,) = editor.edit([[request]], 0)
        assert edited.patch
        with merged(model, edited.patch):
            plain.ask(model, request)

    return Contest(editor, edit)


def ike_contest(model: LanguageModel) -> Contest:
    """Demonstrations in front of every prompt."""
    ike = built(IkeSpec(), model)

    def edit(request: EditRequest) -> None:
        (edited,) = ike.edit([[request]], 0)
        plain.ask(model, request, edited.patch.prefix if edited.patch else "")

    return Contest(ike, edit)


CONTESTS: Mapping[str, Callable[[LanguageModel], Contest]] = {
    "none": none_contest,
    "ft": ft_contest,
    "rome": lambda model: rank_one_contest(model, RomeSpec(), 1),
    "rome, rows batched": lambda model: rank_one_contest(model, RomeSpec(), 10**6),
    "r-rome": lambda model: rank_one_contest(model, RRomeSpec(), 10**6),
    "memit": lambda model: spread_contest(model, MemitSpec()),
    "pmet": lambda model: alone_contest(model, built(PmetSpec(), model)),
    "emmet": lambda model: spread_contest(model, EmmetSpec()),
    "alphaedit": lambda model: spread_contest(model, AlphaEditSpec()),
    "ft-l": lambda model: trained_contest(model, FtlSpec(), plain.ft_l),
    "ft-w": lambda model: trained_contest(model, FtwSpec(), plain.ft_w),
    "lora": lambda model: trained_contest(model, LoraSpec(), plain.lora),
    "adalora": lambda model: alone_contest(model, built(AdaLoraSpec(), model)),
    "ultraedit": lambda model: alone_contest(model, built(UltraEditSpec(), model)),
    "ike": ike_contest,
    "ke": lambda model: learned_contest(model, KeSpec()),
    "mend": lambda model: learned_contest(model, MendSpec()),
    "malmen": lambda model: learned_contest(model, MalmenSpec()),
    "enn": lambda model: learned_contest(model, EnnSpec()),
}


def built(spec: EditorSpec, model: LanguageModel) -> Editor:
    """The editor with its assets, made from the train split of `world`."""
    needs = spec.requirements()
    train = load_data("world", "train").requests if needs else ()
    corpus = Corpus(train, tuple(statements(train)))
    return spec.build(model, {name: need.make(model, corpus) for name, need in needs.items()})


def engine(
    model: LanguageModel, editor: Editor, requests: Sequence[EditRequest], base: object
) -> tuple[float, float, float, float]:
    """Seconds of editing and of asking, floating-point operations and peak MB of all `requests`."""
    groups = [[request] for request in requests]

    def run() -> tuple[float, float]:
        tables = evaluate(model, editor, groups, base, UnitIds("", "", ""), 0, SILENT)
        rows = tables["edits"].to_pydict()
        return sum(rows["edit_s"]), sum(rows["probe_s"])

    # Memory of the first run, which also holds what later ones find made.
    with memory.Peak() as peak, FlopCounterMode(display=False) as counter:
        run()
    return *run(), float(counter.get_total_flops()), peak.megabytes


def timed(work: Callable[[EditRequest], object], request: EditRequest) -> float:
    """Seconds of `work`."""
    start = perf_counter()
    work(request)
    return perf_counter() - start


def matmul_rate(size: int = 2048, times: int = 5) -> float:
    """Floating-point operations a second of square float32 products, the best of a few."""
    a, best = torch.ones(size, size), 0.0
    for _ in range(times):
        start = perf_counter()
        _ = a @ a
        best = max(best, 2 * size**3 / (perf_counter() - start))
    return best


if __name__ == "__main__":
    main()
