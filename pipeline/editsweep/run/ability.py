"""What an edit does to a model's general ability: tasks of lm-evaluation-harness, before and after.

The harness does all of the measuring; here the patch is written into the weights, or its prompt put
before each question. The harness is imported when it is needed, because importing it takes long.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from editsweep.core.names import unknown
from editsweep.errors import ConfigError
from editsweep.model.language_model import LanguageModel
from editsweep.model.merge import merged
from editsweep.model.patch import Patch


@dataclass(frozen=True)
class Ability:
    """One metric of one task; errors are the harness's standard errors, None where it has none.

    `filter` is how the harness read the answers, `samples` how many it took. What is edited is None
    without a patch.
    """

    task: str
    metric: str
    filter: str
    samples: int | None
    unedited: float
    unedited_stderr: float | None
    edited: float | None = None
    edited_stderr: float | None = None

    @property
    def difference(self) -> float | None:
        """Edited minus unedited."""
        return None if self.edited is None else self.edited - self.unedited


@dataclass(frozen=True)
class TaskChoice:
    """Which tasks of the harness, where further ones are defined, and how much of each is taken."""

    names: tuple[str, ...]
    include: Path | None = None
    limit: int | None = None
    batch_size: int = 8


def ability(model: LanguageModel, patch: Patch | None, choice: TaskChoice) -> list[Ability]:
    """Every metric of the chosen tasks, in their order; the model is unedited afterwards too.

    Raises:
        ConfigError: there is no such task, or a patch that is a prompt cannot be asked one.
    """
    tasks = _tasks(choice)
    before = _evaluated(model, "", tasks, choice)
    after: dict[tuple[str, str, str], tuple[float, float | None]] = {}
    if patch is not None:
        with merged(model, patch):
            after = _numbers(_evaluated(model, patch.prefix, tasks, choice))
    return [
        Ability(*key, _samples(before, key[0]), *found, *after.get(key, (None, None)))
        for key, found in _numbers(before).items()
    ]


def _tasks(choice: TaskChoice) -> Any:
    from lm_eval.tasks import TaskManager

    if choice.include is not None and not choice.include.is_dir():
        raise ConfigError(f"--include-path {choice.include} is not a folder of task files")
    own = choice.include and str(choice.include)
    if own:
        # Reading the harness's thousands of task files takes long, so only where they are needed.
        tasks = TaskManager(include_path=own, include_defaults=False)
        if set(choice.names) <= set(tasks.all_subtasks):
            return tasks
    tasks = TaskManager(include_path=own)
    for name in choice.names:
        if name not in tasks.all_tasks:
            raise unknown("task", name, tasks.all_tasks)
    return tasks


def _evaluated(
    model: LanguageModel, prefix: str, tasks: Any, choice: TaskChoice
) -> Mapping[str, Any]:
    """The harness's own results."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    # The harness changes what a tokenizer pads with, and ours is shared.
    tokenizer = deepcopy(model.tokenizer)
    asked = HFLM(pretrained=model.module, tokenizer=tokenizer, batch_size=choice.batch_size)
    if prefix:
        _lead(asked, prefix)
    found: Mapping[str, Any] = simple_evaluate(
        model=asked,
        tasks=list(choice.names),
        task_manager=tasks,
        limit=choice.limit,
        log_samples=False,
    )
    return found


def _lead(asked: Any, prefix: str) -> None:
    """Put `prefix` before each question."""
    for name in ("loglikelihood", "generate_until"):
        setattr(asked, name, partial(_led, getattr(asked, name), prefix))
    asked.loglikelihood_rolling = _refuse_whole_texts


def _led(ask: Callable[..., Any], prefix: str, requests: Sequence[Any], **options: Any) -> Any:
    led = [replace(r, arguments=(prefix + r.args[0], *r.args[1:])) for r in requests]
    return ask(led, **options)


def _refuse_whole_texts(requests: Sequence[Any], **_: Any) -> Any:
    raise ConfigError(
        f"the task {requests[0].task_name!r} reads whole texts without a question, so there is no "
        "place for a patch that is a prompt: choose other tasks, or an editor that changes weights"
    )


def _numbers(
    found: Mapping[str, Any],
) -> dict[tuple[str, str, str], tuple[float, float | None]]:
    """Value and standard error by task, metric and filter."""
    numbers = {}
    for task, row in found["results"].items():
        for name, value in row.items():
            metric, comma, how = name.partition(",")
            if comma and not metric.endswith("_stderr") and isinstance(value, (int, float)):
                error = row.get(f"{metric}_stderr,{how}")
                is_number = isinstance(error, (int, float))
                numbers[task, metric, how] = (float(value), float(error) if is_number else None)
    return numbers


def _samples(found: Mapping[str, Any], task: str) -> int | None:
    counts = found.get("n-samples", {}).get(task)
    return None if counts is None else int(counts["effective"])
