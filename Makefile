.PHONY: run test lint bench audit advisories

run: ## Run the service, embedded
	cargo run --release --locked

test: ## Install what is missing and run every test
	scripts/test

lint: ## Formatting and lints
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

bench: ## Compare with a bare Actix-web handler, embedded and with Redis
	bench/run

audit: ## Licences, bans and sources of all dependencies; needs cargo-deny (cargo install --locked cargo-deny)
	cargo fetch --locked
	cargo deny --offline check bans licenses sources

advisories: ## Known vulnerabilities; fetches the RustSec database
	cargo deny check advisories
