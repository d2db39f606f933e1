#!/bin/sh
# The demo's last part: a control plane on this machine, and a push that deploys. It is run by run.sh, with the Swarm, the
# secrets and the project of it, and ends what it starts.
set -eu
cd "$(dirname "$0")/.."
dir=${SKEP_DEMO_DIR:-/var/tmp/skep-demo}
address=127.0.0.1:${SKEP_DEMO_SERVER_PORT:-18081}
hub=127.0.0.1:${SKEP_DEMO_HUB_PORT:-18090}

ended() {
	for child in ${hub_pid-} ${server_pid-}; do kill "$child" 2>/dev/null || true; done
	for child in ${hub_pid-} ${server_pid-}; do wait "$child" 2>/dev/null || true; done
	.demo/postgres.sh stop
	rm -rf "$dir/hub" "$dir/skep.key"
}
trap ended EXIT

# await SECONDS FILE COMMAND... until the command succeeds; the file says why it does not.
await() {
	deadline=$(($(date +%s) + $1))
	why=$2
	shift 2
	until "$@"; do
		if [ "$(date +%s)" -ge "$deadline" ]; then
			echo "gave up waiting for: $*" >&2
			tail -n 20 "$why" >&2
			exit 1
		fi
		sleep 0.3
	done
}

CGO_ENABLED=0 go build -trimpath -o "$dir/bin/" ./cmd/skep-server ./cmd/skep-worker ./cmd/fakegithub
database=$(.demo/postgres.sh start)
key=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
(umask 077 && printf '%s\n' "$key" >"$dir/skep.key")
export SKEP_DATABASE_URL="postgres:///skep?$database" SKEP_HATCHET_DATABASE_URL="postgres:///hatchet?$database"
export SKEP_DATABASE_KEY_FILE="$dir/skep.key" SKEP_LISTEN="$address"
SKEP_LOOPBACK=on "$dir/bin/skep-server" serve 2>"$dir/server.log" & # the stand-in is on this machine
server_pid=$!
await 120 "$dir/server.log" curl -fs -o /dev/null --max-time 2 "http://$address/readyz"

token=$("$dir/bin/skep-server" token create --scope admin demo)
put() {
	printf 'PUT %s\n' "$1"
	printf 'Authorization: Bearer %s\n' "$token" | # not in the list of processes
		curl -fsS -o /dev/null -X PUT -H @- -H 'Content-Type: application/json' --data "$2" "http://$address/api/v1$1"
}
put /integrations/github/demo "{\"settings\": {\"base_url\": \"http://$hub/\"}, \"credentials\": {\"token\": \"ghp_demo0123456789demo0123456789demo0123\"}}"
put /sources/github/default '{"integration": "demo", "secret": "a-secret-of-the-demonstration"}'
put /projects/demo '{"provider": "github", "integration": "demo", "repository": "acme/homelab", "cluster": "demo", "deploy": "always"}'

FAKEGITHUB_TOKEN=ghp_demo0123456789demo0123456789demo0123 FAKEGITHUB_SECRET=a-secret-of-the-demonstration \
	"$dir/bin/fakegithub" -listen "$hub" -folder "$dir/hub" -repository acme/homelab -hook "http://$address/api/v1/webhooks/github" >"$dir/hub.log" 2>&1 &
hub_pid=$!
await 20 "$dir/hub.log" grep -qs 'The API is at' "$dir/hub.log"

cd "$dir/project"
git init -q -b main
echo 'Hello from Git.' >whoami/greeting.txt
git add -A
git -c user.name=demo -c user.email=demo@example.com commit -q -m 'Another greeting'
echo 'git push: whoami/greeting.txt has changed'
git push -q "$dir/hub/acme/homelab.git" main
cd - >/dev/null
await 180 "$dir/server.log" grep -qE ' (success|failure|error), ' "$dir/hub.log"
tail -n 1 "$dir/hub.log"
grep -q ' success, ' "$dir/hub.log" || { tail -n 20 "$dir/server.log" >&2; exit 1; }
rm -f "$dir/server.log" "$dir/hub.log"
