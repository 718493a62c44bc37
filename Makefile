# Two commands: `make report` and `make test`. Both set up .venv by themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# A torch that the user's environment already has is used as it is; without one this release is installed first.
TORCH  ?= torch==2.13.0
HAS_TORCH := $(shell $(PYTHON) -c "import importlib.util as u; print('yes' if u.find_spec('torch') else 'no')" 2>/dev/null)

.PHONY: report test bench lint setup organism clean

report: setup
	$(BIN)/interp report --model organism --task ioi --task colored_objects --task induction --out reports/organism.html

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# Every speed claim against its peers. ONLY="name name" runs some of it, QUICK=1 a small model to see that all runs.
bench: setup
	$(BIN)/python -m benchmarks $(foreach name,$(ONLY),--only $(name)) $(if $(QUICK),--quick)
	$(if $(QUICK),,$(BIN)/python -m benchmarks.page)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Hours: trains the model that ships again (resumable), measures it and writes its card.
TRAINING := data/models/organism/training
organism: setup
	OMP_NUM_THREADS=1 $(BIN)/python $(TRAINING)/train.py --run $(TRAINING)/runs/main
	$(BIN)/python $(TRAINING)/export.py --run $(TRAINING)/runs/main
	$(BIN)/python $(TRAINING)/evaluate.py
	$(BIN)/python $(TRAINING)/card.py --run $(TRAINING)/runs/main

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(if $(filter yes,$(HAS_TORCH)),--system-site-packages) $(VENV)
	$(if $(filter yes,$(HAS_TORCH)),,$(BIN)/python -m pip install -q "$(TORCH)")
	$(BIN)/python -m pip install -q -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) reports
