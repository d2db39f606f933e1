#!/bin/sh
# A PostgreSQL for the demo's control plane: a folder and a socket of its own, no port.
#
#   postgres.sh start   starts it empty and prints the parameters to add to postgres:///<database>
#   postgres.sh stop    ends it and removes what it wrote
set -eu

dir=${SKEP_DEMO_DIR:-/var/tmp/skep-demo}/postgres
bin=$(find /usr/lib/postgresql/*/bin -name initdb 2>/dev/null | sort -V | tail -n 1)
bin=${bin%/initdb}

# PostgreSQL refuses to be root.
as() {
	if [ "$(id -u)" = 0 ]; then
		(cd / && setpriv --reuid=postgres --regid=postgres --init-groups -- "$@")
	else
		"$@"
	fi
}

stop() {
	[ -d "$dir" ] || return 0
	[ ! -e "$dir/data/postmaster.pid" ] || as "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1 || true
	rm -rf "$dir"
}

case ${1-} in
start)
	[ -n "$bin" ] || { echo 'There is no PostgreSQL: run .demo/install.sh.' >&2; exit 1; }
	stop
	mkdir -p "$dir"
	[ "$(id -u)" != 0 ] || chown postgres "$dir"
	as chmod 700 "$dir" # who may look into it may connect
	as "$bin/initdb" -D "$dir/data" -U skep --auth=trust --encoding=UTF8 --no-locale >"$dir/../initdb.log" || { cat "$dir/../initdb.log" >&2; exit 1; }
	rm "$dir/../initdb.log"
	as "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w start \
		-o "-c listen_addresses='' -c unix_socket_directories='$dir' -c max_connections=200 -c timezone=UTC" >/dev/null
	for database in skep hatchet; do as "$bin/createdb" -h "$dir" -U skep "$database"; done
	echo "host=$dir&user=skep"
	;;
stop) stop ;;
*)
	echo 'usage: postgres.sh start|stop' >&2
	exit 2
	;;
esac
