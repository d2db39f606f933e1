#!/bin/sh
# Makes sure that docker, dockerd, curl, git and PostgreSQL are there; with the argument "test" also the servers that tests
# compare with and talk to. As root on Debian or Ubuntu it installs what is missing, and nothing else; elsewhere it says what to
# install. For the demo, a Docker that answers needs no dockerd of this machine; tests start engines of their own.
set -eu

have() { command -v "$1" >/dev/null 2>&1; }

servers=
[ "${1:-}" != test ] || servers='dig dnsmasq docker-registry haproxy knotd named'

missing() {
	have curl || echo curl
	have git || echo git
	have pg_createcluster || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || echo pg_createcluster
	have docker || echo docker
	if [ -n "$servers" ] || ! { have docker && docker info >/dev/null 2>&1; }; then
		for tool in dockerd iptables ip unshare; do
			have "$tool" || echo "$tool"
		done
	fi
	for server in $servers; do
		have "$server" || echo "$server"
	done
}

wanted=$(missing)
[ -n "$wanted" ] || exit 0
# shellcheck disable=SC2086 # one line of words
wanted=$(echo $wanted)

if [ "$(id -u)" != 0 ] || ! have apt-get; then
	echo "Missing: $wanted. Install Docker Engine (https://docs.docker.com/engine/install/), iptables, iproute2, util-linux, curl, git and PostgreSQL," >&2
	echo "for tests also haproxy, knot, bind9, bind9-dnsutils, dnsmasq-base and docker-registry, or run this as root on Debian or Ubuntu." >&2
	exit 1
fi

echo "Installing: $wanted" >&2
export DEBIAN_FRONTEND=noninteractive
packages=ca-certificates
for tool in $wanted; do
	case $tool in
	docker | dockerd) packages="$packages docker.io" ;;
	ip) packages="$packages iproute2" ;;
	unshare) packages="$packages util-linux" ;;
	knotd) packages="$packages knot" ;;
	pg_createcluster) packages="$packages postgresql" ;;
	named) packages="$packages bind9" ;;
	dig) packages="$packages bind9-dnsutils" ;;
	dnsmasq) packages="$packages dnsmasq-base" ;;
	*) packages="$packages $tool" ;;
	esac
done
# Demo and tests start servers of their own: those of the packages stay off.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	printf '#!/bin/sh\ncase $1 in docker | containerd) exit 0 ;; esac\nexit 101\n' >$policy
	chmod 755 $policy
fi
apt-get update >&2
# shellcheck disable=SC2086 # words
apt-get install -y --no-install-recommends $packages >&2
# Newer releases keep the command apart from the engine.
have docker || apt-get install -y --no-install-recommends docker-cli >&2

wanted=$(missing)
if [ -n "$wanted" ]; then
	# shellcheck disable=SC2086
	echo "Still missing after the installation:" $wanted >&2
	exit 1
fi
