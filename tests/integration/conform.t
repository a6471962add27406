#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# conform.t -- conform.c on a real mount, and what mount options change of it
#
# usage: conform.t [BUILD_DIR]; see tests/README.md
#
# PML_CONFORM=program: without the mount options, which are the daemon's and not the kernel's.
. "$(dirname "$0")/lib.sh"
start "$@"
conform=$(helper conform) || bail_out "conform does not compile"

make_device 256M
mount_fs

# ---- POSIX and Linux --------------------------------------------------------

limit=$([ "${PML_IN_GUEST:-}" = 1 ] && echo 400 || echo 100)
timeout "$limit" "$conform" "$mnt" >"$work/ground/out" 2>&1
status=$?
for section in $(sed -n 's/.*ok [0-9]* - \([a-z_]*\): .*/\1/p' "$work/ground/out" | uniq); do
	is "$(grep -A1 "^not ok [0-9]* - $section: " "$work/ground/out")" "" \
		"$section ($(grep -c "ok [0-9]* - $section: " "$work/ground/out") checks)"
done
is $status 0 "all of it"
check "and its plan" grep -q '^1\.\.[0-9][0-9][0-9][0-9]$' "$work/ground/out"
audit

if [ "${PML_CONFORM:-}" = program ]; then
	umount_fs
	finish
fi

# ---- mount options ----------------------------------------------------------

atime_of() { stat -c %X "$1"; }
old() { touch -d "@$1" "$2"; }

# reads OPTION FILE...: which of them get a new atime by a read, though it is not due.
reads() {
	local option=$1 path changed=
	shift
	remount "$option"
	for path in "$@"; do
		case $path in
		*dir) ls "$mnt/$path" >/dev/null ;;
		*link) readlink "$mnt/$path" >/dev/null ;;
		*) cat "$mnt/$path" >/dev/null ;;
		esac
		[ "$(stat -c %X "$mnt/$path")" = 1000000000 ] || changed+=" $path"
	done
	echo "$changed"
}

mkdir "$mnt/dir"
ln -s target "$mnt/link"
echo text >"$mnt/file"
all_old() {
	remount
	for path in file link dir; do
		touch -h -d @1000000000 "$mnt/$path"
	done
}
all_old
is "$(reads noatime file link dir)" "" "noatime: no read changes atime"
all_old
is "$(reads relatime file link dir)" " file link dir" "relatime: each does when it is due"
all_old
is "$(reads nodiratime file link dir)" " file link" "nodiratime: but not of directories"
remount strictatime
first=$(stat -c %x "$mnt/file") && cat "$mnt/file" >/dev/null
second=$(stat -c %x "$mnt/file") && cat "$mnt/file" >/dev/null
is "$([[ $second > $first && $(stat -c %x "$mnt/file") > $second ]] && echo yes)" yes \
	"strictatime: each does"

cp /bin/true "$mnt/program"
mknod "$mnt/null" c 1 3
install -m 4755 /usr/bin/id "$mnt/suid"
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@" 2>&1; }
check "as root mounts by default: programs run" "$mnt/program"
is "$(as_nobody "$mnt/suid" -u)" 0 "as root mounts by default: set-user-id works, for others, too"
check "as root mounts by default: device nodes work" dd if=/dev/zero of="$mnt/null" count=1
remount noexec,nosuid,nodev
contains "$(env "$mnt/program" 2>&1)" "Permission denied" "noexec"
contains "$(dd if=/dev/zero of="$mnt/null" count=1 conv=notrunc 2>&1)" "Permission denied" "nodev"
remount nosuid
is "$(as_nobody "$mnt/suid" -u)" 65534 "nosuid"

remount ro
before=$(stat -c %x "$mnt/file")
cat "$mnt/file" >/dev/null
is "$(stat -c %x "$mnt/file")" "$before" "read-only: a read changes nothing"
for call in "touch $mnt/file" "mkdir $mnt/x" "rmdir $mnt/dir" "rm -f $mnt/file" \
	"mv $mnt/file $mnt/x" "ln $mnt/file $mnt/x" "ln -s x $mnt/x" "mkfifo $mnt/x" \
	"chmod 600 $mnt/file" "chown 1 $mnt/file" "truncate -s 0 $mnt/file"; do
	# shellcheck disable=SC2086 # words
	contains "$($call 2>&1)" "Read-only file system" "read-only: ${call//$mnt\//}"
done
remount
rm -rf "${mnt:?}"/*
audit
umount_fs
is "$umount_status" 0 "umount"
finish
