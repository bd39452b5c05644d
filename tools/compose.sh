#!/bin/sh
# Prepares `make dev`: compose.sh COMMAND...
# Says so where COMMAND (`docker compose`) is no Compose that can read docker-compose.yml, and gives the bundled Redis a
# password of its own, in the file .env that Compose reads.
set -eu
cd "$(dirname "$0")/.."
oldest=2.24

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

version=$("$@" version --short 2>/dev/null | head -n 1) || true
version=${version#v}
case $version in
    [0-9]*.[0-9]*) ;;
    *) fail "'$*' does not answer: make dev needs Docker with Compose $oldest or later (the plugin, not docker-compose 1)." \
        "Install it (Debian, Ubuntu: docker-compose-v2 or docker-compose-plugin), or start without containers: make demo, memx dev" ;;
esac
lowest=$(printf '%s\n%s\n' "$oldest" "$version" | sort -V | head -n 1)
[ "$lowest" = "$oldest" ] || fail "make dev needs Compose $oldest or later; '$*' is $version."

if [ -z "${MEMX_REDIS_PASSWORD:-}" ] && ! grep -q '^MEMX_REDIS_PASSWORD=' .env 2>/dev/null; then
    password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    # A last line without a line feed would swallow the new one.
    [ -z "$(tail -c 1 .env 2>/dev/null)" ] || echo >>.env
    (umask 077 && printf 'MEMX_REDIS_PASSWORD=%s\n' "$password" >>.env)
fi
