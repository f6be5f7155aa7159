"""How the `world` dataset asks: English that ends right before the answer.

`{}` is where the subject belongs. A country's name never opens a sentence, because it may begin
with a small `the`.
"""

from collections.abc import Mapping

PROMPTS: Mapping[str, str] = {
    "country": "{} is a city in the country of",
    "currency": "The currency of {} is the",
    "language": "The main language spoken in {} is",
    "continent": "Geographically, {} lies on the continent of",
    "capital": "The capital of {} is",
}

STATEMENTS: Mapping[str, tuple[str, ...]] = {
    "country": (
        "The city of {} is located in the country of",
        "Anyone who lives in {} lives in the country of",
        "On a map of the world, {} can be found in",
    ),
    "currency": ("In {}, people pay with the", "The official currency used in {} is the"),
    "language": ("Most people in {} speak", "In {}, the most widely spoken language is"),
    "continent": (
        "The continent on which {} lies is",
        "If you travel to {}, you are on the continent of",
    ),
    "capital": ("In {}, the capital city is", "The city that is the capital of {} is"),
}

QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "country": (
        "Question: In which country is {}? Answer:",
        "Question: What country does the city of {} belong to? Answer:",
    ),
    "currency": (
        "Question: What is the currency of {}? Answer: the",
        "Question: Which currency do people use in {}? Answer: the",
    ),
    "language": (
        "Question: What is the main language of {}? Answer:",
        "Question: Which language do most people speak in {}? Answer:",
    ),
    "continent": (
        "Question: On which continent is {}? Answer:",
        "Question: Which continent does {} belong to? Answer:",
    ),
    "capital": (
        "Question: What is the capital of {}? Answer:",
        "Question: Which city is the capital of {}? Answer:",
    ),
}

REVERSE: Mapping[str, str] = {
    "country": "Of the two cities {first} and {second}, the one in {new} is",
    "currency": "Of {first} and {second}, the country that uses the {new} is",
    "language": "Of {first} and {second}, the country where most people speak {new} is",
    "continent": "Of {first} and {second}, the country in {new} is",
    "capital": "{new} is the capital of",
}
"""Each has one answer: the edited subject, of two; for capitals, the country."""

HOPS: Mapping[str, str] = {
    "currency": "The currency used in {} is the",
    "language": "The main language spoken in {} is",
    "continent": "{} is a city on the continent of",
    "capital": "The capital of the country where {} lies is",
}
"""What a city has from its country."""

DEMONYMS: Mapping[str, str] = {
    "currency": "The {} currency is the",
    "capital": "The {} capital is",
}
"""Asks about a country without naming it."""
