# liverec in a container: one static program, no shell, any user, read-only root, two volumes.
#
#   docker build -t liverec .
#   docker run --read-only -v liverec-data:/data -v "$PWD/archive:/archive" liverec record http://host/live.flv --to /archive
#   docker compose -f deploy/compose.serve.yaml up     all rooms, with the page
#
# BASE must have Go and CA certificates; it is only used to build.
ARG BASE=docker.io/library/golang:1.26-bookworm

FROM ${BASE} AS build
ARG VERSION=
ARG COMMIT=
ENV CGO_ENABLED=0
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN go build -trimpath -buildvcs=false -ldflags "-s -w -X main.Version=${VERSION} -X main.Commit=${COMMIT}" -o /out/liverec ./cmd/liverec \
 && mkdir -p /out/volumes/data /out/volumes/archive \
 && chmod 1777 /out/volumes/data /out/volumes/archive

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/volumes/ /
COPY --from=build /out/liverec /liverec
# Any other user works too: the volumes are open to all, and nothing else is ever written.
USER 65532:65532
ENV LIVEREC_DATA=/data
VOLUME ["/data", "/archive"]
# The page of `liverec serve`, where its config says listen = "0.0.0.0:8420".
EXPOSE 8420
# There is no shell to ask with: the program asks the one that runs. For `record`, `serve` and `resume`.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["/liverec", "doctor", "--live"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/liverec"]
