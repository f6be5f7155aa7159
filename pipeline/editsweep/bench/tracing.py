"""Tracing one fact: many sites a pass, against one site a forward.

The plain way runs the whole prompt for each site, one clean row and the corrupted ones, as the
published code does; it is timed on a few sites and the rest is reckoned from them. Both are asked
in one run; figures of different runs do not compare, ratios within one do. Prints Markdown.
"""

import argparse
import os
import platform
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from editsweep.bench.__main__ import matmul_rate
from editsweep.core.types import EditRequest
from editsweep.model.facts import Fact, subject_deviation
from editsweep.model.hooks import held
from editsweep.model.language_model import LanguageModel
from editsweep.model.load import load
from editsweep.model.restoring import KINDS, Kind, noisy, part
from editsweep.model.tracing import TraceSettings, subject_noise, trace

REQUEST = EditRequest.of("The Eiffel Tower", "{} is located in the city of", "Rome")


def main() -> None:
    """Run it; `--help` says how much."""
    parser = argparse.ArgumentParser(prog="python -m editsweep.bench.tracing", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--sites", type=int, default=2, help="timed the plain way, of each kind")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, settings = load(options.model), TraceSettings()
    fact = Fact.of(model, REQUEST)
    sigma = subject_deviation(model, [fact.subject])
    count = len(fact.ids) * model.depth * len(KINDS)
    print(
        f"{platform.processor() or platform.machine()}, {options.threads} threads, "
        f"torch {torch.__version__}, {model.name}, {len(fact.ids)} tokens x {model.depth} layers x "
        f"{len(KINDS)} kinds; matrix multiplication {matmul_rate() / 1e9:.0f} GFLOP/s\n"
    )
    fast, fast_flops = cost(lambda: list(trace(model, [fact], settings, sigma)))
    chosen = [(k, model.depth * i // options.sites) for k in KINDS for i in range(options.sites)]
    slow, slow_flops = cost(
        lambda: [plain(model, fact, settings, sigma, kind, n, fact.span[-1]) for kind, n in chosen]
    )
    share = count / len(chosen)
    print("| way | seconds | processor seconds | TFLOP |\n|---|---|---|---|")
    for told, seconds, flops in (
        ("many sites a pass", fast, fast_flops),
        (f"one site a forward, from {len(chosen)}", slow.times(share), slow_flops * share),
    ):
        print(f"| {told} | {seconds.wall:.1f} | {seconds.processor:.1f} | {flops / 1e12:.2f} |")
    ratio = slow.times(share).wall / fast.wall
    print(f"\nratio: {ratio:.1f} in seconds, {slow_flops * share / fast_flops:.1f} in FLOP")


class Seconds:
    """Wall and processor seconds."""

    def __init__(self, wall: float, processor: float) -> None:
        self.wall, self.processor = wall, processor

    def times(self, factor: float) -> "Seconds":
        """As if it had been done so many times."""
        return Seconds(self.wall * factor, self.processor * factor)


def cost(work: Callable[[], Any]) -> tuple[Seconds, int]:
    """Seconds, and floating-point operations of a second run, since counting takes time itself."""
    wall, processor = perf_counter(), os.times()
    work()
    wall, spent = perf_counter() - wall, os.times()
    used = spent.user + spent.system - processor.user - processor.system
    with FlopCounterMode(display=False) as counter:
        work()
    return Seconds(wall, used), counter.get_total_flops()


def plain(
    model: LanguageModel,
    fact: Fact,
    settings: TraceSettings,
    sigma: float,
    kind: Kind,
    layer: int,
    token: int,
) -> float:
    """The score of one site: every row and every position through the whole model."""
    noise = subject_noise(model, fact, settings, sigma)
    ids = torch.tensor([fact.ids] * (1 + len(noise)), device=model.device)
    added = noise.new_zeros(*ids.shape, noise.shape[-1])
    added[1:, fact.span.start : fact.span.stop] = noise

    def restore(_module: Any, _args: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        hidden[1:, token] = hidden[0, token]

    handles = (
        model.module.get_submodule(part(model, kind, n)).register_forward_hook(restore)
        for n in settings.layers(kind, layer, model.depth)
    )
    with torch.no_grad(), held(handles), noisy(model, added):
        chances = model.module(ids).logits[:, -1].softmax(-1)
    return float(chances[1:, chances[0].argmax()].mean())


if __name__ == "__main__":
    main()
