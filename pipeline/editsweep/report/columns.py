"""What the headline shows, and what each axis and metric means in one line."""

from collections.abc import Mapping
from typing import NamedTuple


class Column(NamedTuple):
    """One column of the headline: a metric on an axis, after the edit.

    One that is not shown `always` is shown where any cell has it.
    """

    title: str
    axis: str
    metric: str
    always: bool = True


SUCCESS = Column("Reliability", "reliability", "exact_match")
PARAPHRASE = Column("Paraphrase", "paraphrase", "exact_match")
LOCALITY = Column("Locality", "locality", "agreement")

HEADLINE: tuple[Column, ...] = (
    SUCCESS,
    PARAPHRASE,
    Column("Reverse", "reverse", "preference"),
    Column("Portability", "portability", "exact_match"),
    LOCALITY,
    Column("Score S", "overall", "harmonic_mean", always=False),
    Column("Sentiment", "reliability", "sentiment", always=False),
    Column("Refusal", "reliability", "refusal", always=False),
    Column("Fluency", "fluency", "ngram_entropy", always=False),
)

NO_RATES = frozenset({"kl", "ngram_entropy", "perplexity", "preference_magnitude"})
"""Metrics of which 0 and 1 are values like others, so that their mean is no rate."""

AXIS_MEANING: Mapping[str, str] = {
    "reliability": "the very prompt that was edited",
    "paraphrase": "the same question in other words",
    "reverse": "the question asked from the other side, from the new object to the subject",
    "portability": "questions whose answer follows from the new fact",
    "locality": "questions about other things, whose answers must stay as they were",
    "fluency": "a text that the model writes itself, and a fixed one that it reads",
    "consistency": "a text that the model writes itself, beside true ones",
    "overall": "several axes in one number",
    "condition": "what other questions need the model to know; asked only before the edit",
    "drift": "the whole model after the edits of a sequence so far",
}

METRIC_MEANING: Mapping[str, str] = {
    "exact_match": "the model, decoding greedily, says the whole expected answer; any accepted "
    "spelling counts",
    "token_match": "share of the answer's tokens that are the model's first choice, each given the "
    "right tokens before it",
    "preference": "the expected answer is more likely than the unwanted one, a token on average; "
    "it need not be the model's first choice",
    "preference_magnitude": "by how much probability the expected answer leads the unwanted one",
    "contains": "the model's own text, to its natural end, contains the expected answer",
    "equals": "the model's own text, to its natural end, is the expected answer and no more",
    "refusal": "the model's own text refuses, and does not say what it must not",
    "sentiment": "sentences of the wanted sentiment are likelier than others, and no less likely "
    "than before the edit",
    "ngram_entropy": "of 2-grams and 3-grams of a text that the model writes, in bits; low if it "
    "repeats itself",
    "repetition": "share of 4-grams of a text that the model writes that were there before",
    "consistency": "how like true texts a text is that the model writes (cosine, TF-IDF)",
    "agreement": "share of the answer's tokens where the model's first choice is what it was "
    "before the edit",
    "correct": "the model gives the true answer, whether or not it did before",
    "judge": "another model, asked whether the text gives the wanted answer, says yes; which model, and "
    "what it is asked, stands under provenance",
    "harmonic_mean": "ROME's score S: the harmonic mean of the shares of edits (ES), paraphrases (PS) "
    "and neighbours (NS) with the preference as it should be; of all that must stay, where a dataset "
    "marks no neighbours",
    "weight_norm": "Frobenius norm of all changes of the weights so far",
    "relative_norm": "that, over the norm of the matrices that were changed",
    "perplexity": "of the wanted answer, or of a fixed text that no edit is about; lower is "
    "more likely",
    "collapsed": "the perplexity is not finite, or more than ten times the unedited model's",
    "kl": "how far the next-token distribution moved from the unedited model's, in nats; 0 is "
    "not at all",
}
