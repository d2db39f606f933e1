#!/bin/sh
# Exports secrets and becomes the program: skep-env NAME=FILE... -- PROGRAM ARG...
# A trailing newline of a file is not part of its value.
while [ "$#" -gt 0 ] && [ "$1" != "--" ]; do
	skep_name=${1%%=*}
	skep_file=${1#*=}
	if [ ! -r "$skep_file" ]; then
		echo "skep-env: $skep_name: cannot read $skep_file" >&2
		exit 78
	fi
	skep_value=$(cat "$skep_file") || exit 78
	export "$skep_name=$skep_value"
	shift
done
unset skep_name skep_file skep_value
shift
exec "$@"
