#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# mounttypes.t -- mount -t pmemleasefs, mount -t fuse.pmemleasefs, umount, as installed
#
# usage: mounttypes.t [BUILD_DIR]; see tests/README.md
#
# The programs are "installed" in a mount namespace of this script's own: overlays
# over /usr/sbin and /usr/bin, which nobody else sees.
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
in_namespace "$@" || skip_all "no mount namespaces here"
start "$@"
# Of a mount or unmount.  Emulation is slow, and slower on a busy machine.
limit=$([ "${PML_IN_GUEST:-}" = 1 ] && echo 120 || echo 30)
# The copies of other tests' mounts: their daemons could not end before this script does.
for path in $(awk '$3 ~ /^fuse/ { print $2 }' /proc/self/mounts); do
	umount -l "$path"
done

# ---- install ----------------------------------------------------------------

mkdir "$work/overlay"
mount -t tmpfs -o mode=755 pml-it "$work/overlay" || bail_out "cannot mount a tmpfs"
for name in sbin bin; do
	mkdir -p "$work/overlay/$name/upper" "$work/overlay/$name/work"
	if ! mount -t overlay -o "lowerdir=/usr/$name,upperdir=$work/overlay/$name/upper,workdir=$work/overlay/$name/work" \
		pml-it "/usr/$name" 2>/dev/null; then
		# The guest's root is an overlay itself, and thrown away.
		[ "${PML_IN_GUEST:-}" = 1 ] || skip_all "no overlay filesystem here"
	fi
done
[ "$(readlink -f /sbin)" = /usr/sbin ] || skip_all "/sbin is not /usr/sbin here"
cp "$build/tools/mount.pmemleasefs" /sbin/mount.pmemleasefs
ln -sf /sbin/mount.pmemleasefs /usr/bin/pmemleasefs
cp "$build/tools/pmemleasectl" /usr/bin/pmemleasectl
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

PATH=$PATH:$build/tools make_device 64M -L types

# mounted_as WANT NAME: what the kernel says of it.
mounted_as() {
	is "$(awk -v m="$mnt" '$2 == m { print $1, $3, $4 }' /proc/self/mounts)" "$1" "$2"
}

daemon_is_up() {
	daemon=$(daemon_of "$device") || not_ok "$1: a daemon serves it"
}

flags=user_id=0,group_id=0,default_permissions,allow_other

# ---- mount -t pmemleasefs ---------------------------------------------------

check "mount -t pmemleasefs" timeout $limit mount -t pmemleasefs "$device" "$mnt"
mounted_as "$device fuse.pmemleasefs rw,relatime,$flags" "mount -t pmemleasefs: device, type, options"
daemon_is_up "mount -t pmemleasefs"
echo text >"$mnt/file"
cp /bin/true "$mnt/true"
check "execute from it" "$mnt/true"
is "$(findmnt -n -o SOURCE,FSTYPE --target "$mnt/file" | tr -s ' ')" "$device fuse.pmemleasefs" "findmnt"
is "$(df --output=source "$mnt" | tail -n 1)" "$device" "df: the device"
is "$(pmemleasectl "$mnt" stats | awk '$1 == "label" { print $2 }')" types "pmemleasectl"
exec 7<"$mnt/file"
is "$(timeout $limit umount "$mnt" 2>&1 | grep -c 'busy')" 1 "umount: refused while a file is open"
exec 7<&-
umount_fs
is "$umount_status" 0 "umount"
is "$(ls "$mnt")" "" "umount: the directory is empty"

check "mount -t pmemleasefs -o ..." timeout $limit mount -t pmemleasefs \
	-o ro,noexec,nosuid,nodev,noatime,policy=ebusy,ack=1s "$device" "$mnt"
mounted_as "$device fuse.pmemleasefs ro,nosuid,nodev,noexec,noatime,$flags" "standard options reach the kernel"
daemon_is_up "options"
is "$(touch "$mnt/new" 2>&1 | grep -c 'Read-only')" 1 "ro"
is "$("$mnt/true" 2>/dev/null; echo $?)" 126 "noexec"
umount_fs
is "$umount_status" 0 "umount"

out=$(timeout $limit mount -t pmemleasefs -o nonsense "$device" "$mnt" 2>&1)
is "$?" 1 "mount -o nonsense: status"
contains "$out" 'unknown option "nonsense"' "mount -o nonsense: the line comes through"
out=$(timeout $limit mount -t pmemleasefs /dev/null "$mnt" 2>&1)
is "$?" 32 "mount of /dev/null: status"

# ---- mount -t fuse.pmemleasefs ----------------------------------------------

if [ -x /sbin/mount.fuse ] || [ -x /sbin/mount.fuse3 ]; then
	check "mount -t fuse.pmemleasefs" timeout $limit mount -t fuse.pmemleasefs "$device" "$mnt"
	wait_for 5 is_mounted
	mounted_as "$device fuse.pmemleasefs rw,relatime,$flags" \
		"mount -t fuse.pmemleasefs: the same in the mount table"
	daemon_is_up "mount -t fuse.pmemleasefs"
	is "$(cat "$mnt/file")" text "mount -t fuse.pmemleasefs: contents"
	check "mount -o remount" timeout $limit mount -o remount,policy=ebusy,ack=1s "$mnt"
	out=$(timeout $limit mount -o remount,policy=maybe "$mnt" 2>&1)
	contains "$out" "wants revoke, ebusy" "mount -o remount,policy=maybe: the line comes through"
	mounted_as "$device fuse.pmemleasefs rw,relatime,$flags" "mount -o remount: still there"
	umount_fs
	is "$umount_status" 0 "umount"
	check "mount -t fuse.pmemleasefs -o ro,soft=..." timeout $limit \
		mount -t fuse.pmemleasefs -o ro,soft=127.0.0.1:0 "$device" "$mnt"
	wait_for 5 is_mounted
	mounted_as "$device fuse.pmemleasefs ro,relatime,$flags" "mount -t fuse.pmemleasefs -o ro"
	daemon_is_up "options"
	umount_fs
	is "$umount_status" 0 "umount"
else
	skip "mount -t fuse.pmemleasefs" "no mount.fuse (package fuse3)"
fi

# ---- fstab, fusermount3 -----------------------------------------------------

echo "$device $mnt pmemleasefs noauto,nofail,x-test,noatime,policy=block 0 0" >"$work/fstab"
check "mount by fstab" timeout $limit mount -T "$work/fstab" "$mnt"
mounted_as "$device fuse.pmemleasefs rw,noatime,$flags" "mount by fstab: options"
daemon_is_up "fstab"
check "fusermount3 -u" fusermount3 -u "$mnt"
check "the daemon ends" wait_for 20 is_gone "$daemon"
check "mount again at once" timeout $limit mount -t pmemleasefs "$device" "$mnt"
daemon_is_up "again"
umount "$mnt"
check "umount and mount at once: waits for the old daemon" timeout $limit mount -t pmemleasefs "$device" "$mnt"
daemon_is_up "at once"
audit
umount_fs
is "$umount_status" 0 "umount"
finish
