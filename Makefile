.PHONY: run test history faults fuzz schemathesis lint bench year audit advisories

run: ## Run the service, embedded
	cargo run --release --locked

test: ## Install what is missing and run every test
	scripts/test

history: ## Record a million operations of two instances on one Redis, and check what was promised
	scripts/need redis-server=redis-server redis-cli=redis-server cc=gcc
	QUOTAD_TEST_HISTORY_OPERATIONS=1000000 cargo test --release --locked --test it -- \
		history::run history::planted --nocapture --test-threads 1

faults: ## Break Redis, the database and the service in every way that is promised to be survived, at full length, and print what held
	scripts/faults

fuzz: ## Fuzz what reads input from outside, each target for FUZZ_SECONDS (600); installs cargo-fuzz
	scripts/fuzz

schemathesis: ## Hold the service to /openapi.json with schemathesis, from PyPI
	scripts/schemathesis

lint: ## Formatting and lints
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

bench: ## Compare with a bare Actix-web handler, embedded and with Redis
	bench/run

year: ## Fill SQLite and PostgreSQL with a year of history for 100,000 users, and time every admin query; wants 8 GB in TMPDIR
	scripts/need initdb=postgresql
	scripts/with-postgres cargo bench --locked --bench flush --bench year

audit: ## Licences, bans and sources of all dependencies; needs cargo-deny (cargo install --locked cargo-deny)
	cargo fetch --locked
	cargo deny --offline check bans licenses sources

advisories: ## Known vulnerabilities; fetches the RustSec database
	cargo deny check advisories
