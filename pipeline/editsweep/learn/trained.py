"""A trained network as a requirement: made once by content, kept like any other asset."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editsweep.core.types import Corpus
from editsweep.learn.team import ALONE, Team
from editsweep.learn.trainer import Report, train
from editsweep.learn.training import Training
from editsweep.model.asset import Asset
from editsweep.model.language_model import LanguageModel


@dataclass(frozen=True)
class Trained:
    """The network of `method`, a frozen dataclass of `learn.network.Method`, trained on `source`."""

    source: str
    method: Any
    training: Training

    def make(
        self,
        model: LanguageModel,
        corpus: Corpus,
        work: Path | None = None,
        team: Team = ALONE,
        report: Report | None = None,
    ) -> Asset:
        """The best network's state dict; meta: provenance, split, curve and test rates.

        Raises:
            ConfigError: the source has too few records to learn from.
        """
        return train(model, self.method, self.training, corpus.requests, work, team, report)
