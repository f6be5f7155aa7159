"""Steps of training a second, with the hidden states below the first edited block kept or not.

All ways take the same steps on the same records; figures of different runs do not compare, ratios
within one do. Prints Markdown.
"""

import argparse
import os
import platform
from time import perf_counter

import torch

from editsweep.bench.__main__ import matmul_rate
from editsweep.data.registry import load as load_data
from editsweep.editors.mend import MendMethod
from editsweep.learn.checkpoint import State
from editsweep.learn.trainer import Job, observe, prepare, step_once
from editsweep.learn.training import Training
from editsweep.model.load import load


def main() -> None:
    """Run it; `--help` says how much."""
    parser = argparse.ArgumentParser(prog="python -m editsweep.bench.training", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--steps", type=int, default=6, help="steps that are timed")
    parser.add_argument("--blocks", type=int, default=3, help="edited blocks, the last ones")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load(options.model)
    requests = load_data("world", "train", limit=60).requests
    training = Training(steps=2 * options.steps, validate=1, observe=8, records=60)
    job = prepare(model, MendMethod(blocks=options.blocks), training, requests)
    observe(job)
    print(
        f"{platform.processor() or platform.machine()}, {options.threads} threads, "
        f"torch {torch.__version__}, {model.name}, mend on the last {options.blocks} of "
        f"{model.depth} blocks, {training.batch} edits a step; "
        f"matrix multiplication {matmul_rate() / 1e9:.0f} GFLOP/s\n"
    )
    print("| hidden states | steps/s | edits/s |\n|---|---|---|")
    for kept, told in ((True, "kept"), (False, "computed each time")):
        rate = steps_per_second(job, options.steps, kept)
        print(f"| {told} | {rate:.2f} | {rate * training.batch:.1f} |", flush=True)


def steps_per_second(job: Job, steps: int, kept: bool) -> float:
    """Of steps whose records were all seen before; without `kept` their hidden states were not."""
    below = job.outer.below
    for example in job.learnt:
        below.hidden(example.rows)
    if not kept:
        below.forget()
    adam, state = torch.optim.Adam(job.network.parameters()), State()
    step_once(job, state, adam)
    start = perf_counter()
    for _ in range(steps):
        step_once(job, state, adam)
    return steps / (perf_counter() - start)


if __name__ == "__main__":
    main()
