# What a newcomer would type: make demo, make test, make test FILE=tests/job, make test-all, make lint, make format, make fuzz, make kills, make mutations, make bench, make bench-quick, make clean.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# The package index serves Linux users a CUDA build of torch, several gigabytes. This second index holds
# CPU builds of the same release, and pip prefers them; where it cannot be reached, pip goes on without.
# For a CUDA build: make demo PYTORCH_INDEX=
PYTORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH := $(shell grep '^torch==' requirements/tested.txt)
INSTALL := $(BIN)/python -m pip install --quiet -c requirements/tested.txt

# Without what they need, numpy: make installs that beside them, from several processes at once.
INSTALL_KERNELS := $(BIN)/python -m pip install --quiet --no-deps --upgrade ./kernels

BUNDLE := out/bundle
CHECKPOINT := models/climate-claims-minilm-l6

.PHONY: demo test test-all test5 lint format fuzz kills mutations kernels kernels-emulate kernels-sanitize kernels-profile kernels-arm check-wheel bench bench-again bench-quick bench-bundle bench-peers bench-report clean

demo: $(VENV)/.demo $(VENV)/.kernels
	$(BIN)/pairscore export $(CHECKPOINT) $(BUNDLE) --overwrite
	$(BIN)/pairscore score $(BUNDLE) examples/claims.parquet --output out/scored.parquet --overwrite
	$(BIN)/pairscore show out/scored.parquet
	$(BIN)/pairscore verify $(BUNDLE) --reference $(CHECKPOINT) --pairs examples/claims.parquet

# A process a core and one more, since some tests wait for others; one that has run its tests takes over half of what another
# has left. FILE: some tests, as pytest takes them. `test-all` adds every combination of families, exporters and options that others cover in pairs.
PYTEST := -m pytest --numprocesses $$(($$(nproc) + 1)) --maxprocesses 8 --dist worksteal --durations 10
FILE ?=
test: $(VENV)/.test $(VENV)/.kernels
	$(BIN)/python $(PYTEST) $(FILE)

test-all: $(VENV)/.test $(VENV)/.kernels
	$(BIN)/python $(PYTEST) -m "" $(FILE)

# With transformers 5 and sentence-transformers 6, what these can change: what is loaded, what it computes, the graphs that
# are made of it, training, evaluation, the hub and CrossEncoder's own interface. int8 is judged on any graph alike, so its
# one test here is that it is fitted. PyTorch's exporter notes every step where pytest collects logs, so pytest does not.
VENV5 ?= .venv5
TESTS5 := $(addprefix tests/export/test_,bundle_export.py checkpoint.py decoder.py encoder.py exporters.py large_graphs.py modules.py unpadded.py \
	int8_export.py::test_the_variant_is_measured_and_the_others_stay) \
	$(addprefix tests/training/test_,evaluate.py start.py train.py) tests/bundle/test_hub.py tests/test_drop_in.py
test5: $(VENV5)/.test
	$(VENV5)/bin/python $(PYTEST) -p no:logging $(TESTS5)

lint: $(VENV)/.test
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pyright

# Damaged files and command lines, from a seed.
CASES ?= 5000
SEED ?= 0
fuzz: $(VENV)/.test $(VENV)/.kernels
	mkdir -p out
	$(BIN)/python -m tests.robustness.fuzz --cases $(CASES) --seed $(SEED) --json out/fuzz.json

# Jobs that are killed, stopped, cut off and left without a disk. Needs root for the full disk.
kills: $(VENV)/.test
	mkdir -p out
	$(BIN)/python -m tests.robustness.kills --times 100 --json out/kills.json

# Faults that tests have to find, made in a copy: some minutes.
mutations: $(VENV)/.test $(VENV)/.kernels
	$(BIN)/python -m tests.robustness.mutations

format: $(VENV)/.test
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# The int8 kernels, which must then be there.
kernels: $(VENV)/.demo $(VENV)/.kernels
	$(BIN)/python -c 'import pairscore_kernels; print(*pairscore_kernels.available())'

# The kernels of every x86 instruction set on a processor with AVX2: AVX-512 and AVX-VNNI by the functions of SIMDe, AMX by
# plain loops.
kernels-emulate: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target out/simde simde-py==0.8.2.post1
	$(INSTALL_KERNELS) --target out/$@ -C cmake.define.PAIRSCORE_EMULATE=$(CURDIR)/out/simde/simde_py/simde
	PYTHONPATH=out/$@ $(BIN)/python -m pytest --numprocesses 2 tests/kernels

# The kernels under the address and the undefined-behaviour sanitizer of GCC, in a quarter of an hour. Python itself leaks
# by design.
kernels-sanitize: $(VENV)/.test
	CXX=g++ $(INSTALL_KERNELS) --target out/$@ -C cmake.define.PAIRSCORE_SANITIZE=ON
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" \
		ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=out/$@ $(BIN)/python -m pytest --numprocesses 2 tests/kernels --timeout 900

# Where the kernels' time goes: a build that keeps the names of functions, sampled by perf (Debian 12: apt install linux-perf).
kernels-profile: $(VENV)/.bench
	$(INSTALL_KERNELS) --target out/$@ -C cmake.build-type=RelWithDebInfo \
		-C "cmake.define.CMAKE_CXX_FLAGS_RELWITHDEBINFO=-O3 -DNDEBUG"
	PYTHONPATH=out/$@ $(BIN)/python -m studies.kernel_profile --bundle $(BUNDLE) --checkpoint $(CHECKPOINT) --pairs $(PAIRS) \
		--output benchmarks/results/kernel-profile.json

# The kernels for 64-bit Arm under qemu-user (Debian 12: apt install qemu-user): the bytes that tests/kernels/golden.json
# holds for every processor. Slow; KERNELS_ARM_TESTS=tests/kernels runs all.
KERNELS_ARM_TESTS ?= tests/kernels/test_golden.py
kernels-arm: $(VENV)/.test
	$(BIN)/python -m pip install --quiet nanobind cmake ninja
	PYTHON="$(CURDIR)/$(BIN)/python" PATH="$(CURDIR)/$(BIN):$$PATH" kernels/emulation/arm.sh out/$@
	out/$@/python -c 'import pairscore_kernels; print(*pairscore_kernels.available())'
	out/$@/python -m pytest -p no:cacheprovider --noconftest --timeout 3000 $(KERNELS_ARM_TESTS)

# A wheel in an environment without PyTorch: what a machine that only scores gets.
check-wheel: $(VENV)/.test
	rm -rf out/wheel && mkdir -p out/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir out/wheel .
	$(BIN)/pairscore export $(CHECKPOINT) out/wheel/bundle --max-length 64 --quiet
	$(PYTHON) -m venv out/wheel/venv
	out/wheel/venv/bin/python -m pip install --quiet -c requirements/tested.txt out/wheel/*.whl
	cd out/wheel && ! venv/bin/pairscore score bundle ../../examples/claims.parquet --output no.parquet
	out/wheel/venv/bin/python -m pip install --quiet -c requirements/tested.txt "$$(ls out/wheel/*.whl)[cpu]"
	cd out/wheel && venv/bin/pairscore score bundle ../../examples/claims.parquet --output scored.parquet
	! out/wheel/venv/bin/python -c 'import torch'

# Needs a machine with nothing else to do. PAIRS: Parquet with a claim and an evidence column.
PAIRS ?= ../shared/climate-fever/train.parquet
CALIBRATION ?= ../shared/climate-fever/dev.parquet
BENCH_PAIRS ?= 1000
PEERS ?= out/peers
PEER_NAMES := openvino rerankers infinity
# Exits with 1, and nothing is published, where a variant of ours broke its promise or passed the machine's limit.
MEASURE = $(BIN)/pairscore bench $(BUNDLE) --reference $(CHECKPOINT) --pairs $(PAIRS) --limit $(BENCH_PAIRS) --overwrite
bench:
	@$(MAKE) --no-print-directory --jobs=2 bench-bundle bench-peers
	$(MEASURE) --peers $(PEERS) --output out/bench
	$(BIN)/python -m studies.pages --publish out/bench/bench.json

# Every precision that this processor computes.
bench-bundle: $(VENV)/.bench $(VENV)/.kernels
	$(BIN)/pairscore export $(CHECKPOINT) $(BUNDLE) --overwrite
	-$(BIN)/pairscore export $(CHECKPOINT) $(BUNDLE) --precision bf16 --pairs $(CALIBRATION)
	$(BIN)/pairscore export $(CHECKPOINT) $(BUNDLE) --precision int8 --calibration $(CALIBRATION)

# The same measurement once more, to show how far two runs disagree.
bench-again: $(VENV)/.bench
	$(MEASURE) --peers $(PEERS) --output out/bench-again
	$(BIN)/python -m studies.pages --publish out/bench-again/bench.json --again
	$(BIN)/python -m pairscore.benchmarks.agreement out/bench/bench.json out/bench-again/bench.json

# The reference and what the bundle holds (fp32 alone where there is none), in two rounds. Nothing is published.
bench-quick: $(VENV)/.bench $(BUNDLE)/pairscore.json
	$(MEASURE) --long 50 --output out/bench-quick

$(BUNDLE)/pairscore.json: | $(VENV)/.bench
	$(BIN)/pairscore export $(CHECKPOINT) $(BUNDLE) --overwrite

# An environment of its own for every peer whose requirements clash with ours. Every release is pinned, so pip has
# nothing to resolve; only torch brings what its build needs (nothing on a CPU, CUDA's libraries otherwise). They see
# this checkout by a path file, and its name and release by what $(VENV)'s own installation leaves in src/.
bench-peers: $(PEER_NAMES:%=$(PEERS)/%/.done)

$(PEERS)/%/.done: benchmarks/peers/%.txt
	$(PYTHON) -m venv $(PEERS)/$*
	! grep -q '^torch==' $< || $(PEERS)/$*/bin/python -m pip install --quiet --no-compile -c $< \
		$$(grep '^torch==' $<) $(if $(PYTORCH_INDEX),--extra-index-url $(PYTORCH_INDEX))
	$(PEERS)/$*/bin/python -m pip install --quiet --no-compile --no-deps -r $<
	$(PEERS)/$*/bin/python -c 'from pathlib import Path; import sysconfig; \
		Path(sysconfig.get_path("purelib"), "pairscore.pth").write_text("$(CURDIR)/src\n")'
	touch $@

bench-report: $(VENV)/.bench
	$(BIN)/python -m studies.pages

clean:
	rm -rf out build dist $(VENV) $(VENV5)

$(VENV)/.torch: requirements/tested.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --retries 1 $(TORCH) $(if $(PYTORCH_INDEX),--extra-index-url $(PYTORCH_INDEX))
	touch $@

# Without a compiler, pip brings one; without pip's index either, all goes on without the kernels.
$(VENV)/.kernels: $(VENV)/.torch $(shell find kernels -type f -not -path '*/__pycache__/*')
	@mkdir -p out
	@$(INSTALL_KERNELS) >out/kernels.log 2>&1 && touch $@ || \
		echo "Going on without the int8 kernels, which could not be built here: see out/kernels.log"

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(INSTALL) -e '.[cpu,export]'
	touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml
	$(INSTALL) -e '.[cpu,export,optimum,train,bench,dev]'
	touch $@ $(VENV)/.demo $(VENV)/.bench

$(VENV)/.bench: $(VENV)/.torch pyproject.toml
	$(INSTALL) -e '.[cpu,openvino,nanotoken,export,optimum,bench]'
	touch $@ $(VENV)/.demo

$(VENV5)/.test: requirements/tested5.txt pyproject.toml
	$(PYTHON) -m venv $(VENV5)
	$(VENV5)/bin/python -m pip install --quiet --retries 1 $$(grep '^torch==' $<) \
		$(if $(PYTORCH_INDEX),--extra-index-url $(PYTORCH_INDEX))
	$(VENV5)/bin/python -m pip install --quiet -c $< -e '.[cpu,openvino,export,train]' \
		pytest pytest-timeout pytest-xdist hypothesis
	touch $@
