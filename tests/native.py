"""For tests of the native engine: checkpoints whose heads its kernels take, and a bundle."""

from pairscore.export.api import export_bundle
from tests import corpus

PAIRS = [(claim, evidence) for claim in corpus.SENTENCES[:10] for evidence in corpus.SENTENCES[10:22]]
LOOSE = {"min_spearman": 0.9, "max_difference": 0.3}
FILES = ("native/int8.json", "native/int8.safetensors")
FAMILIES = ("bert", "roberta", "xlm-roberta", "distilbert", "electra")
# ModernBERT with its own head, on the mean and on the first token, and as a stack of modules.
MODERN = ("modernbert", "modernbert-cls", "ettin")


def built_as(family):
    """What `build_checkpoint` calls it."""
    return family.removesuffix("-cls")


def changes(family):
    """What `build_checkpoint` needs so that a head has 16 columns, or the 32 that rotary positions need."""
    if family == "ettin":
        return {}  # it has such a head
    if family in MODERN:
        pooling = {"classifier_pooling": "cls"} if family == "modernbert-cls" else {}
        return {"num_attention_heads": 1, **pooling}
    return {"n_heads": 2} if family == "distilbert" else {"num_attention_heads": 2}


def add_native(checkpoint, bundle):
    """Add an int8 variant of the native engine to the bundle. The promise is loose: the weights are random."""
    export_bundle(str(checkpoint), bundle, precision="int8", calibration=PAIRS, engine="native", **LOOSE)
