"""What is refused before it is loaded: one line that names the value and the remedy."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from pairscore import PairscoreError
from pairscore.export import checkpoint as checkpoint_module
from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.model import load_model
from pairscore.export.reference import load_reference
from pairscore.runtime.bundle.manifest import sha256


@pytest.fixture
def folder(checkpoint, tmp_path):
    """A checkpoint of its own that a test may damage."""
    return shutil.copytree(checkpoint("bert"), tmp_path / "checkpoint")


def change(path, **changes):
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**content, **changes}))


def refused(folder, match, **options):
    with pytest.raises(PairscoreError, match=match) as raised:
        open_checkpoint(str(folder), **options)
    assert "\n" not in str(raised.value)


def test_a_good_checkpoint(folder):
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.folder == folder
    assert checkpoint.source.name == "checkpoint"
    assert checkpoint.source.digest == sha256(folder / "model.safetensors")
    assert checkpoint.config["model_type"] == "bert"


def test_nothing_there(tmp_path):
    refused(tmp_path / "nothing", "no checkpoint folder .* give a folder, or a Hugging Face id")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "no checkpoint folder")


def test_a_hub_id_that_cannot_be_fetched():
    """The tests run with the hub switched off, as on a machine without a network."""
    refused("nobody/has-this-model", "hub cannot be reached .* give a local checkpoint folder")


def test_a_revision_of_a_folder(folder):
    refused(folder, "local folder.*drop --revision main", revision="main")


def test_no_config(folder):
    (folder / "config.json").unlink()
    refused(folder, r"'checkpoint' has no config\.json")


def test_a_config_that_is_not_json(folder):
    (folder / "config.json").write_text("{")
    refused(folder, "not valid JSON")


@pytest.mark.parametrize(
    ("architectures", "message"),
    [
        (["BertForMaskedLM"], r"not a sequence-classification model \(architectures: BertForMaskedLM\)"),
        (["Qwen3ForCausalLM"], "causal language model.*published as NAME-seq-cls"),
    ],
)
def test_other_architectures(folder, architectures, message):
    change(folder / "config.json", architectures=architectures)
    refused(folder, message)


@pytest.mark.parametrize("architectures", [["BertModel"], None])
def test_the_weights_say_whether_there_is_a_classifier(folder, architectures):
    change(folder / "config.json", architectures=architectures)
    assert open_checkpoint(str(folder)).config["architectures"] == architectures
    weights = load_file(folder / "model.safetensors")
    save_file({name: each for name, each in weights.items() if "classifier" not in name}, folder / "model.safetensors")
    refused(folder, rf"not a sequence-classification model \(architectures: {(architectures or ['none'])[0]}\)")


def test_an_encoder_decoder(folder):
    change(folder / "config.json", is_encoder_decoder=True)
    refused(folder, "is an encoder-decoder")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_remote_code(folder, name):
    """Of an architecture that is built in, the code that comes along is left over and not needed."""
    change(folder / name, auto_map={"AutoModel": "modeling.Own"})
    assert open_checkpoint(str(folder)).modules == ()
    change(folder / "config.json", model_type="own")
    refused(folder, rf"code of its own \(auto_map in {name}\), which is never run.*no 'own' built in")


def test_a_git_lfs_pointer(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    refused(folder, "model.safetensors of .* is a Git LFS pointer, not the file: run `git lfs pull`")


def test_a_sentencepiece_file_without_sentencepiece(folder, monkeypatch):
    (folder / "tokenizer.json").rename(folder / "spm.model")
    monkeypatch.setattr(checkpoint_module, "find_spec", lambda name: None)
    refused(folder, "has its tokenizer in spm.model alone, which needs `pip install sentencepiece`")


def unloadable(folder, message):
    with pytest.raises(PairscoreError, match=message):
        load_reference(open_checkpoint(str(folder)))


def test_tokens_without_an_embedding_are_named(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["[E1]", "[E2]"])
    tokenizer.save_pretrained(folder)
    unloadable(folder, r"2 tokens of .* have no embedding, among them '\[E1\]', '\[E2\]'")


def test_inputs_that_the_model_does_not_take(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint("distilbert"), tmp_path / "checkpoint")
    change(folder / "tokenizer_config.json", model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    unloadable(folder, "gives token_type_ids, which DistilBertForSequenceClassification does not take: set model_input")


def test_a_chat_template(folder):
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    change(folder / "tokenizer_config.json", chat_template=template)
    unloadable(folder, "has a chat template, which CrossEncoder puts around every pair")


def test_attention_for_gpus_is_not_needed(folder):
    change(folder / "config.json", _attn_implementation="flash_attention_2", attn_implementation="flash_attention_2")
    assert load_reference(open_checkpoint(str(folder))).model_type == "bert"


def test_an_adapter(folder):
    change(folder / "adapter_config.json", peft_type="LORA")
    refused(folder, "is an adapter: merge it")


def test_a_bundle(exported):
    refused(exported("bert").bundle, "is a bundle already")


def test_pickled_weights_are_never_loaded(folder, tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    refused(folder, r"pickled weights only.*save_pretrained\(FOLDER\)")
    assert not (tmp_path / "executed").exists()


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    refused(folder, r"lacks its weights model\.safetensors")


def test_one_plain_transformer_is_no_stack(folder):
    plain = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    (folder / "modules.json").write_text(json.dumps([plain]))
    assert open_checkpoint(str(folder)).modules == ()
    (folder / "modules.json").write_text(json.dumps([{**plain, "path": "0_Transformer"}]))
    refused(folder, r"begins with the module Transformer at '0_Transformer': only stacks .* in the top folder")


@pytest.mark.parametrize(
    ("file", "changes", "what"),
    [
        ("config.json", {"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "rope_parameters in config.json"),
        ("tokenizer_config.json", {"tokenizer_class": "TokenizersBackend"}, "the tokenizer class TokenizersBackend"),
        ("tokenizer_config.json", {"extra_special_tokens": ["[X]"]}, "a list of extra_special_tokens"),
    ],
)
def test_what_transformers_5_saved_and_4_would_misread(folder, file, changes, what):
    """Its rotary positions would be those of the defaults, without a word; its tokenizer would not open."""
    change(folder / file, **changes)
    change(folder / "config.json", transformers_version="5.24.0")
    open_checkpoint(str(folder), transformers="5.0.0")
    message = f'saved by transformers 5.24.0, and 4.57.6, .* does not know {what}.*: .*"transformers>=5"'
    refused(folder, message, transformers="4.57.6")


@pytest.mark.parametrize("place", ["config.json", "config_sentence_transformers.json", "older"])
def test_an_unknown_activation(folder, place):
    value = "torch.nn.modules.activation.GELU"
    match place:
        case "config.json":
            change(folder / "config.json", sentence_transformers={"activation_fn": value})
        case "older":
            change(folder / "config.json", sbert_ce_default_activation_function=value)
        case name:
            change(folder / name, activation_fn=value)
    refused(folder, r"uses the activation 'torch\.nn\.modules\.activation\.GELU': only Sigmoid")


def test_shards_have_one_digest_that_follows_each(folder):
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, keys in halves.items():
        save_file({key: weights[key] for key in keys}, folder / file, {"format": "pt"})
    weight_map = {key: file for file, keys in halves.items() for key in keys}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    first = open_checkpoint(str(folder))
    load_model(first)
    changed = folder / "model-00002-of-00002.safetensors"
    save_file({key: weights[key] + 1 for key in names[1::2]}, changed, {"format": "pt"})
    assert open_checkpoint(str(folder)).source.digest != first.source.digest
    changed.unlink()
    refused(folder, "lacks its weights model-00002-of-00002")


# What shows only once it is loaded ---------------------------------------------------------------------


def test_weights_that_would_be_made_up(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(PairscoreError, match=r"lacks 1 weights .*classifier\.weight.*random"):
        load_model(open_checkpoint(str(folder)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(folder, value):
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"][0] = value
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(PairscoreError, match=r"weight classifier\.bias .*not finite"):
        load_model(open_checkpoint(str(folder)))


def test_a_slow_tokenizer(folder):
    """Without tokenizer.json, a class that has no fast counterpart is loaded from its vocabulary."""
    for name in ("tokenizer.json", "special_tokens_map.json"):  # transformers 5 writes the first alone
        (folder / name).unlink(missing_ok=True)
    change(folder / "tokenizer_config.json", tokenizer_class="CanineTokenizer")
    with pytest.raises(PairscoreError, match=r"only a slow tokenizer \(CanineTokenizer\)"):
        load_reference(open_checkpoint(str(folder)))


def test_a_broken_tokenizer_is_one_line(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(PairscoreError, match="CrossEncoder cannot load 'checkpoint'") as raised:
        load_reference(open_checkpoint(str(folder)))
    assert "\n" not in str(raised.value)


def test_two_labels_of_one_name(folder):
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"] = torch.cat([weights["classifier.weight"]] * 2)
    weights["classifier.bias"] = torch.cat([weights["classifier.bias"]] * 2)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    change(folder / "config.json", id2label={"0": "yes", "1": "yes"}, label2id={"yes": 1})
    with pytest.raises(PairscoreError, match=r"two labels .* \(yes, yes\)"):
        load_reference(open_checkpoint(str(folder)))


def test_max_length_as_crossencoder_resolves_it(folder):
    """The tokenizer's, but never more than the model has positions."""
    for own, resolved in ((20, 20), (64, 64), (1000, 64), (int(1e30), 64)):
        change(folder / "tokenizer_config.json", model_max_length=own)
        assert load_reference(open_checkpoint(str(folder))).max_length == resolved
    assert load_reference(open_checkpoint(str(folder)), 10).max_length == 10
    with pytest.raises(PairscoreError, match=r"--max-length 65 is more than the 64 positions"):
        load_reference(open_checkpoint(str(folder)), 65)


def test_positions_that_pytorch_itself_runs_out_of(checkpoint, tmp_path):
    """RoBERTa counts positions from its padding id: of 66 only 64 serve, and CrossEncoder then allows 66."""
    folder = shutil.copytree(checkpoint("roberta"), tmp_path / "checkpoint")
    change(folder / "tokenizer_config.json", model_max_length=int(1e30))
    reference = load_reference(open_checkpoint(str(folder)))
    assert reference.max_length == 66
    with pytest.raises(PairscoreError, match=r"PyTorch itself fails .* at max length 66 .*--max-length"):
        reference.logits([("word " * 200, "word " * 200)])
    shorter = load_reference(open_checkpoint(str(folder)), 64)
    assert shorter.logits([("word " * 200, "word " * 200)]).shape == (1, 1)


def test_a_revision_from_the_hubs_cache(checkpoint, tmp_path):
    """A model that is in the cache already is found without a network, by branch and by commit."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    store = tmp_path / "models--someone--model"
    shutil.copytree(checkpoint("bert"), store / "snapshots" / commit)
    (store / "refs").mkdir()
    (store / "refs" / "main").write_text(commit)
    program = (
        "from pairscore.export.checkpoint import open_checkpoint\n"
        f"for revision in (None, 'main', '{commit}', 'other'):\n"
        "    found = open_checkpoint('someone/model', revision); print(found.source.name, found.source.revision)"
    )
    # The hub's library reads where its cache is when it is imported: hence a process of its own.
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.stdout == f"someone/model {commit}\n" * 3
    assert "cannot be reached" in ended.stderr
