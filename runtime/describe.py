"""Describe a bundle: its contents, its promises, and what of it runs here."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pairscore.runtime.arguments import python_call
from pairscore.runtime.bundle.hub import find_bundle
from pairscore.runtime.bundle.manifest import Bundle, Variant
from pairscore.runtime.engines.native import instruction_set
from pairscore.runtime.engines.registry import ENGINES
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.scorer import Scorer


@python_call()
def describe(bundle: str | Path, *, revision: str | None = None) -> dict[str, Any]:
    """What a bundle holds, what was measured for it, and what of it runs here, as `pairscore info --json` prints it.

    `bundle`: a folder, or the id of one on the Hugging Face hub at `revision`. Every file's digest is checked.

    Raises PairscoreError for a folder that is no bundle and for a changed or missing file.
    """
    opened = Bundle.open(find_bundle(bundle, revision))
    manifest = opened.manifest
    sizes = {name: opened.path(name).stat().st_size for name in manifest.files}
    return {
        "bundle": str(opened.folder),
        "source": asdict(manifest.source),
        "model_type": manifest.model_type,
        "labels": list(manifest.labels),
        "activation": manifest.activation,
        "max_length": manifest.max_length,
        "truncation_side": manifest.truncation_side,
        "prompt": manifest.prompt,
        "pair_order": manifest.pair_order,
        "versions": dict(manifest.versions),
        "files": {name: {"bytes": sizes[name], "sha256": digest} for name, digest in manifest.files.items()},
        "variants": {
            name: {
                "digest": opened.digest(name),
                "bytes": sum(sizes[file] for file in variant.files),
                "engines": list(variant.engines),
                "measured_on": variant.measured_on,
                "parity": asdict(variant.parity),
                "promise": asdict(variant.tier),
                "ranking": {system: dict(figures) for system, figures in variant.ranking.items()},
                "settings": dict(variant.settings),
                "scaling": None if variant.scaling is None else asdict(variant.scaling),
                "notes": list(variant.notes),
                "runs_here": _runs_here(opened, variant),
                "instruction_sets": {"native": instruction_set()} if "native" in variant.engines else {},
            }
            for name, variant in manifest.variants.items()
        },
    }


def description_lines(description: dict[str, Any]) -> list[str]:
    """The same for people."""
    source = description["source"]
    revision = f" at {source['revision']}" if source["revision"] else ""
    labels = description["labels"]
    lines = [
        f"{description['bundle']}: {description['model_type']} cross-encoder from {source['name']}{revision}",
        f"  labels      {len(labels)} ({', '.join(labels[:8])}{', ...' if len(labels) > 8 else ''})",
        f"  activation  {description['activation']}",
        f"  max length  {description['max_length']} tokens, cut on the {description['truncation_side']}",
        f"  pair order  {description['pair_order'].replace('-', ', then ')}",
        *([f"  prompt      {description['prompt']!r} before every claim"] if description["prompt"] else []),
        f"  files       {len(description['files'])}, all as their SHA-256 says",
        f"  made with   {', '.join(f'{name} {release}' for name, release in description['versions'].items()) or '?'}",
    ]
    for name, variant in description["variants"].items():
        parity = variant["parity"]
        spearman = "" if parity["spearman"] is None else f", Spearman {parity['spearman']:.6f}"
        lines += [
            f"{name}: {variant['bytes'] / 2**20:.1f} MiB, for {', '.join(variant['engines'])}",
            f"  parity      logits within {parity['max_logit_difference']:.2g}, scores within "
            f"{parity['max_score_difference']:.2g}{spearman}, over {parity['pairs']} pairs",
            *(
                f"  ranking     {system}: {', '.join(f'{figure} {value:.4f}' for figure, value in figures.items())}"
                for system, figures in variant["ranking"].items()
            ),
            f"  measured on {variant['measured_on']}",
            *_calibration(variant["scaling"]),
            *(f"  note        {note}" for note in variant["notes"]),
            *(
                f"  {engine:<11} {f'does not run here: {reason}' if reason else _runs(engine, variant)}"
                for engine, reason in variant["runs_here"].items()
            ),
        ]
    return lines


def _calibration(scaling: dict[str, Any] | None) -> list[str]:
    if scaling is None:
        return []
    figures = ", ".join(
        f"{name} {scaling['before'][name]:.4f} -> {value:.4f}" for name, value in scaling["after"].items()
    )
    return [f"  calibrated  on {scaling['pairs']:,} pairs: {figures}"]


def _runs(engine: str, variant: dict[str, Any]) -> str:
    instruction_set = variant["instruction_sets"].get(engine)
    return f"runs here, on {instruction_set}" if instruction_set else "runs here"


def _runs_here(bundle: Bundle, variant: Variant) -> dict[str, str | None]:
    """Engine -> None where the variant reproduces its golden rows on the first kind of device it serves, or why not."""
    found: dict[str, str | None] = {}
    for engine in variant.engines:
        try:
            device = ENGINES[engine].devices[0] if engine in ENGINES else "cpu"  # a later release's: reported below
            Scorer.from_pretrained(bundle.folder, precision=variant.precision, engine=engine, device=device)
        except PairscoreError as error:
            found[engine] = str(error)
        else:
            found[engine] = None
    return found
