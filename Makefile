# make test works from a fresh clone on Debian 12 with Rust and apt; everything else is installed.

CARGO ?= cargo
ROUNDS ?= 50

.PHONY: build deps test fmt lint demo bench clean

build: ## The release binary: target/release/pgcertd
	$(CARGO) build --release --locked

deps: ## What the tests, the demo and the bench need, by apt, where it is missing
	tests/install-deps

test: deps ## All tests and a short bench; the end-to-end ones start servers and need root
	$(CARGO) test --locked --features failpoints
	$(CARGO) test --locked --features failpoints --bench renewal -- --rounds 2

fmt: ## Formats the code
	$(CARGO) fmt

lint: ## Clippy on everything, warnings are errors
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings

demo: deps build ## A renewal from end to end, on a throw-away cluster
	demo/run.sh

bench: deps ## From a renewal to the first connection that sees it; ROUNDS=5 makes it short
	$(CARGO) bench --locked --bench renewal -- --rounds $(ROUNDS)

clean:
	$(CARGO) clean
