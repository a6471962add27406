# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# cache.sh -- where kernels of the guest are kept, and how one gets there: sets cache and makes
#             it; lock_cache, uncompress
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

# uncompress VMLINUZ VMLINUX: take the kernel proper out of its wrapper, packed by xz or zstd.  QEMU
# starts that directly (PVH); unpacking it inside the emulation takes seconds.
# The offsets are those of Linux's Documentation/arch/x86/boot.rst.
uncompress() {
	local sectors offset length
	sectors=$(od -An -tu1 -j $((0x1f1)) -N1 "$1") &&
		offset=$(od -An -tu4 -j $((0x248)) -N4 "$1") &&
		length=$(od -An -tu4 -j $((0x24c)) -N4 "$1") || return 1
	tail -c +$(((sectors + 1) * 512 + offset + 1)) "$1" | head -c "$length" >"$2.packed"
	xz -dc --single-stream <"$2.packed" >"$2" 2>/dev/null || zstd -qdc <"$2.packed" >"$2" 2>/dev/null
	rm -f "$2.packed"
	[ "$(head -c 4 "$2" | tail -c 3)" = ELF ]
}
