# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# lib.sh -- ground of the integration tests: devices, mounts, clients, TAP
#
#	. "$(dirname "$0")/lib.sh"
#	start "$@"          # BUILD_DIR, default build/
#	mount_fs soft=127.0.0.1:0
#	is "$(cat "$mnt/file")" text "what is expected"
#	finish
#
# Nothing is left behind, whatever the end: every process of a test carries
# PML_IT_ID in its environment, every file has it in its name.  The script's own
# trap cleans up by that; a guard in a session of its own does when the script
# was killed by SIGKILL.

lib=$(readlink -f "${BASH_SOURCE[0]}")
here=${lib%/*}
top=${here%/*/*}

# ---- the end ----------------------------------------------------------------

# Processes that carry the id, without the caller.
processes_of() {
	grep -lzxF -- "PML_IT_ID=$1" /proc/[0-9]*/environ 2>/dev/null |
		sed 's,/proc/\([0-9]*\)/.*,\1,' | grep -vx -e $$ -e "$BASHPID" -e "$PPID"
}

mounts_below() {
	awk -v d="$1/" 'index($2, d) == 1 { print $2 }' /proc/self/mounts
}

# clean_up ID: mounts, processes, files.
clean_up() {
	local id=$1 dir=/tmp/pml-it.$1 path pids
	for path in $(mounts_below "$dir"); do
		timeout 10 umount "$path" 2>/dev/null || umount -l "$path" 2>/dev/null ||
			fusermount3 -u -z "$path" 2>/dev/null
	done
	for _ in 1 2 3 4 5; do
		pids=$(processes_of "$id")
		[ -n "$pids" ] || break
		# shellcheck disable=SC2086 # a list of numbers
		kill -CONT $pids 2>/dev/null
		# shellcheck disable=SC2086
		kill -KILL $pids 2>/dev/null
		sleep 0.1
	done
	for path in $(mounts_below "$dir"); do
		umount -l "$path" 2>/dev/null || fusermount3 -u -z "$path" 2>/dev/null
	done
	rm -rf --one-file-system "$dir"
	rm -f /dev/shm/pml-it."$id".*
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then # lib.sh PID ID: the guard
	tail --pid="$1" -f /dev/null
	clean_up "$2"
	exit
fi

# The environment of a process is that of its start: so once more, with the id.
if [ -z "${PML_IT_ID:-}" ]; then
	work=$(mktemp -d /tmp/pml-it.XXXXXX) || exit 2
	PML_IT_ID=${work##*.} exec "$BASH" "$0" "$@"
fi
id=$PML_IT_ID
work=/tmp/pml-it.$id
mnt=$work/mnt
guard=

on_exit() {
	local status=$?
	trap '' INT TERM HUP
	[ $BASHPID = $$ ] || exit $status # a subshell: the script goes on
	clean_up "$id"
	[ -z "$guard" ] || kill "$guard" 2>/dev/null
	exit $status
}
trap on_exit EXIT
trap 'exit 130' INT TERM HUP

# ---- TAP --------------------------------------------------------------------

tests=0 failures=0

note() { printf '%s\n' "$*" | sed 's/^/# /'; }

ok() {
	tests=$((tests + 1))
	echo "ok $tests - $1"
}

# not_ok NAME [TEXT...]: each TEXT becomes a comment.
not_ok() {
	local name=$1
	shift
	tests=$((tests + 1)) failures=$((failures + 1))
	echo "not ok $tests - $name"
	[ $# -eq 0 ] || note "$@"
}

skip() {
	tests=$((tests + 1))
	echo "ok $tests - $1 # SKIP $2"
}

# is GOT WANT NAME
is() {
	if [ "$1" = "$2" ]; then
		ok "$3"
	else
		not_ok "$3" "got:  $1"$'\n'"want: $2"
	fi
}

# in_range GOT LOWEST HIGHEST NAME
in_range() {
	if [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]; then
		ok "$4 ($1)"
	else
		not_ok "$4" "got: $1, want: $2 to $3"
	fi
}

# contains TEXT PART NAME
contains() {
	if [[ $1 == *"$2"* ]]; then
		ok "$3"
	else
		not_ok "$3" "got:  $1"$'\n'"want: ...$2..."
	fi
}

# check NAME COMMAND...: the command ends with status 0.
check() {
	local name=$1 out rc
	shift
	out=$("$@" 2>&1)
	rc=$?
	if [ $rc -eq 0 ]; then
		ok "$name"
	else
		not_ok "$name" "status $rc of: $*"$'\n'"$out"
	fi
}

# The plan comes last: a script that dies without it has failed.
finish() {
	echo "1..$tests"
	exit $((failures > 0))
}

skip_all() {
	echo "1..0 # SKIP $1"
	exit 0
}

bail_out() {
	echo "Bail out! $*"
	exit 1
}

# ---- waiting ----------------------------------------------------------------

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# wait_for SECONDS COMMAND...: until it succeeds; false when the time is up.
wait_for() {
	local until=$(($(now_ms) + $1 * 1000))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(now_ms)" -lt $until ] || return 1
		sleep 0.02
	done
}

# Not there, or a zombie that nobody has waited for.
is_gone() {
	local state # without a process: one more takes long in the emulated machine
	{ read -r state <"/proc/$1/stat"; } 2>/dev/null || return 0
	state=${state##*) }
	[ "${state:0:1}" = Z ]
}

# State letters of a process's threads, "TTTT"; nothing if it is gone.
threads_of() {
	local path state letters=
	for path in "/proc/$1/task"/*/stat; do
		{ read -r state <"$path"; } 2>/dev/null || continue
		state=${state##*) }
		letters+=${state:0:1}
	done
	echo "$letters"
}

# Each has stopped wholly, or is gone.
are_stopped() {
	local pid
	for pid; do
		[[ $(threads_of "$pid") != *[^TZ]* ]] || return 1
	done
}

# stop PID...: SIGSTOP, and until it is done.  kill(1) does not wait: one thread takes the signal
# when it gets a processor, and up to then the others go on, and may return a lease.
stop() {
	kill -STOP "$@"
	wait_for 20 are_stopped "$@" || not_ok "SIGSTOP stops every thread of $*"
}

# ---- ground -----------------------------------------------------------------

# start [BUILD_DIR]: what every test needs, or a skip of it all.
start() {
	build=$(readlink -f "${1:-$top/build}")
	[ -x "$build/tools/mount.pmemleasefs" ] ||
		bail_out "no mount.pmemleasefs in $build/tools: build first (meson compile)"
	[ "$(id -u)" = 0 ] || skip_all "needs root"
	[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
	PATH=$build/tools:$PATH
	export LC_ALL=C
	umask 022
	setsid env -u PML_IT_ID "$BASH" "$lib" $$ "$id" </dev/null >/dev/null 2>&1 &
	guard=$!
	disown $guard
	# Readable for others: some tests act as another user.
	chmod 755 "$work"
	mkdir -p "$mnt" "$work/ground"
}

# in_namespace "$@": before start, the script begins anew in a mount namespace of its own,
# without the FUSE mounts of others, which such a copy would keep alive, and which may not
# answer.  False: that is not possible here.
in_namespace() {
	local path
	if [ "${PML_IT_NAMESPACE:-}" != 1 ]; then
		unshare -m true 2>/dev/null || return 1
		PML_IT_NAMESPACE=1 exec unshare -m --propagation private "$BASH" "$0" "$@"
	fi
	for path in $(awk '$3 ~ /^fuse/ { print $2 }' /proc/self/mounts); do
		umount -l "$path"
	done
}

# helper NAME: path of a test program, compiled here if the build has none.
helper() {
	local name=$1 libs=()
	if [ -x "$build/tests/$name" ]; then
		echo "$build/tests/$name"
		return
	fi
	if grep -q 'pmemleasefs/client.h' "$here/$name.c"; then
		libs=("$build/rdma/libpml_rdma.a" -libverbs -lrdmacm)
	fi
	${CC:-cc} -O1 -g -D_GNU_SOURCE -DPML_LAYER=4 -I"$top/include" -pthread \
		-o "$work/$name" "$here/$name.c" "${libs[@]}" >&2 || return 1
	echo "$work/$name"
}

# make_device [SIZE [MKFS-OPTIONS...]]: sets device.
make_device() {
	local size=${1:-256M}
	shift
	device=$(mktemp -u "/dev/shm/pml-it.$id.XXXXXX")
	mkfs.pmemleasefs -q -s "$size" "$@" "$device" || bail_out "mkfs failed"
}

# choose_fabric SIZE: sets fabric, listen, clocks and device for $PML_TEST_TRANSPORT: soft (the
# default), or rdma inside tests/vm/run.  There on the device-DAX, at port 7471; with
# PML_TEST_MEMORY=1 and PML_RDMA_PORT beside another test, in memory and at another port.
choose_fabric() {
	fabric=${PML_TEST_TRANSPORT:-soft}
	case $fabric in
	soft)
		listen=soft=127.0.0.1:0
		clocks=ack=300ms,drain=1s,term=3s
		make_device "$1"
		;;
	rdma)
		[ "${PML_IN_GUEST:-}" = 1 ] || skip_all "real verbs need the guest: tests/vm/run"
		# Slow emulation: longer clocks.
		port=${PML_RDMA_PORT:-7471}
		listen=rdma=$PML_RDMA_ADDR:$port,allow_unauthenticated
		clocks=ack=1s,drain=4s,term=10s
		if [ "${PML_TEST_MEMORY:-}" = 1 ]; then
			make_device "$1"
		else
			device=$PML_DAX
			mkfs.pmemleasefs -q -f "$device" || bail_out "mkfs failed"
		fi
		;;
	*) bail_out "PML_TEST_TRANSPORT=$PML_TEST_TRANSPORT: soft or rdma" ;;
	esac
}

# mount_fs [OPTIONS]: $device at $mnt; sets daemon, and url if a service listens.
mount_fs() {
	local out
	out=$(mount.pmemleasefs "$device" "$mnt" ${1:+-o "$1"} 2>&1) ||
		bail_out "cannot mount $device: $out"
	daemon=$(daemon_of "$device")
	url=$(sed -n 's,^\(soft\|rdma\): listening on ,\1://,p' <<<"$out" | head -n 1)
}

# keep_port: after mount_fs; later mounts with $listen have the same address.
keep_port() {
	[ "$fabric" = rdma ] || listen=soft=${url#*://}
}

# The process that serves a device.
daemon_of() {
	local pid name
	for pid in $(processes_of "$id"); do
		{ read -r name <"/proc/$pid/comm"; } 2>/dev/null || continue
		# The second name is the one for mount.fuse(8).
		[ "$name" = mount.pmemlease ] || [ "$name" = pmemleasefs ] || continue
		grep -qzxF -- "$1" "/proc/$pid/cmdline" 2>/dev/null && echo "$pid" && return
	done
	return 1
}

is_mounted() { awk -v m="${1:-$mnt}" '$2 == m { f = 1 } END { exit !f }' /proc/self/mounts; }

# Processes whose mount namespace is another one and has the mount, too.
namespaces_with_it() {
	local pid
	for pid in $(grep -lF " $mnt " /proc/[0-9]*/mountinfo 2>/dev/null | cut -d/ -f3); do
		echo "$pid $(tr '\0' ' ' <"/proc/$pid/cmdline")"
	done | head -n 5
}

try_umount() {
	timeout 30 umount "$mnt"
	umount_status=$?
	[ $umount_status != 32 ]
}

# umount_fs: sets umount_status; waits until the daemon is gone.  Programs that look at all
# mounts (df, load generators of other tests) make any of them busy for a moment.
umount_fs() {
	wait_for 5 try_umount
	[ $umount_status = 0 ] || note "umount ended with $umount_status; open there: $(
		find /proc/[0-9]*/{fd,cwd,exe,map_files} -lname "$mnt*" 2>/dev/null | head -n 5 | tr '\n' ' ')"
	wait_for 20 is_gone "$daemon" ||
		not_ok "the daemon ends after umount" "process $daemon is still there" \
			"mounted in the namespace of: $(namespaces_with_it)"
	return $umount_status
}

remount() {
	umount_fs || bail_out "cannot unmount $mnt"
	mount_fs "$@"
}

# put_files PREFIX: a remote client puts one file after the other, until it fails; each name that
# is printed was acknowledged.
put_files() {
	local i=0
	while pmemlease put -q --timeout=5 "$work/ground/up" "$url/put/$1.$i" 2>/dev/null; do
		echo "put/$1.$i"
		i=$((i + 1))
	done
}

# end_put_files PID: the server is dead, and the client would look for it until its time is up.
# What it has put was said before.  False: it does not end.
end_put_files() {
	pkill -KILL -x -P "$1" pmemlease
	wait_for 10 is_gone "$1"
}

# kill_daemon: as a crash; the mount is dead afterwards.
kill_daemon() {
	kill -KILL "$daemon"
	wait_for 10 is_gone "$daemon" || bail_out "process $daemon survives SIGKILL"
}

# As an administrator does it.
clear_dead_mount() {
	umount -l "$mnt" 2>/dev/null || fusermount3 -u -z "$mnt"
	wait_for 5 eval '! is_mounted'
}

# stat_of NAME: a number of pmemleasectl stats, by its name in JSON.
stat_of() {
	local all
	all=$(pmemleasectl --json "$mnt" stats)
	[[ $all =~ \"$1\":([0-9]*) ]] && echo "${BASH_REMATCH[1]}"
}

stat_is() { [ "$(stat_of "$1")" = "$2" ]; }
stat_at_least() { [ "$(stat_of "$1")" -ge "$2" ]; }

# stat_becomes NAME VALUE SECONDS TEST-NAME
stat_becomes() {
	if wait_for "$3" stat_is "$1" "$2"; then
		ok "$4"
	else
		not_ok "$4" "$1 is $(stat_of "$1") after $3 s, want $2"
	fi
}

# timed COMMAND...: sets out, rc and ms.
timed() {
	local start
	start=$(now_ms)
	out=$("$@" 2>&1)
	rc=$?
	ms=$(($(now_ms) - start))
}

# file NAME [SIZE]: fresh contents.
file() { head -c "${2:-256K}" /dev/urandom >"$mnt/$1"; }

# no_leases SECONDS TEST-NAME
no_leases() {
	stat_becomes leases 0 "$1" "$2: no lease is left"
	is "$(stat_of pins) $(stat_of quarantined_blocks)" "0 0" "$2: no pin is left"
}

audit() { check "${1:-counters agree with extents and pins}" pmemleasectl "$mnt" audit; }

# One line for a whole tree: names, types, modes, owners, links, times, targets, contents.
digest() {
	(cd "$1" && {
		find . -printf '%p %y %m %U %G %n %s %T@ %l\n' | sort
		find . -type f -print0 | sort -z | xargs -0 -r sha256sum
	}) | sha256sum | cut -c1-32
}

sum_of() { sha256sum <"$1" | cut -c1-32; }

# ---- remote clients ---------------------------------------------------------

# hold get|put PATH [OPTIONS...]: a client that keeps a lease; sets client and its log.
# A put writes what is in $work/ground/up.
client_count=0
hold() {
	local verb=$1 path=$2
	shift 2
	client_count=$((client_count + 1))
	client_log=$work/ground/client.$client_count
	if [ "$verb" = get ]; then
		pmemlease get "$@" "$url$path" /dev/null >"$client_log" 2>&1 &
	else
		pmemlease put "$@" "$work/ground/up" "$url$path" >"$client_log" 2>&1 &
	fi
	client=$!
	wait_for 10 grep -q 'holding lease' "$client_log" ||
		not_ok "a client gets its lease on $path" "$(cat "$client_log")"
}

# end_of PID SECONDS: sets client_status, or "alive".
end_of() {
	if wait_for "$2" is_gone "$1"; then
		wait "$1" 2>/dev/null
		client_status=$?
	else
		client_status=alive
	fi
}
