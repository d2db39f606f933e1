#!/bin/sh
# The demo: generates stacks/examples, deploys it with `docker stack deploy` on a real Swarm, and asks the demo service
# for an answer through Caddy. It leaves the stacks running; .demo/stop.sh ends them.
set -eu
cd "$(dirname "$0")/.."
host=whoami.localhost

say() { printf '\n== %s\n' "$*"; }

say 'Docker Engine'
.demo/install.sh

say 'A Swarm of one node'
settings=$(.demo/swarm.sh start)
eval "$settings"

say 'Images, built from this repository'
VERSION=${VERSION:-0.1.0} .demo/images.sh

say 'skep generate -C stacks/examples'
build=${SKEP_DEMO_DIR:-/var/tmp/skep-demo}/build
go run ./cmd/skep generate -C stacks/examples -o "$build"

say 'docker stack deploy'
DEPLOY_FLAGS='--resolve-image never' "$build/deploy.sh"

say "Waiting for http://$host/"
deadline=$(($(date +%s) + 120))
until code=$(curl -s -o /dev/null -w '%{http_code}' --max-time 5 --resolve "$host:80:127.0.0.1" "http://$host/") && [ "$code" = 200 ]; do
	if [ "$(date +%s)" -ge "$deadline" ]; then
		echo "no answer: HTTP ${code:-000}" >&2
		docker service ls >&2
		docker service ps --no-trunc ingress_caddy whoami_whoami >&2 || true
		docker service logs --tail 20 ingress_caddy >&2 || true
		exit 1
	fi
	sleep 1
done
curl -s --max-time 5 --resolve "$host:80:127.0.0.1" "http://$host/"

# An answer comes before the health checks have passed.
all_running() { docker service ls --format '{{.Replicas}}' | awk '{ split($1, n, "/"); if (n[1] != n[2]) bad = 1 } END { exit bad }'; }
until all_running || [ "$(date +%s)" -ge "$deadline" ]; do sleep 1; done

say 'Running'
docker service ls --format 'table {{.Name}}\t{{.Mode}}\t{{.Replicas}}\t{{.Image}}'
printf '\n%-28s %s\n' URL 'HTTP status'
for url in "http://$host/" "http://$host/healthz"; do
	printf '%-28s %s\n' "$url" "$(curl -s -o /dev/null -w '%{http_code}' --max-time 5 --resolve "$host:80:127.0.0.1" "$url")"
done
printf '\nThe bundle is in %s. `make demo-stop` ends the demo.\n' "$build"
[ -z "$settings" ] || printf 'This demo runs a Docker daemon of its own:\n  %s\n' "$settings"
