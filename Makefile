.PHONY: run test lint

run: ## Run the service, embedded
	cargo run --release --locked

test: ## Install what is missing and run every test
	scripts/test

lint: ## Formatting and lints
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
