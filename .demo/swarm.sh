#!/bin/sh
# A Swarm of one node for the demo.
#
#   swarm.sh start   uses the Docker that answers, in Swarm mode from now on; where none answers, starts a dockerd of its
#                    own (as root) and prints the DOCKER_HOST to export: eval "$(.demo/swarm.sh start)"
#   swarm.sh env     prints that DOCKER_HOST again, or nothing
#   swarm.sh stop    ends the dockerd of its own and removes what it wrote; leaves any other alone
set -eu

dir=${SKEP_DEMO_DIR:-/var/tmp/skep-demo}
socket=$dir/docker.sock
group=/skep-demo

say() { echo "$*" >&2; }
die() {
	say "$*"
	exit 1
}

# pid prints the process of the demo's own dockerd, if it runs. A number alone proves nothing after a restart.
pid() {
	number=$(cat "$dir/pid" 2>/dev/null) || return 1
	tr '\0' ' ' <"/proc/$number/cmdline" 2>/dev/null | grep -qF -- "--data-root $dir/data " || return 1
	echo "$number"
}

# await SECONDS COMMAND... until the command succeeds.
await() {
	deadline=$(($(date +%s) + $1))
	shift
	until "$@"; do
		[ "$(date +%s)" -lt "$deadline" ] || return 1
		sleep 0.2
	done
}

answers() { docker version >/dev/null 2>&1; }
gone() { ! pid >/dev/null; }

export_own() { echo "export DOCKER_HOST=unix://$socket"; }

# ensure_swarm makes the Docker that DOCKER_HOST names a manager.
ensure_swarm() {
	case $(docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}') in
	'active true') ;;
	inactive*) docker swarm init --advertise-addr 127.0.0.1 >/dev/null && say "This Docker is a Swarm of one node now." ;; # its output holds the join token
	'active false') die "This Docker is a worker of a Swarm: set DOCKER_HOST to a manager." ;;
	*) die "This Docker's Swarm is neither active nor inactive: see docker info." ;;
	esac
}

# filter_tables prints, for iptables-restore, the present rules without those of Docker and with the old policy.
filter_tables() {
	"$1-save" | grep -vE 'DOCKER|docker0|docker_gwbridge' | sed "s/^:FORWARD DROP /:FORWARD $2 /"
}

# tunnels are the interfaces of overlays. A dockerd that ends while one is being made leaves it, and the next one fails on it.
tunnels() { ip -o link show type vxlan 2>/dev/null | sed -n 's/^[0-9]*: \(vx-[^:@]*\).*/\1/p'; }

# remember notes what the machine has before dockerd changes it.
remember() {
	mkdir "$dir/before"
	tunnels >"$dir/before/tunnels"
	cat /proc/sys/net/ipv4/ip_forward >"$dir/before/ip_forward"
	for bridge in docker0 docker_gwbridge; do
		! ip link show "$bridge" >/dev/null 2>&1 || : >"$dir/before/$bridge"
	done
	for tables in iptables ip6tables; do
		rules=$("$tables-save" 2>/dev/null) || continue
		case $rules in *DOCKER*) continue ;; esac
		policy=$("$tables" -S FORWARD 2>/dev/null | sed -n 's/^-P FORWARD //p')
		echo "${policy:-ACCEPT}" >"$dir/before/$tables"
	done
}

# restore undoes what dockerd leaves behind.
restore() {
	for bridge in docker0 docker_gwbridge; do
		[ -e "$dir/before/$bridge" ] || ip link delete "$bridge" 2>/dev/null || true
	done
	for tunnel in $(tunnels); do
		grep -qxF "$tunnel" "$dir/before/tunnels" || ip link delete "$tunnel" 2>/dev/null || true
	done
	for tables in iptables ip6tables; do
		[ -e "$dir/before/$tables" ] || continue
		filter_tables "$tables" "$(cat "$dir/before/$tables")" | "$tables-restore" || say "Some $tables rules of Docker are left."
	done
	[ ! -e "$dir/before/ip_forward" ] || cat "$dir/before/ip_forward" >/proc/sys/net/ipv4/ip_forward
	find /sys/fs/cgroup -depth -type d \( -path "*$group" -o -path "*$group/*" \) -exec rmdir {} + 2>/dev/null || true
}

start_own() {
	command -v dockerd >/dev/null 2>&1 || die "No Docker answers and there is no dockerd: run .demo/install.sh."
	[ "$(id -u)" = 0 ] || die "No Docker answers. Start it, or run this as root."
	mkdir -p "$dir"
	[ -e "$dir/before" ] || remember
	rm -f "$dir/pid" "$socket"
	# A private /run holds the socket that services mount as /var/run/docker.sock.
	# shellcheck disable=SC2016 # expanded by the inner shell
	setsid unshare --mount --propagation private sh -c '
		mount -t tmpfs tmpfs /run
		exec dockerd --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" --exec-opt native.cgroupdriver=cgroupfs \
			--cgroup-parent "$2" -H "unix://$1/docker.sock" -H unix:///run/docker.sock
	' sh "$dir" "$group" </dev/null >"$dir/log" 2>&1 &
	DOCKER_HOST=unix://$socket
	export DOCKER_HOST
	await 60 answers || {
		tail -n 20 "$dir/log" >&2
		die "dockerd does not answer. Its log is $dir/log."
	}
	say "Started dockerd (process $(pid)) in $dir."
}

start() {
	if pid >/dev/null; then
		DOCKER_HOST=unix://$socket
		export DOCKER_HOST
		await 60 answers || die "The demo's dockerd does not answer. Its log is $dir/log."
	elif answers; then
		ensure_swarm
		return
	else
		start_own
	fi
	ensure_swarm
	export_own
}

stop() {
	if number=$(pid); then
		DOCKER_HOST=unix://$socket
		export DOCKER_HOST
		docker swarm leave --force >/dev/null 2>&1 || true
		kill -TERM "$number"
		await 60 gone || {
			kill -KILL "$number"
			await 10 gone || die "Process $number does not end."
		}
	fi
	[ -d "$dir/before" ] || return 0
	restore
	rm -rf "$dir/data" "$dir/exec" "$dir/pid" "$dir/log" "$dir/docker.sock" "$dir/before"
	rmdir "$dir" 2>/dev/null || true
}

case ${1-} in
start) start ;;
env) if pid >/dev/null; then export_own; fi ;;
stop) stop ;;
*) die "usage: swarm.sh start|env|stop" ;;
esac
