.PHONY: run test lint bench

run: ## Run the service, embedded
	cargo run --release --locked

test: ## Install what is missing and run every test
	scripts/test

lint: ## Formatting and lints
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

bench: ## Compare with a bare Actix-web handler, embedded and with Redis
	bench/run
