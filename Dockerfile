# Builds with crates and Debian packages alone; runs as a user without rights.
FROM rust:1-bookworm AS build
WORKDIR /src
# The dependencies are a layer of their own, built with an empty crate: a change of src does not build them again.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src benches && touch src/lib.rs benches/decide.rs benches/flush.rs benches/key_timing.rs benches/memory.rs benches/redis.rs benches/year.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cargo build --release --locked && rm -r src
COPY migrations migrations
COPY src src
# Cargo goes by the time of a file, and the empty crate is newer than the real one.
RUN touch src/lib.rs src/main.rs && cargo build --release --locked

FROM debian:bookworm-slim
# Whom to trust at an https:// address of keys.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -r /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/quotad quotad
COPY --from=build /src/target/release/quotad /usr/local/bin/quotad
USER quotad
ENV QUOTAD_LISTEN=0.0.0.0:8080 QUOTAD_DATA_DIR=/var/lib/quotad/data
RUN mkdir /var/lib/quotad/data
VOLUME /var/lib/quotad/data
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=4s CMD ["quotad", "healthcheck"]
ENTRYPOINT ["quotad"]
