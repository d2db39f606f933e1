#!/bin/sh
# Ends what .demo/run.sh started: the stacks with their network, secrets and configs, the Docker daemon if it was the
# demo's own, and its files. Images stay.
set -eu
cd "$(dirname "$0")/.."
dir=${SKEP_DEMO_DIR:-/var/tmp/skep-demo}
eval "$(.demo/swarm.sh env)"

if [ -e "$dir/deployed" ]; then
	docker stack rm whoami ingress
	deadline=$(($(date +%s) + 60))
	until ! docker network inspect proxy_network >/dev/null 2>&1 || docker network rm proxy_network >/dev/null 2>&1; do
		[ "$(date +%s)" -lt "$deadline" ] || { echo 'network proxy_network is still in use' >&2; break; }
		sleep 1
	done
	# Tasks end and networks go after the command that removes a stack.
	while docker ps --quiet --filter label=com.docker.stack.namespace | grep -q .; do
		[ "$(date +%s)" -lt "$deadline" ] || { echo 'containers of the demo still run' >&2; break; }
		sleep 1
	done
	for stack in whoami ingress; do
		docker secret ls --quiet --filter "label=skep.stack=$stack" | xargs -r docker secret rm >/dev/null
		docker config ls --quiet --filter "label=skep.stack=$stack" | xargs -r docker config rm >/dev/null
	done
fi
.demo/postgres.sh stop # there is none, unless the demo was killed
.demo/swarm.sh stop
rm -rf "$dir/deployed" "$dir/project" "$dir/build" "$dir/bin" "$dir/items.yaml" "$dir/fakeconnect.log" "$dir/server.log" "$dir/hub.log" "$dir/hub" "$dir/skep.key"
rmdir "$dir" 2>/dev/null || true
