#!/usr/bin/env bash
# A PostgreSQL for tests, on loopback: `tests/postgres.sh start FOLDER PORT` prints its URL, `stop FOLDER` ends it.
# Without a server on this machine, `start` exits with 3; with INSTALL=1 it installs Debian's first, as root.
set -euo pipefail

binaries() { # the folder of pg_ctl and initdb, the newest version's where there are several
    local folder
    for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) $(tr ':' ' ' <<< "$PATH"); do
        if [[ -x $folder/pg_ctl && -x $folder/initdb && -x $folder/postgres ]]; then
            echo "$folder"
            return
        fi
    done
    return 1
}

# The server refuses to run as root.
as_server() {
    if [[ $(id -u) != 0 ]]; then "$@"; else runuser -u "$(owner)" -- "$@"; fi
}

owner() { id -un postgres 2> /dev/null || echo nobody; }

if ! BIN=$(binaries); then
    if [[ ${INSTALL:-} != 1 || $(id -u) != 0 ]]; then
        echo "no PostgreSQL on this machine (pg_ctl, initdb, postgres); INSTALL=1 as root installs Debian's" >&2
        exit 3
    fi
    apt-get install --yes --no-install-recommends postgresql >&2
    BIN=$(binaries)
fi

case "${1:-} $#" in
    "start 3")
        mkdir -p "$2"
        [[ $(id -u) != 0 ]] || chown "$(owner)" "$2"
        cd "$2"
        if [[ ! -d $2/data ]]; then
            as_server "$BIN/initdb" --pgdata="$2/data" --username=grbench --auth=trust --encoding=UTF8 --no-sync > /dev/null
        fi
        as_server "$BIN/pg_ctl" --pgdata="$2/data" --log="$2/log" --wait \
            --options="-p $3 -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off" start > /dev/null
        echo "postgresql://grbench@127.0.0.1:$3/postgres"
        ;;
    "stop 2")
        cd "$2"
        as_server "$BIN/pg_ctl" --pgdata="$2/data" --mode=immediate --wait stop > /dev/null
        ;;
    *)
        echo "usage: tests/postgres.sh start FOLDER PORT | stop FOLDER" >&2
        exit 2
        ;;
esac
