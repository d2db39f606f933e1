#!/usr/bin/env bash
# Makes the images of cmd/*/Dockerfile, or of those that are named, where there is no registry and no build engine: static
# binaries in a tar, imported with the settings that the Dockerfile states. `make images` calls it with VERSION set.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${VERSION:?set it, or run make images}"
certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

[ $# -gt 0 ] || set -- skep-ingress skep-dockerproxy skep-dns skep-server skep-worker whoami
for name; do
  rm -rf "${root:?}"/*
  mkdir -m 1777 "$root/tmp"
  if grep -q '^COPY .*/ca-certificates.crt ' "cmd/$name/Dockerfile"; then
    install -D -m 644 "$certificates" "$root/etc/ssl/certs/ca-certificates.crt"
  fi
  for binary in $(grep -oE '\$TARGETPLATFORM/[a-z-]+' "cmd/$name/Dockerfile"); do
    CGO_ENABLED=0 GOOS=linux go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o "$root/" "./cmd/${binary#*/}"
  done

  settings=()
  while IFS= read -r line; do
    settings+=(--change "$line")
  done < <(grep -E '^(ENV|EXPOSE|USER|HEALTHCHECK|ENTRYPOINT) ' "cmd/$name/Dockerfile")
  tar --create --directory "$root" --owner 0 --group 0 . |
    docker import "${settings[@]}" - "ghcr.io/skep-sh/$name:$VERSION" >/dev/null
  echo "ghcr.io/skep-sh/$name:$VERSION"
done
