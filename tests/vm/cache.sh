# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# cache.sh -- where kernels of the guest are kept: sets cache, makes it, and has lock_cache
if [ -n "${XDG_CACHE_HOME:-}" ]; then
	cache=$XDG_CACHE_HOME/pmemleasefs/guest
elif [ -n "${HOME:-}" ]; then
	cache=$HOME/.cache/pmemleasefs/guest
else
	cache=/var/cache/pmemleasefs
fi
mkdir -p -- "$cache" || exit 125

# One that fetches at a time.  Sets lock, a descriptor that holds it until it is closed.
lock_cache() {
	exec {lock}>"$cache/.lock" && flock "$lock"
}
