#!/bin/sh
# Makes sure that docker, dockerd and curl are there. As root on Debian or Ubuntu it installs what is missing, and
# nothing else; elsewhere it says what to install. A Docker that answers needs no dockerd of this machine.
set -eu

have() { command -v "$1" >/dev/null 2>&1; }

missing() {
	have curl || echo curl
	have docker || echo docker
	if ! { have docker && docker info >/dev/null 2>&1; }; then
		for tool in dockerd iptables ip unshare; do
			have "$tool" || echo "$tool"
		done
	fi
}

wanted=$(missing)
[ -n "$wanted" ] || exit 0
# shellcheck disable=SC2086 # one line of words
wanted=$(echo $wanted)

if [ "$(id -u)" != 0 ] || ! have apt-get; then
	echo "Missing: $wanted. Install Docker Engine (https://docs.docker.com/engine/install/), iptables, iproute2, util-linux and curl," >&2
	echo "or run this as root on Debian or Ubuntu." >&2
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
	*) packages="$packages $tool" ;;
	esac
done
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
