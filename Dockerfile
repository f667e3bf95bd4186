# syntax=docker/dockerfile:1
# docker build -t slipway .
# docker run -d --name slipway --stop-timeout 60 --group-add "$(stat -c %g /var/run/docker.sock)" \
#   -v /var/run/docker.sock:/var/run/docker.sock -v slipway:/var/lib/slipway --env-file .env slipway
# In the container 127.0.0.1 is the container: name Redis and the dashboard by addresses that it reaches, or add --network host.
# (--env-file takes values to the letter, quotes too; mounting the file as /var/lib/slipway/.env reads it as Slipway does.)
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake g++ make pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/slipway /usr/local/bin/slipway

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/slipway --create-home slipway
COPY --from=build /usr/local/bin/slipway /usr/local/bin/slipway
USER slipway
WORKDIR /var/lib/slipway
VOLUME /var/lib/slipway
ENTRYPOINT ["/usr/local/bin/slipway"]
CMD ["worker"]
