#!/bin/sh
# Ends what .demo/run.sh started: the stacks, and the Docker daemon if it was the demo's own.
set -eu
cd "$(dirname "$0")/.."
eval "$(.demo/swarm.sh env)"
docker stack rm whoami ingress 2>/dev/null || true
.demo/swarm.sh stop
