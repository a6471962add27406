#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# golden.t -- images of earlier versions are read; features that are not known are refused
#
# usage: golden.t [BUILD_DIR]; the images are made by tests/golden/make
. "$(dirname "$0")/lib.sh"
start "$@"
# shellcheck source=tests/golden/manifest.sh
. "$top/tests/golden/manifest.sh"
command -v xz >/dev/null || bail_out "xz is missing: tools/dev/packages build"

# unpack IMAGE: sets device.
unpack() {
	device=$(mktemp -u "/dev/shm/pml-it.$id.XXXXXX")
	xz -dc "$1" | dd of="$device" bs=1M conv=sparse iflag=fullblock status=none
	# What ends in a hole is longer than what was written.
	truncate -s 64M "$device"
}

# set_feature FIELD-OFFSET: an unknown bit in a field of the super block.
set_feature() {
	local at
	at=$(LC_ALL=C grep -obUaP -m 1 'PMLSFE1\x00' "$device" | head -n 1 | cut -d: -f1)
	printf '\x80' | dd of="$device" bs=1 seek=$((at + $1 + 3)) conv=notrunc status=none
}
compat=12 ro_compat=16 incompat=20

images=0
for image in "$top"/tests/golden/*.img.xz; do
	name=$(basename "$image" .img.xz) images=$((images + 1))
	in_range "$(stat -c %s "$image")" 1 102400 "$name is small"
	unpack "$image"
	check "$name: fsck -n finds nothing" fsck.pmemleasefs -n "$device"
	mount_fs
	manifest "$mnt" >"$work/ground/got"
	check "$name: contents are those of the manifest" diff "$top/tests/golden/$name.manifest" \
		"$work/ground/got"
	audit "$name: counters agree"
	echo new >"$mnt/written-now"
	umount_fs
	check "$name: fsck -n finds nothing after a change" fsck.pmemleasefs -n "$device"

	unpack "$image"
	set_feature $incompat
	out=$(mount.pmemleasefs "$device" "$mnt" 2>&1)
	contains "$out" "needs features that this program does not know" \
		"$name: an unknown incompatible feature is refused"
	out=$(mount.pmemleasefs "$device" "$mnt" -o ro 2>&1)
	contains "$out" "needs features" "$name: read-only too"
	out=$(fsck.pmemleasefs -y "$device" 2>&1)
	is $? 8 "$name: by fsck too"
	contains "$out" "use a newer fsck.pmemleasefs" "$name: which says what to do"

	unpack "$image"
	set_feature $ro_compat
	out=$(mount.pmemleasefs "$device" "$mnt" 2>&1)
	contains "$out" "can only be mounted read-only" \
		"$name: an unknown read-only feature is refused for writing"
	mount_fs ro
	manifest "$mnt" >"$work/ground/got"
	check "$name: and can be read" diff "$top/tests/golden/$name.manifest" "$work/ground/got"
	umount_fs

	unpack "$image"
	set_feature $compat
	mount_fs
	is "$(find "$mnt" -printf x | wc -c)" "$(grep -c '^[bcdflps]|' "$top/tests/golden/$name.manifest")" \
		"$name: an unknown compatible feature does not matter"
	umount_fs
done
in_range $images 1 1000 "golden images"
finish
