#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# matrix.t -- every cell of docs/lease-protocol.md, "Matrix", by matrix.c
#
# usage: matrix.t [BUILD_DIR]; see tests/README.md
#   PML_MATRIX           options of matrix.c, to run a part only
#   PML_TEST_TRANSPORT   soft: all; rdma, inside tests/vm/run: write leases, slower clocks
. "$(dirname "$0")/lib.sh"
start "$@"
matrix=$build/tests/matrix
document=$top/docs/lease-protocol.md
[ -x "$matrix" ] || bail_out "no $matrix: build first (meson compile)"
choose_fabric 256M

limits=max_sessions=256,max_client_sessions=256,max_unbreakable=1G
mount_fs "$listen,client_uid=0,client_gid=0,poison,local_leases,$limits"

# run NAME OPTIONS... DOCUMENT: passes its tests on, renumbered.
run() {
	local line
	while IFS= read -r line; do
		case $line in
		'ok '*) ok "${line#ok * - }" ;;
		'not ok '*) not_ok "${line#not ok * - }" ;;
		'Bail out!'*) not_ok "$line" ;;
		1..*) ;;
		status=*) matrix_status=${line#status=} ;;
		*) echo "# ${line#\# }" ;;
		esac
	done < <("$matrix" "$@" "$mnt" "$url"; echo "status=$?")
}

options=()
if [ "${PML_TEST_TRANSPORT:-soft}" = rdma ]; then
	options+=(--jobs=4 --clocks=4000:5000:8000:4000:9000 --leases=write
		"--holders=cooperative;ignoring;silent;killed;the caller"
		"--operations=truncate down;punch;clone, source;snapshot")
fi
# Quoted as for a shell: names have spaces.
[ -z "${PML_MATRIX:-}" ] || mapfile -t -O ${#options[@]} options < <(xargs printf '%s\n' <<<"$PML_MATRIX")
run "${options[@]}" "$document"
is "$matrix_status" 0 "each cell is as the document says"

# ---- it can fail --------------------------------------------------------------

# flipped NAME FROM TO OPTIONS...: with one word of the document changed.
flipped() {
	local name=$1 from=$2 to=$3
	shift 3
	sed "s/$from/$to/" "$document" >"$work/document"
	cmp -s "$document" "$work/document" && not_ok "$name: the document is not changed"
	"$matrix" "$@" "$work/document" "$mnt" "$url" >"$work/out"
	flipped_status=$?
	note "$(cat "$work/out")"
}

wrong_documents() {
	few=("${options[@]}" --policies=revoke "--operations=punch" --leases=write)
	flipped "another end" '^| ignoring | waits; conflict' '| ignoring | waits; silent' \
		"${few[@]}" --holders=ignoring
	is "$flipped_status" 1 "a wrong end of a lease in the document is found"
	contains "$(cat "$work/out")" "the lease: conflict, want silent" "and named"
	flipped "another result" '^| cooperative | waits; returned' '| cooperative | EBUSY; lives' \
		"${few[@]}" --holders=cooperative
	is "$flipped_status" 1 "a wrong result in the document is found"
	contains "$(cat "$work/out")" "ended with no error, want EBUSY" "and named"
	flipped "not in the way" '^| punch |.*' \
		'| punch | `punch` | no | yes | passes | passes | passes | passes | passes |' \
		"${few[@]}" --holders=cooperative
	is "$flipped_status" 1 "a lease that is in the way, and not in the document, is found"
	flipped "an unknown word" '^| silent | waits; silent' '| silent | waits; sometimes' "${few[@]}"
	is "$flipped_status" 2 "an unknown word in the document is refused"
	contains "$(cat "$work/out")" "no such end of a lease: \"waits; sometimes\"" "and named"
	flipped "a missing row" '^| punch |.*' '' "${few[@]}"
	is "$flipped_status" 2 "a missing row in the document is refused"
}
# The document is read the same over either fabric.
[ "$fabric" = rdma ] || wrong_documents

stat_becomes sessions 0 10 "no session is left"
audit
umount_fs
is "$umount_status" 0 "umount"
finish
