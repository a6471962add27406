#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# layers.t -- dependencies go one way, and foreign libraries are seen in one place each
#
# usage: tests/lint/layers.t          (docs/design.md, "Layers")
set -u
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." || exit 1
top=$PWD n=0 bad=0

is() { # is GOT WANT DESCRIPTION
	n=$((n + 1))
	if [ "$1" = "$2" ]; then
		echo "ok $n - $3"
	else
		echo "not ok $n - $3"
		printf '# got:  %s\n# want: %s\n' "$1" "$2"
		bad=1
	fi
}

# compiles LAYER HEADER: may a folder of that layer include it?
compiles() {
	# From elsewhere: a quoted name is looked for in the current directory too.
	(cd / && echo "#include \"$2\"" |
		"${CC:-cc}" -x c -std=gnu11 -D_GNU_SOURCE -DPML_LAYER="$1" -I"$top/include" \
			-fsyntax-only - 2>/dev/null) && echo yes || echo no
}

is "$(compiles 1 pml/fs.h)" yes "fs may include fs.h"
is "$(compiles 1 pml/lease.h)" no "fs may not include lease.h"
is "$(compiles 1 pml/rdma.h)" no "fs may not include rdma.h"
is "$(compiles 2 pml/lease.h)" yes "lease may include lease.h"
is "$(compiles 2 pml/rdma.h)" no "lease may not include rdma.h"
is "$(compiles 3 pml/rdma.h)" yes "rdma may include rdma.h"
is "$(compiles 3 lease/table.h)" no "a folder's private headers are out of reach"

# Each public header compiles alone.
for header in include/pml/*.h include/pmemleasefs/*.h; do
	is "$(compiles 4 "${header#include/}")" yes "$header compiles alone"
done

# where PATTERN: the files of the product that include it.
where() { grep -rlE "#include <$1" fs lease rdma include tools | sort | tr '\n' ' '; }
is "$(where 'fuse')" "fs/fuse_private.h tools/remotefs_private.h " "libfuse is seen in one file of each front end"
is "$(where '(infiniband|rdma)/')" "rdma/verbs.h " "verbs are seen in one file"
is "$(where 'libpmem')" "fs/pool.h " "PMDK is seen in one file"
is "$(where '(sodium|blkid)')" "fs/dir.c fs/format.c rdma/access.c rdma/client.c rdma/client_hello.c rdma/handle.c rdma/hello.c rdma/lines.c rdma/proof.c rdma/secrets.c tools/pmemlease_part.c tools/pmemlease_put.c tools/pmemlease_remote.c " "libsodium and libblkid are seen where they are used"

echo "1..$n"
exit $bad
