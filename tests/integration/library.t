#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# library.t -- libpmemlease as it is installed: symbols, pkg-config, the documents' examples
#
# usage: library.t [BUILD_DIR]; see tests/README.md
. "$(dirname "$0")/lib.sh"
start "$@"
ground=$work/ground
inst=$ground/inst
for tool in meson pkg-config c++ readelf nm; do
	command -v $tool >/dev/null || skip_all "needs $tool"
done

DESTDIR=$inst meson install -C "$build" --no-rebuild >"$ground/log" 2>&1 ||
	bail_out "meson install: $(tail -n 3 "$ground/log")"
pc=$(find "$inst" -name libpmemlease.pc)
so=$(find "$inst" -name 'libpmemlease.so.1')
if [ -z "$pc" ] || [ -z "$so" ]; then
	bail_out "libpmemlease is not installed"
fi
export PKG_CONFIG_LIBDIR=${pc%/*} PKG_CONFIG_SYSROOT_DIR=$inst LD_LIBRARY_PATH=${so%/*}

# ---- what is exported ---------------------------------------------------------

is "$(readelf -d "$so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')" libpmemlease.so.1 "the soname"
exported=$(nm -D --defined-only "$so" | awk '$2 != "A" { print $3 }' | sort)
header=$(find "$inst" -name client.h)
# Without comments, what stands in front of an opening parenthesis.
declared=$(${CC:-cc} -fpreprocessed -dD -E -P "$header" 2>/dev/null |
	grep -oE '\bpml_client_[a-z_]+\(' | tr -d '(' | sort -u)
is "$(diff <(echo "$exported") <(sed 's/$/@@LIBPMEMLEASE_1.0/' <<<"$declared"))" "" \
	"exported (rdma/libpmemlease.map) is what the header declares, with a version"
is "$(pkg-config --modversion libpmemlease)" "$(pmemlease --version | awk '{ print $NF }')" \
	"pkg-config: the version"

# ---- the examples -------------------------------------------------------------

# Programs that a sanitizer does not know cannot load what it was built into.
if nm -D "$so" | grep -qE '__(asan|tsan)_'; then
	note "sanitizers: the examples are not run"
	finish
fi
make_device 128M
mount_fs soft=127.0.0.1:0,client_uid=0,client_gid=0
flags=$(pkg-config --cflags --libs libpmemlease)
for example in remote-file remote-sum; do
	# shellcheck disable=SC2086 # words
	check "$example compiles as strict C" ${CC:-cc} -std=c11 -D_POSIX_C_SOURCE=200809L -Wall \
		-Wextra -Werror -pedantic -o "$ground/$example" "$top/docs/examples/$example.c" $flags
done
for std in c++11 c++20; do
	# shellcheck disable=SC2086
	check "remote-size compiles as $std" c++ -std=$std -Wall -Wextra -Werror -pedantic \
		-o "$ground/remote-size" "$top/docs/examples/remote-size.cc" $flags
done

head -c 5000001 /dev/urandom >"$ground/data"
check "remote-file put" "$ground/remote-file" put "$url/data" <"$ground/data"
check "remote-file put: contents" cmp "$ground/data" "$mnt/data"
"$ground/remote-file" get "$url/data" >"$ground/back"
check "remote-file get: contents" cmp "$ground/data" "$ground/back"
is "$("$ground/remote-file" get "$url/none" 2>&1)" "/none: No such file or directory" \
	"remote-file get: of nothing, in words"
sum=$(od -An -v -tu1 -w1 "$ground/data" | awk '{ s += $1 } END { printf "%d", s }')
is "$("$ground/remote-sum" "$url/data")" "$sum" "remote-sum"
is "$("$ground/remote-size" "$url" data)" 5000001 "remote-size"
# A shorter one in its place.
check "remote-file put: again" "$ground/remote-file" put "$url/data" <<<text
is "$(cat "$mnt/data")" text "remote-file put: again, contents"
umount_fs
finish
