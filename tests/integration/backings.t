#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# backings.t -- each kind of memory that a filesystem can lie on, served to remote clients or
#               refused in words
#
# usage: backings.t [BUILD_DIR]; see tests/README.md
#
# In the guest over verbs: device-DAX, DAX filesystem, tmpfs, memfd, huge pages, a file in the
# page cache; with --newer the device pages on demand and has FLUSH.  Elsewhere over the software
# fabric, which registers nothing, on what there is.  PML_BACKINGS: some of "memory page dax".
. "$(dirname "$0")/lib.sh"
start "$@"
in_guest=${PML_IN_GUEST:-}
listen=soft=127.0.0.1:0
if [ "$in_guest" = 1 ]; then
	listen=rdma=$PML_RDMA_ADDR:7471,allow_unauthenticated
fi
pages_on_demand='' has_flush=''
if [ "$in_guest" = 1 ]; then
	ibv_devinfo -v | grep -q 'ODP_SUPPORT' && pages_on_demand=1
	# The build too has to know FLUSH.
	nm "$build/rdma/libpml_rdma.a" 2>/dev/null | grep -q 'ibv_qp_to_qp_ex' && has_flush=$pages_on_demand
fi
head -c 3000000 /dev/urandom >"$work/in"
parts=${PML_BACKINGS:-memory page dax}

# serve WHAT DEVICE REGISTERED RULE: it is served, registered and made durable as it should be.
serve() {
	local what=$1 registered=$3 rule=$4
	device=$2
	check "$what: mkfs" mkfs.pmemleasefs -q -f "$device"
	# In the foreground it says what it has found.
	mount.pmemleasefs -f "$device" "$mnt" -o "$listen,client_uid=0,client_gid=0" \
		>"$work/out" 2>&1 &
	daemon=$!
	if ! wait_for 60 eval "has_url || is_gone $daemon" || ! is_mounted; then
		not_ok "$what: mount" "$(cat "$work/out")"
		return
	fi
	contains "$(cat "$work/out")" "$registered" "$what: how it is registered"
	contains "$(cat "$work/out")" "becomes durable when $rule" "$what: how writes become durable"
	check "$what: put" timeout 120 pmemlease put "$work/in" "$url/f"
	check "$what: what was put is there" cmp "$work/in" "$mnt/f"
	check "$what: get" timeout 120 pmemlease get "$url/f" "$work/got"
	check "$what: what was got is the same" cmp "$work/in" "$work/got"
	rm -f "$work/got"
	audit
	umount_fs
}

has_url() {
	url=$(sed -n 's,^\(soft\|rdma\): listening on ,\1://,p' "$work/out" | head -n 1)
	[ -n "$url" ]
}

# refuse WHAT DEVICE TEXT [OPTION]: the mount says why not.
refuse() {
	local what=$1 out
	device=$2
	mkfs.pmemleasefs -q -f "$device" || not_ok "$what: mkfs"
	out=$(mount.pmemleasefs "$device" "$mnt" -o "$listen${4:+,$4}" 2>&1)
	is $? 32 "$what: status of a mount that is refused"
	contains "$out" "$3" "$what: and why"
	is_mounted && umount_fs
}

by_server="the server flushes it at a commit"
by_device=$by_server
[ -z "$has_flush" ] || by_device="the client has the device flush it"
pinned="pinned while it is registered"
on_demand="registered on demand"
[ "$in_guest" = 1 ] || pinned="the software fabric registers no memory"

# ---- memory: pinned; nothing outlives the power --------------------------------------------------

in_memory() {
	device=/dev/shm/pml-it.$id.file
	truncate -s 64M "$device"
	serve tmpfs "$device" "$pinned" "$by_server"
	rm -f "$device"

	# memfd_create(2) is call 319 on x86-64.
	perl -e 'my $name = "pml"; my $fd = syscall(319, $name, 0); open(my $f, "+<&=", $fd) or die $!; truncate($f, 64 << 20)
		or die; print "$$/fd/$fd\n"; close(STDOUT); sleep(1000)' >"$work/memfd" 2>&1 &
	holder=$!
	wait_for 10 eval "grep -q fd '$work/memfd'"
	if [ -r "/proc/$(cat "$work/memfd")" ]; then
		serve memfd "/proc/$(cat "$work/memfd")" "$pinned" "$by_server"
	else
		skip "memfd" "this machine makes none: $(cat "$work/memfd")"
	fi
	kill $holder
}

# Of a tmpfs they help, hugetlbfs cannot hold a pool.
of_huge_pages() {
	huge=$work/huge
	mkdir "$huge"
	if mount -t tmpfs -o huge=always,size=80M none "$huge" 2>/dev/null; then
		truncate -s 64M "$huge/file"
		serve "tmpfs of huge pages" "$huge/file" "$pinned" "$by_server"
		umount "$huge"
	else
		skip "tmpfs of huge pages" "this kernel has none"
	fi
	if mount -t hugetlbfs none "$huge" 2>/dev/null; then
		: >"$huge/file"
		out=$(mkfs.pmemleasefs -q -f "$huge/file" 2>&1)
		is $? 1 "hugetlbfs: status of mkfs"
		contains "$out" "use a tmpfs mounted with huge=always" "hugetlbfs: and why"
		umount "$huge"
	else
		skip "hugetlbfs" "this kernel has none"
	fi
}

# ---- a file in the page cache: msync alone makes it durable --------------------------------------

in_page_cache() {
	page_file=$work/ground/file
	if [ "$in_guest" = 1 ]; then
		truncate -s 160M "$work/image"
		mkfs.ext4 -q -F "$work/image" && mkdir "$work/ext4" && modprobe -q loop
		mount -o loop "$work/image" "$work/ext4" || bail_out "no ext4"
		page_file=$work/ext4/file
	fi
	truncate -s 64M "$page_file"
	if [ "$in_guest" != 1 ] || [ -n "$pages_on_demand" ]; then
		how=$on_demand
		[ "$in_guest" = 1 ] || how=$pinned
		if [ "$(stat -f -c %T "$page_file")" = tmpfs ]; then
			skip "a file in the page cache" "all is tmpfs here"
		else
			serve "page cache" "$page_file" "$how" "$by_server"
			refuse "page cache, by FLUSH" "$page_file" "has no FLUSH for this memory" \
				remote_durability=flush
			refuse "page cache, by read" "$page_file" "use remote_durability=commit" \
				remote_durability=read
		fi
	else
		refuse "page cache" "$page_file" "as a file in the page cache cannot"
	fi
	rm -f "$page_file"
	[ "$in_guest" != 1 ] || umount "$work/ext4"
}

# ---- persistent memory -----------------------------------------------------------------------------

on_dax() {
	serve device-DAX "$PML_DAX" "$pinned" "$by_device"
	if [ -n "$has_flush" ]; then
		check "device-DAX, by FLUSH alone" mount.pmemleasefs "$PML_DAX" "$mnt" \
			-o "$listen,remote_durability=flush"
		daemon=$(daemon_of "$PML_DAX")
		umount_fs
	else
		refuse "device-DAX, by FLUSH alone" "$PML_DAX" "has no FLUSH for this memory" \
			remote_durability=flush
	fi
	if [ -n "$PML_FSDAX" ]; then
		truncate -s 64M "$PML_FSDAX/file"
		if [ -n "$pages_on_demand" ]; then
			serve "DAX filesystem" "$PML_FSDAX/file" "$on_demand" "$by_device"
			refuse "DAX filesystem, windows" "$PML_FSDAX/file" "excludes memory windows" \
				fence_method=window
		else
			refuse "DAX filesystem" "$PML_FSDAX/file" "use device-DAX (/dev/daxX.Y), or a device that pages"
		fi
		rm -f "$PML_FSDAX/file"
	else
		not_ok "DAX filesystem: there is none in this guest"
	fi
}

for part in $parts; do
	case $part in
	memory) in_memory; of_huge_pages ;;
	page) in_page_cache ;;
	dax) [ "$in_guest" != 1 ] || on_dax ;;
	*) bail_out "PML_BACKINGS: no part $part" ;;
	esac
done
finish
