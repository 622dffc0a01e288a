"""`sardonyx demo text`: how alike sentences are, by a trained sentence encoder."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sardonyx
from sardonyx.cli import common
from sardonyx.cli.demo_show import show_stages, show_trials

if TYPE_CHECKING:
    from sardonyx.cli.subjects import Stage
    from sardonyx.measure.trial import Trials
    from sardonyx.providers.base import Array

SENTENCES = (
    "How do I reset my password?",
    "I forgot my login and cannot get in.",
    "The cat is asleep on the sofa.",
    "A kitten naps on the couch.",
    "Shares fell after the company reported a loss.",
    "The stock market dropped on weak earnings.",
    "Bring the water to a boil, then add the pasta.",
)
SHOWN, WIDEST = 5, 10
"""Pairs in the ranking, and the most sentences for a table of all pairs."""
ALIKE = 0.5
"""The similarity from which on it stands out."""


@dataclass(frozen=True)
class Comparison:
    """Sentences and their products, float32 [sentences, sentences]: 1 for the same, about 0 for unrelated ones.

    `lone`: the first was given, the others are those of the demo.
    """

    sentences: tuple[str, ...]
    similarity: Array
    lone: bool

    def pairs(self) -> list[tuple[float, str, str]]:
        """Similarity and sentences of all pairs (those with the first, if it is alone), the most alike first."""
        count = len(self.sentences)
        chosen = ((0, other) for other in range(1, count)) if self.lone else itertools.combinations(range(count), 2)
        found = [(float(self.similarity[i, j]), self.sentences[i], self.sentences[j]) for i, j in chosen]
        return sorted(found, key=lambda pair: -pair[0])


def compare(given: Sequence[str], threads: int | None, json_: bool) -> None:
    """Encode sentences and show how alike they are; one alone is compared with those of the demo."""
    from sardonyx.measure.runners import available_runners, default_threads
    from sardonyx.measure.timing import Plan
    from sardonyx.measure.trial import attempt, hold_trials
    from sardonyx.zoo import sentences as zoo

    lone = len(given) == 1
    sentences = (*given, *SENTENCES) if lone or not given else tuple(given)
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
        path = Path(folder) / "sentences.onnx"
        with common.download("getting the model") as (tell, arrived):
            tokenizer = zoo.tokenizer(progress=tell, arrived=arrived)
            stages = _stages(path, zoo.model(progress=tell, arrived=arrived))
        if not json_:
            show_stages(stages)
        inputs = zoo.tokens(sentences, tokenizer)
        threads = threads or default_threads()
        names = [name for name, state in available_runners().items() if state.available]
        with common.spinner("running"):
            tried = attempt(names, path, inputs, threads)
        if not tried.outputs:
            raise next(iter(tried.errors.values()))
        embeddings = next(iter(tried.outputs.values()))[1]
        found = Comparison(sentences, embeddings @ embeddings.T, lone)
        if not json_:
            _show(found, len(stages) + 1)
        with common.spinner("timing") as tell:
            trials = hold_trials(tried, inputs, Plan(rounds=5, seconds=0.5), progress=tell)
    if json_:
        common.print_json(_machine(found, stages, trials, embeddings, threads))
    else:
        show_trials(trials, threads, f"{len(stages) + 2}. How fast, how exact", len(sentences))


def _stages(path: Path, model: Any) -> tuple[Stage, ...]:
    """Write the model to `path`; where it came from and what it is."""
    from sardonyx.cli.subjects import Stage, model_facts
    from sardonyx.model import file
    from sardonyx.zoo.entries import ENTRIES
    from sardonyx.zoo.fetch import cached_path

    entry = ENTRIES["sentences"]
    start = time.perf_counter()
    file.save(model, path)
    seconds = time.perf_counter() - start
    get = {
        "model": entry.description,
        "out of": f"{entry.file} in {entry.package} {entry.version}",
        "licence": entry.license,
        "size": f"{entry.size:,} bytes",
        "sha256": entry.sha256,
        "kept at": str(cached_path(entry)),
    }
    return (
        Stage("Get the model", get),
        Stage("Write it as ONNX", {**model_facts(path), "took": f"{seconds:.2f} s, without PyTorch"}),
    )


def _show(found: Comparison, number: int) -> None:
    from rich import box
    from rich.table import Table

    console = common.stdout()
    console.print(common.text(f"\n{number}. How alike are they?", style="bold"))
    if not found.lone and len(found.sentences) <= WIDEST:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("", justify="right", style="dim")
        table.add_column("sentence", overflow="fold")
        for column in range(len(found.sentences)):
            table.add_column(str(column + 1), justify="right")
        for row, sentence in enumerate(found.sentences):
            cells = [_cell(value, row == column) for column, value in enumerate(found.similarity[row])]
            table.add_row(str(row + 1), common.text(sentence), *cells)
        console.print(table)
    pairs = found.pairs()[: None if found.lone else SHOWN]
    if found.lone:
        rows = [(f"{value:.2f}", "█" * round(20 * max(0.0, value)), other) for value, _, other in pairs]
        common.print_table(f"Compared with: {found.sentences[0]}", "similarity", "", "sentence", rows=rows)
    elif pairs:
        rows = [(f"{value:.2f}", "█" * round(20 * max(0.0, value)), f"{one}\n{other}") for value, one, other in pairs]
        common.print_table("The most alike", "similarity", "", "sentences", rows=rows)


def _cell(value: float, itself: bool) -> Any:
    return common.text(f"{value:.2f}", style="dim" if itself else "bold green" if value >= ALIKE else "")


def _machine(
    found: Comparison, stages: Sequence[Stage], trials: Trials, embeddings: Array, threads: int
) -> dict[str, Any]:
    from sardonyx.measure.machine import processor

    return {
        "subject": "text",
        "sentences": list(found.sentences),
        "embedding": {"dtype": str(embeddings.dtype), "shape": list(embeddings.shape)},
        "similarity": found.similarity.astype(float).tolist(),
        "pairs": [{"similarity": value, "sentences": [one, other]} for value, one, other in found.pairs()],
        "threads": threads,
        "machine": processor(),
        "version": sardonyx.__version__,
        "stages": {stage.title: dict(stage.facts) for stage in stages},
        "runtimes": [trial.as_dict() for trial in trials.trials],
        "ratios": [asdict(ratio) for ratio in trials.ratios],
    }
