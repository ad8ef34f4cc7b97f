# Builds with crates alone; runs as a user without rights.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/quotad quotad
COPY --from=build /src/target/release/quotad /usr/local/bin/quotad
USER quotad
ENV QUOTAD_LISTEN=0.0.0.0:8080 QUOTAD_DATA_DIR=/var/lib/quotad/data
RUN mkdir /var/lib/quotad/data
VOLUME /var/lib/quotad/data
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=4s CMD ["quotad", "healthcheck"]
ENTRYPOINT ["quotad"]
