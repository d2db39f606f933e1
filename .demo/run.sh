#!/bin/sh
# The demo: takes a secret from a stand-in for 1Password Connect, generates stacks/examples, deploys it with `docker stack
# deploy` on a real Swarm, asks the demo service for an answer through Caddy, brings a new version of the
# secret in with `skep deploy`, and has the control plane deploy what is pushed to Git. It leaves the stacks running;
# .demo/stop.sh ends them.
set -eu
cd "$(dirname "$0")/.."
host=whoami.localhost
dir=${SKEP_DEMO_DIR:-/var/tmp/skep-demo}
mkdir -p "$dir"

say() { printf '\n== %s\n' "$*"; }

say 'Docker Engine'
.demo/install.sh

say 'A Swarm of one node'
settings=$(.demo/swarm.sh start)
eval "$settings"

# The demo's stacks have the names that people give their own.
if [ ! -e "$dir/deployed" ] && docker stack ls --format '{{.Name}}' | grep -qxE 'ingress|whoami'; then
	echo 'This Swarm has a stack ingress or whoami, which the demo would replace. Set DOCKER_HOST to another Docker.' >&2
	exit 1
fi

say 'Images, built from this repository'
VERSION=${VERSION:-0.1.0} .demo/images.sh skep-ingress skep-dockerproxy whoami

project=$dir/project
build=$dir/build
CGO_ENABLED=0 go build -trimpath -o "$dir/bin/" ./cmd/skep ./cmd/fakeconnect
skep() { "$dir/bin/skep" "$@"; }
rm -rf "$project"
cp -R stacks/examples "$project"

say 'skep secrets sync, from a stand-in for 1Password Connect'
cat >"$dir/items.yaml" <<'END'
demo:
  whoami:
    version: 1
    fields: {token: only-the-service-sees-this}
END
export OP_CONNECT_HOST="http://127.0.0.1:${SKEP_DEMO_CONNECT_PORT:-18080}" OP_CONNECT_TOKEN=a-token-of-the-demonstration
"$dir/bin/fakeconnect" -listen "${OP_CONNECT_HOST#http://}" -items "$dir/items.yaml" 2>"$dir/fakeconnect.log" &
connect=$!
trap 'kill "$connect" 2>/dev/null || true' EXIT
deadline=$(($(date +%s) + 20))
until curl -s -o /dev/null --max-time 2 "$OP_CONNECT_HOST/heartbeat"; do
	if [ "$(date +%s)" -ge "$deadline" ] || ! kill -0 "$connect" 2>/dev/null; then
		cat "$dir/fakeconnect.log" >&2
		exit 1
	fi
	sleep 0.2
done
skep secrets sync -C "$project"

say 'skep generate'
skep generate -C "$project" -o "$build"

say 'docker stack deploy'
: >"$dir/deployed"
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

say 'The secret changes: skep secrets sync, skep deploy'
sed -i 's/version: 1/version: 2/; s/only-the-service/nobody-but-the-service/' "$dir/items.yaml"
skep secrets sync -C "$project"
skep deploy -C "$project" --resolve-image never

say 'skep deploy again'
skep deploy -C "$project" --resolve-image never

say 'A control plane, and a push that deploys'
.demo/control-plane.sh

say 'Running'
docker service ls --format 'table {{.Name}}\t{{.Mode}}\t{{.Replicas}}\t{{.Image}}'
printf '\n%-28s %s\n' URL 'HTTP status'
for url in "http://$host/" "http://$host/healthz"; do
	printf '%-28s %s\n' "$url" "$(curl -s -o /dev/null -w '%{http_code}' --max-time 5 --resolve "$host:80:127.0.0.1" "$url")"
done
printf '\nThe bundle is in %s. `make demo-stop` ends the demo.\n' "$build"
[ -z "$settings" ] || printf 'This demo runs a Docker daemon of its own:\n  %s\n' "$settings"
