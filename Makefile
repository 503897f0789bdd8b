# make help lists what there is. Everything runs in .venv, made from requirements.lock; PYTHON must be 3.11.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready
export OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || echo 2)
export TOKENIZERS_PARALLELISM = false
export HF_HUB_OFFLINE ?= 1
export TRL_EXPERIMENTAL_SILENCE = 1
export DVC_NO_ANALYTICS = 1
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"

.DEFAULT_GOAL := help
.PHONY: help install repro smoke test test-fast coverage lint format deps notebook ask suite example-model leaderboard \
	lmms-env lmms-test mlflow studies readme benchmarks gpu-check verl-env verl-test lock clean

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "MedScope needs Python 3.11; '$(PYTHON)' is not. Give its path: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

install: $(READY)  ## create .venv from the lock

repro: $(READY)  ## the whole pipeline, from nothing to the result table (PRESET=qwen2.5-vl-7b: a file of presets/)
ifdef PRESET
	changes=$$($(BIN)/python -m medscope.pipeline.presets $(PRESET)) && $(RUN) dvc exp run $$changes
else
	$(RUN) dvc repro
endif
	@$(BIN)/python -m medscope.reporting.report metrics/evaluate.json outputs/report/07_report.html

smoke: $(READY)  ## the whole chain at smoke scale, in smoke/
	rm -rf smoke
	$(RUN) python -m medscope.pipeline.stage --smoke all
	@$(BIN)/python -m medscope.reporting.report smoke/metrics/evaluate.json smoke/outputs/report/07_report.html

# One worker per core, a file to a worker: its fixtures are made once.
PYTEST := $(RUN) pytest --numprocesses logical --dist loadfile

test: $(READY)  ## all tests
	$(PYTEST)

test-fast: $(READY)  ## the tests that take seconds
	$(PYTEST) -m "not slow"

coverage: $(READY)  ## all tests, and which lines of the package they and the notebooks that they start ran
	$(PYTEST) --cov --cov-report=term-missing:skip-covered

lint: $(READY)  ## ruff, formatting, imports between rooms, notebooks without outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify notebooks/*.ipynb

format: $(READY)  ## format code, strip notebooks
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout notebooks/*.ipynb

deps: $(READY)  ## write what every stage imports into dvc.yaml and studies/dvc.yaml
	$(BIN)/python tests/closure.py

notebook: $(READY)  ## JupyterLab with the kernel ready
	$(BIN)/python -m ipykernel install --prefix .venv --name python3 --display-name "MedScope"
	$(RUN) jupyter lab notebooks

# With `make -C` relative paths still mean the folder of the user.
ask: export ASKED_FROM = $(PWD)
ask: $(READY)  ## answer a question about a video: VIDEO=x.mp4 QUESTION="..", MODEL= (folder or endpoint), OUT= (folder for a page)
	@cd "$$ASKED_FROM" && "$(abspath $(BIN))/python" -m medscope.ask "$$VIDEO" "$$QUESTION" $${MODEL:+--model "$$MODEL"} $${OUT:+--out "$$OUT"}

example-model: $(READY)  ## models/ from the last make repro: the policy, its card, a held-out video (at most 8 MB, committed)
	$(BIN)/python -m medscope.pipeline.example_model

suite: $(READY)  ## a suite of your recordings, in runs/: VIDEOS=folder, ANNOTATIONS=file FORMAT=csv, TEACHER=endpoint, GROUP_FROM=
	@$(BIN)/python -m medscope.pipeline.own_suite "$$VIDEOS" $${ANNOTATIONS:+--annotations "$$ANNOTATIONS"} \
		$${FORMAT:+--format "$$FORMAT"} $${TEACHER:+--teacher "$$TEACHER"} $${GROUP_FROM:+--group-from "$$GROUP_FROM"}

leaderboard: $(READY)  ## one page of all predictions: outputs/leaderboard.html (FOLDERS="predictions runs/predictions ..")
	$(BIN)/python -m medscope.reporting.leaderboard $(or $(FOLDERS),predictions) --out outputs/leaderboard.html

.venv-lmms/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-lmms
	.venv-lmms/bin/pip install --quiet --disable-pip-version-check lmms-eval==0.7.3 torch==2.13.0 transformers==5.23.0 \
		trl==1.16.0 decord==0.6.0 diskcache httpx2 pytest hypothesis setuptools
	.venv-lmms/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

lmms-env: .venv-lmms/.ready  ## lmms-eval with our tasks and model, in an environment of its own (docs/any_model.md)

lmms-test: .venv-lmms/.ready  ## the real lmms-eval gives our numbers for the same predictions
	.venv-lmms/bin/python -m pytest tests/test_lmms_eval.py

mlflow: $(READY)  ## browse the runs
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db

studies: $(READY)  ## STUDY=seeds | two_by_two | figure5 | rho | baselines | avg_at_8: metrics/studies/<study>.json
	$(RUN) dvc repro studies/dvc.yaml:$(or $(STUDY),seeds)

readme: $(READY)  ## write the results of metrics/ and pictures of outputs/ into README.md and docs/
	$(RUN) python -m medscope.reporting.report --readme

benchmarks: $(READY)  ## our GA-GRPO step against stock TRL's, tool latency: benchmarks/results/ (15 minutes)
	$(BIN)/pip install --quiet --disable-pip-version-check opencv-python-headless torchcodec
	$(RUN) python benchmarks/tool_latency.py
	$(RUN) python benchmarks/ga_grpo_step.py

gpu-check: $(READY)  ## on a machine with a GPU: tests, our step against TRL at 7B, attention, vLLM: benchmarks/results/gpu.json
	$(BIN)/python benchmarks/gpu_check.py

.venv-verl/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-verl
	.venv-verl/bin/pip install --quiet --disable-pip-version-check verl==0.9.1 torch==2.13.0 transformers==5.9.0 \
		TransferQueue==0.1.11 cachetools fastapi uvicorn decord==0.6.0 av openai diskcache pytest
	.venv-verl/bin/pip install --quiet --disable-pip-version-check setuptools
	.venv-verl/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

verl-env: .venv-verl/.ready  ## verl with our tools, reward and trainer, in an environment of its own (docs/verl.md)

verl-test: $(READY) .venv-verl/.ready  ## verl's own classes repeat our rollouts, rewards and advantages
	$(BIN)/python tests/verl_rollouts.py .venv-verl/export
	MEDSCOPE_VERL_EXPORT=.venv-verl/export .venv-verl/bin/python -m pytest --noconftest tests/test_verl.py

lock: $(READY)  ## resolve requirements.lock anew
	$(BIN)/pip-compile --quiet --allow-unsafe --all-extras --strip-extras --no-emit-find-links --no-emit-index-url --output-file requirements.lock pyproject.toml
	sed -i 's/+cpu//' requirements.lock

clean:  ## delete the environment, resume checkpoints and the smoke run (not .cache/: paid verdicts, not runs/)
	rm -rf .venv scratch smoke
