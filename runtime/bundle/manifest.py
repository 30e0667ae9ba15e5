"""The model bundle: a folder in the Hugging Face layout plus `pairscore.json`, the manifest.

    config.json, tokenizer.json, tokenizer_config.json    as the checkpoint's
    onnx/model.onnx, onnx/model_fp16_unpadded.onnx, ...   one graph per variant
    native/int8.json, native/int8.safetensors             an int8 variant of the native engine: its plan and weights
    golden.json                                           pairs, their token ids, their PyTorch logits
    pairscore.json                                        the manifest

The manifest names every file with its SHA-256. Nothing is read from a bundle before its digest matched.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from pairscore.runtime.bundle.activation import ACTIVATIONS, Scaling
from pairscore.runtime.bundle.parity import TIERS, ParityReport, Tier
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.typed_json import from_json
from pairscore.runtime.types import FloatArray

MANIFEST_NAME = "pairscore.json"
GOLDEN_NAME = "golden.json"
FORMAT = 1
# The largest count of tokens, or id of a token, that a manifest may name.
_LARGEST = 1 << 24
_DIGEST = re.compile("[0-9a-f]{64}")
PairOrder = Literal["claim-evidence", "evidence-claim"]
PAIR_ORDERS: tuple[PairOrder, ...] = get_args(PairOrder)
CLAIM_FIRST: PairOrder = "claim-evidence"


@dataclass(frozen=True)
class Source:
    """Where the weights came from: a hub id or folder name, the hub's commit, the weights' digest."""

    name: str
    revision: str | None
    digest: str


@dataclass(frozen=True)
class Variant:
    """One graph of a bundle, and its measurements.

    `files`: paths within the bundle, the graph (or the native engine's plan) first, then its weights. `inputs`: the
    graph's input names. `engines`: engines that may run it. `parity`: against PyTorch, measured on `measured_on`.
    `notes`: what the export did to the graph, one sentence each. `settings`: engine properties that decide the
    scores, by the engine's own names. `promise`: the promise that the export was given in place of the precision's own.
    `ranking`: system -> figure -> value, of PyTorch and of the variant, where the export was given labels.
    `golden_logits`: what the variant itself gives for each golden row, float32 to the last bit, where its engine
    computes the same bytes on every processor; else empty. `scaling`: what `pairscore calibrate` fitted; no part of the
    digest, since it changes no logit.
    """

    precision: str
    files: tuple[str, ...]
    inputs: tuple[str, ...]
    engines: tuple[str, ...]
    parity: ParityReport
    measured_on: str
    notes: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    promise: Tier | None = None
    ranking: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    golden_logits: tuple[tuple[float, ...], ...] = ()
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        if self.promise is None and self.precision not in TIERS:
            raise ValueError(f"precision is {self.precision!r}, and only {', '.join(TIERS)} need no promise")
        for name in ("files", "engines"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: a variant needs at least one")

    @property
    def tier(self) -> Tier:
        """The promise that the variant is held to."""
        return self.promise or TIERS[self.precision]


@dataclass(frozen=True)
class Manifest:
    """The contract between export and runtime. `max_length` counts tokens, special tokens included.

    `activation`: what turns logits into scores, one of `ACTIVATIONS`. `truncation_side`: the end at which
    the tokenizer cuts. `prompt`: what stands before every claim. `pair_order`: which text the model reads first.
    `empty_logits`: PyTorch's for two empty texts, where those have no token at all. `files`: path within the bundle ->
    SHA-256. `versions`: library -> release at export.
    """

    source: Source
    model_type: str
    labels: tuple[str, ...]
    activation: str
    max_length: int
    truncation_side: Literal["left", "right"]
    pad_token_id: int
    variants: Mapping[str, Variant]
    files: Mapping[str, str]
    versions: Mapping[str, str]
    prompt: str = ""
    pair_order: PairOrder = CLAIM_FIRST
    empty_logits: tuple[float, ...] = ()
    format: int = FORMAT

    def __post_init__(self) -> None:
        if not self.labels:
            raise ValueError("labels is empty: a bundle needs at least one")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation is {self.activation!r}, not one of {', '.join(ACTIVATIONS)}")
        for name, least in (("max_length", 1), ("pad_token_id", 0)):
            if not least <= getattr(self, name) <= _LARGEST:
                raise ValueError(f"{name} is {getattr(self, name)}, not {least} to {_LARGEST}")
        if len(self.empty_logits) not in (0, len(self.labels)):
            raise ValueError(f"empty_logits has {len(self.empty_logits)} values for {len(self.labels)} labels")
        for path, digest in self.files.items():
            if not _DIGEST.fullmatch(digest):
                raise ValueError(f"files.{path} is {digest!r:.80}, not a SHA-256")
            if path.startswith("/") or not {"", ".", ".."}.isdisjoint(path.split("/")):
                raise ValueError(f"files names {path!r:.80}, which is no path inside the bundle")
        for name, variant in self.variants.items():
            self._check_variant(name, variant)

    def _check_variant(self, name: str, variant: Variant) -> None:
        if name != variant.precision:
            raise ValueError(f"variants.{name}.precision is {variant.precision!r}, not {name!r}")
        for path in variant.files:
            if path not in self.files:
                raise ValueError(f"variants.{name}.files names {path!r:.80}, which has no digest")
        for row, logits in enumerate(variant.golden_logits):
            if len(logits) != len(self.labels):
                counts = f"{len(logits)} values for {len(self.labels)} labels"
                raise ValueError(f"variants.{name}.golden_logits.{row} has {counts}")

    def files_of(self, precisions: Collection[str] | None) -> list[str]:
        """The files, except those that only variants of other precisions use. precisions: None for all."""
        users = {name: [key for key, each in self.variants.items() if name in each.files] for name in self.files}
        return [
            name
            for name, using in users.items()
            if precisions is None or not using or not set(using).isdisjoint(precisions)
        ]

    def to_json(self) -> str:
        """The manifest as the text of `pairscore.json`."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str) -> "Manifest":
        """Raises ValueError that names the field and its value."""
        return from_json(Manifest, text, FORMAT)


@dataclass(frozen=True)
class _GoldenRow:
    claim: str
    evidence: str
    input_ids: tuple[int, ...]
    logits: tuple[float, ...]


@dataclass(frozen=True)
class GoldenRows:
    """Pairs whose PyTorch logits are known, replayed whenever a variant is loaded.

    `input_ids`: the token ids of each pair, specials included, not padded. `logits`: Shape (rows, labels).
    """

    claims: tuple[str, ...]
    evidence: tuple[str, ...]
    input_ids: tuple[tuple[int, ...], ...]
    logits: FloatArray

    def to_json(self) -> str:
        """One row a line, so that a difference between two bundles can be read."""
        rows = [
            json.dumps({"claim": claim, "evidence": evidence, "input_ids": list(ids), "logits": logits.tolist()})
            for claim, evidence, ids, logits in zip(
                self.claims, self.evidence, self.input_ids, self.logits, strict=True
            )
        ]
        return "[\n" + ",\n".join(rows) + "\n]\n"

    @staticmethod
    def from_json(text: str, labels: int) -> "GoldenRows":
        """labels: how many logits each row must have. Raises ValueError that names the field and its value."""
        rows: tuple[_GoldenRow, ...] = from_json(tuple[_GoldenRow, ...], text)
        for place, row in enumerate(rows):
            if len(row.logits) != labels:
                raise ValueError(f"[{place}].logits has {len(row.logits)} values, not {labels}")
        if not rows:
            raise ValueError("it holds no rows")
        return GoldenRows(
            claims=tuple(row.claim for row in rows),
            evidence=tuple(row.evidence for row in rows),
            input_ids=tuple(row.input_ids for row in rows),
            logits=np.asarray([row.logits for row in rows], dtype=np.float32),
        )


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder and its validated manifest."""

    folder: Path
    manifest: Manifest
    _verified: set[str] = field(default_factory=set, repr=False, compare=False)

    @staticmethod
    def open(folder: str | Path) -> "Bundle":
        """Open a bundle folder.

        Raises PairscoreError when the folder is missing, is no bundle, or its manifest does not validate.
        """
        folder = Path(folder)
        path = folder / MANIFEST_NAME
        if folder.is_file():
            raise PairscoreError(
                f"{str(folder)!r} is a file, and a bundle is a folder: `pairscore show` reads scored files"
            )
        if not folder.is_dir():
            raise PairscoreError(f"no bundle at {str(folder)!r}: make one with `pairscore export SOURCE {folder}`")
        if not path.is_file():
            hint = (
                f"it looks like a checkpoint: `pairscore export {folder} BUNDLE` makes a bundle of it"
                if (folder / "config.json").is_file()
                else f"it holds Parquet files: `pairscore show {folder}` shows those that are scored"
                if next(folder.glob("*.parquet"), None)
                else "make one with `pairscore export SOURCE BUNDLE`"
            )
            raise PairscoreError(f"{str(folder)!r} is not a bundle (it has no {MANIFEST_NAME}): {hint}")
        try:
            manifest = Manifest.from_json(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise PairscoreError(f"{str(path)!r} is not a valid manifest ({error}): export the bundle again") from error
        return Bundle(folder, manifest)

    def path(self, name: str) -> Path:
        """The path of one of the bundle's files, after its digest matched the manifest's.

        Raises PairscoreError when the file is missing, unlisted or changed.
        """
        if name not in self.manifest.files:
            raise PairscoreError(f"bundle {str(self.folder)!r} lists no file {name!r}: export the bundle again")
        path = self.folder / name
        if name not in self._verified:
            if not path.is_file():
                raise PairscoreError(f"bundle file {str(path)!r} is missing: export the bundle again")
            if sha256(path) != self.manifest.files[name]:
                raise PairscoreError(
                    f"bundle file {str(path)!r} has changed since its export (its SHA-256 differs from "
                    f"{MANIFEST_NAME}): export the bundle again"
                )
            self._verified.add(name)
        return path

    def variant(self, precision: str) -> Variant:
        """The variant of a precision. Raises PairscoreError naming those that exist."""
        try:
            return self.manifest.variants[precision]
        except KeyError:
            have = ", ".join(self.manifest.variants)
            fitted = " --calibration FILE" if precision == "int8" else ""
            raise PairscoreError(
                f"bundle {str(self.folder)!r} has no {precision} variant (it has {have}): "
                f"add it with `pairscore export SOURCE {self.folder} --precision {precision}{fitted}`"
            ) from None

    def graph(self, variant: Variant) -> Path:
        """The path of a variant's graph, after the digests of all its files matched."""
        paths = [self.path(name) for name in variant.files]
        return paths[0]

    def largest_difference(self, first: str, second: str) -> float:
        """The largest difference between two variants' logits that their parity reports allow for."""
        return sum(self.variant(each).parity.max_logit_difference for each in (first, second))

    def files_of(self, precision: str) -> list[str]:
        """The bundle's files, except those that only other variants use."""
        self.variant(precision)
        return self.manifest.files_of((precision,))

    def golden_rows(self) -> GoldenRows:
        """The golden rows, after their digest matched. Raises PairscoreError where they are not what they should be."""
        path = self.path(GOLDEN_NAME)
        try:
            return GoldenRows.from_json(path.read_text(encoding="utf-8"), len(self.manifest.labels))
        except (ValueError, OSError) as error:
            raise PairscoreError(f"{str(path)!r} holds no golden rows ({error}): export the bundle again") from error

    def digest(self, precision: str) -> str:
        """SHA-256 over all that decides a variant's scores: its files, the tokenizer, the settings.

        Adding or removing other variants does not change it.
        """
        manifest, variant = self.manifest, self.variant(precision)
        decisive = {
            "files": {name: manifest.files[name] for name in sorted(self.files_of(precision))},
            "activation": manifest.activation,
            "max_length": manifest.max_length,
            "labels": manifest.labels,
            "precision": precision,
            **({"settings": dict(variant.settings)} if variant.settings else {}),
            **({"prompt": manifest.prompt} if manifest.prompt else {}),
            **({"pair_order": manifest.pair_order} if manifest.pair_order != CLAIM_FIRST else {}),
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
