"""Figures of cross-encoders on annotated claims: how they rank (MAP, MRR@5 and NDCG@5), or how they label.

A claim's candidates are BM25's best `CANDIDATES` sentences of a pool, plus the claim's relevant evidence. The
figures are those of sentence-transformers' `CrossEncoderRerankingEvaluator`, for checkpoints and bundles alike.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator
from sentence_transformers.cross_encoder.model_card import CrossEncoderModelCardData

from pairscore.runtime.bundle.manifest import MANIFEST_NAME, PairOrder, sha256
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.types import Pair
from pairscore.training.annotations import Annotations, read_annotations, read_evidence
from pairscore.training.bm25 import Bm25
from pairscore.training.labels import LabelEvaluation, label_figures, most_frequent, read_labelled
from pairscore.training.start import find_start, has_head, is_bi_encoder, load_untrained
from pairscore.training.teacher import cosines

CANDIDATES = 50
CUTOFF = 5

# The account that a training run leaves in its checkpoint.
TRAINING_NAME = "training.json"


@dataclass(frozen=True)
class RankingFigures:
    """One system's means over the claims, each in [0, 1]."""

    system: str
    map: float
    mrr_at_5: float
    ndcg_at_5: float


@dataclass(frozen=True)
class Start:
    """The weights that a model was trained from, and the seed that drew its head."""

    name: str
    seed: int


@dataclass(frozen=True)
class Evaluation:
    """Systems compared on the same candidates. The figures depend on the pool, so its size stands beside them."""

    claims: int
    relevant_pairs: int
    pool_sentences: int
    scored_pairs: int
    files: tuple[dict[str, str], ...]
    pool_files: tuple[dict[str, str], ...]
    systems: tuple[RankingFigures, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"candidates": f"BM25 top {CANDIDATES} of the pool, plus the claim's relevant evidence"} | asdict(self)


def evaluate(
    model: str,
    pairs: Sequence[Path],
    *,
    pool: Sequence[Path] = (),
    precision: str | None = None,
    start: Start | None = None,
    name: str | None = None,
    show_progress: bool = False,
) -> Evaluation:
    """Compute the figures of BM25, of `model` and, if `start` is given, of the untrained start.

    model: a checkpoint (folder or hub id) or a bundle. precision: the bundle's variant; fp32 by default.
    pairs: files of the claims that are evaluated. pool: more files whose sentences are candidates too. A start that
    embeds sentences is also shown as it ranks by cosine similarity, without any cross-encoder. name: what `model` is
    called in the result.

    Raises PairscoreError for bad files, for a model that cannot be loaded, and for one with several labels.
    """
    annotations = read_annotations(pairs)
    sentences = tuple(dict.fromkeys(annotations.evidence + read_evidence(pool)))
    if _is_bundle(model):
        trained = _bundle(model, precision or "fp32")
    else:
        _refuse_precision(model, precision)
        trained = _checkpoint(model, show_progress)
    predictors = ({} if start is None else _start(start, show_progress)) | {name or model: trained}
    evaluator = reranking_evaluator(annotations, sentences)
    figures: list[RankingFigures] = []
    for system, predictor in predictors.items():
        means = evaluator(cast(CrossEncoder, predictor))  # it asks for no more than a _Predictor has
        if not figures:
            figures.append(_figures("BM25", means, "base_"))
        figures.append(_figures(system, means))
    return Evaluation(
        claims=len(annotations.claims),
        relevant_pairs=annotations.relevant_pairs,
        pool_sentences=len(sentences),
        scored_pairs=sum(len({*sample["positive"], *sample["documents"]}) for sample in evaluator.samples),
        files=_digests(pairs),
        pool_files=_digests(pool),
        systems=tuple(figures),
    )


def evaluate_labels(
    model: str,
    pairs: Sequence[Path],
    column: str,
    *,
    precision: str | None = None,
    pair_order: PairOrder | None = None,
    name: str | None = None,
    show_progress: bool = False,
) -> LabelEvaluation:
    """How often `model` gives the pairs of some files the label that stands in `column`.

    The prediction is the label with the largest logit. pair_order: which text a checkpoint reads first; a bundle says
    it itself. name: what `model` is called in the result. Raises PairscoreError as `evaluate` does, for a model with
    one label, and for a label in the files that the model does not have.
    """
    labels, logits = _classifier(model, precision, pair_order, show_progress)
    labelled = read_labelled(pairs, column, labels)
    predicted = logits(labelled.pairs).argmax(axis=1)
    systems = (most_frequent(labelled, labels), label_figures(name or model, predicted, labelled, labels))
    return LabelEvaluation(column, labels, len(labelled.pairs), labelled.claims, _digests(pairs), systems)


def recorded_start(model: str) -> Start | None:
    """The start that a checkpoint folder's `training.json` names; None where there is no such file."""
    path = Path(model) / TRAINING_NAME
    if not path.is_file():
        return None
    training = json.loads(path.read_text(encoding="utf-8"))
    return Start(training["start"], training["seed"])


def reranking_evaluator(
    annotations: Annotations, pool: Sequence[str], name: str = ""
) -> CrossEncoderRerankingEvaluator:
    """The evaluator of these claims.

    BM25 sorts the candidates from `pool`, so the evaluator's `base_` figures are BM25's.
    """
    ranking = Bm25(pool)
    samples: list[dict[str, Any]] = [
        {
            "query": claim.text,
            "positive": list(claim.relevant),
            "documents": [pool[place] for place in ranking.top(claim.text, CANDIDATES)],
        }
        for claim in annotations.claims
    ]
    return CrossEncoderRerankingEvaluator(samples, at_k=CUTOFF, name=name, batch_size=32, write_csv=False)


# Systems -----------------------------------------------------------------------------------------------

Scores = npt.NDArray[np.floating[Any]]


@dataclass
class _Predictor:
    """What the evaluator needs of a model: it scores pairs, and holds the evaluator's notes."""

    score: Callable[[list[list[str]]], Scores]
    model_card_data: CrossEncoderModelCardData = field(default_factory=CrossEncoderModelCardData)

    def predict(self, pairs: list[list[str]], **_: Any) -> Scores:
        return self.score(pairs)


def _is_bundle(model: str) -> bool:
    return (Path(model) / MANIFEST_NAME).is_file()


def _bundle(model: str, precision: str) -> _Predictor:
    scorer = Scorer.from_pretrained(model, precision=precision)
    _require_one_label(model, len(scorer.labels))
    return _Predictor(scorer.predict)


def _checkpoint(model: str, show_progress: bool) -> _Predictor:
    folder = find_start(model, option="MODEL")
    return _crossencoder(model, CrossEncoder(str(folder), model_kwargs={"torch_dtype": torch.float32}), show_progress)


def _crossencoder(name: str, model: CrossEncoder, show_progress: bool) -> _Predictor:
    _require_one_label(name, model.num_labels)
    return _Predictor(
        lambda pairs: np.asarray(model.predict(pairs, batch_size=32, show_progress_bar=show_progress), dtype=np.float32)
    )


def _classifier(
    model: str, precision: str | None, pair_order: PairOrder | None, show_progress: bool
) -> tuple[tuple[str, ...], Callable[[Sequence[Pair]], Scores]]:
    """The labels of a checkpoint or a bundle, and what gives the logits of pairs, Shape (pairs, labels)."""
    if _is_bundle(model):
        if pair_order is not None:
            raise PairscoreError(f"{model!r} is a bundle, which says its own order of the pair: leave out --pair-order")
        scorer = Scorer.from_pretrained(model, precision=precision or "fp32", activation="identity")
        _require_labels(model, len(scorer.labels))
        return scorer.labels, lambda pairs: scorer.predict(list(pairs))
    _refuse_precision(model, precision)
    encoder = CrossEncoder(str(find_start(model, option="MODEL")), model_kwargs={"torch_dtype": torch.float32})
    _require_labels(model, encoder.num_labels)
    config: Any = encoder.config
    labels = tuple(str(config.id2label[place]) for place in range(encoder.num_labels))

    def logits(pairs: Sequence[Pair]) -> Scores:
        ordered = [(second, first) if pair_order == "evidence-claim" else (first, second) for first, second in pairs]
        found = encoder.predict(
            ordered, batch_size=32, activation_fn=torch.nn.Identity(), show_progress_bar=show_progress
        )
        return np.asarray(found, dtype=np.float32)

    return labels, logits


def _require_labels(model: str, labels: int) -> None:
    if labels < 2:
        raise PairscoreError(f"{model!r} has one label, which --label-column cannot be compared with: leave it out")


def _refuse_precision(model: str, precision: str | None) -> None:
    if precision is not None:
        raise PairscoreError(f"{model!r} is no bundle, and only a bundle has precisions: leave out --precision")


def _start(start: Start, show_progress: bool) -> dict[str, _Predictor]:
    folder = find_start(start.name)
    systems: dict[str, _Predictor] = {}
    if is_bi_encoder(folder):
        systems["start, by cosine similarity"] = _Predictor(lambda pairs: cosines(str(folder), pairs, show_progress))
    name = "start" if has_head(folder) else "start, with an untrained head"
    systems[name] = _crossencoder(start.name, load_untrained(folder, start.seed), show_progress)
    return systems


def _require_one_label(model: str, labels: int) -> None:
    if labels != 1:
        raise PairscoreError(f"{model!r} has {labels} labels, and ranking needs one score a pair: give another model")


def _figures(system: str, means: dict[str, float], prefix: str = "") -> RankingFigures:
    values = [float(means[prefix + name]) for name in ("map", f"mrr@{CUTOFF}", f"ndcg@{CUTOFF}")]
    return RankingFigures(system, *values)


def _digests(files: Sequence[Path]) -> tuple[dict[str, str], ...]:
    return tuple({"file": path.name, "sha256": sha256(path)} for path in files)
