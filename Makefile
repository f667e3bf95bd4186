# Everything a developer types. `make` alone says what there is.
.DEFAULT_GOAL := help
.PHONY: help setup demo test campaign bench fmt lint hostile fuzz
# The same cases in every run of the tests; `make fuzz` looks for new ones.
export PROPTEST_RNG_SEED ?= 1

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing (Docker Engine, registry, Redis, moto …); starts no service
	@scripts/setup

demo: setup ## four jobs from push to image, live, on parts of its own
	@cargo build --release --locked
	@scripts/host-state keep -- scripts/parts run -- scripts/demo

# `scripts/host-state keep` fails where something of this host is not as it was before.
# The queue's tests mostly wait, for leases that run out: more of them at a time than there are cores.
test: setup ## all tests, on real parts of their own
	@cargo test --locked --no-run
	@scripts/host-state keep -- scripts/parts run -- sh -c 'cargo test --locked --lib --bins --test docs --test campaign --test image --test registry --test report --test source \
		&& cargo test --locked --test queue -- --test-threads=6 \
		&& cargo test --locked --test integration'

hostile: setup ## one worker through some 600 hostile jobs, repositories and servers: about eight minutes; `make test` takes 64 of them
	@cargo test --locked --no-run --test integration
	@SLIPWAY_TEST_HOSTILE=all scripts/parts run -- cargo test --locked --test integration -- hostile:: --nocapture

fuzz: setup ## other random cases for every parser and every law than the tests', for some eight minutes; CASES=
	@env -u PROPTEST_RNG_SEED PROPTEST_CASES=$(or $(CASES),20000) cargo test --locked --lib -- --skip model::

campaign: setup ## kills, outages, take-overs, secrets, undelivered logs, for two hours; SEED= ROUNDS= OUTAGE_SECONDS= PARALLEL=
	@cargo test --locked --no-run --test campaign
	@scripts/parts run -- cargo test --locked --test campaign -- --kills 200 --turns 3 --takeover --matrix --secrets 10000 --undelivered 60

bench: setup ## figures, side by side with the shell's way
	@cargo bench --locked --no-run
	@scripts/parts run -- cargo bench --locked

fmt: ## format the code
	cargo fmt

lint: ## formatting and clippy, as CI does
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
