#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# pmemlease.t -- every command of pmemlease, on a real mount
#
# usage: pmemlease.t [BUILD_DIR]; see tests/README.md
#   PML_TEST_TRANSPORT   soft, or rdma inside tests/vm/run
#   PML_PARTS            some of the parts, by name, in their order
#
# A copy is stopped (SIGSTOP) when the file that it makes is there and has grown: what happens
# then happens in its middle, however slow the machine is.
. "$(dirname "$0")/lib.sh"
start "$@"
ground=$work/ground
python=$(command -v python3) || skip_all "needs python3"

choose_fabric 256M
[ "$fabric" = rdma ] || clocks=ack=500ms,drain=1s,term=4s
base=client_uid=0,client_gid=0,poison,$clocks
mount_fs "$listen,$base"
keep_port

# fails STATUS PART NAME COMMAND...: in one line that says PART.
fails() {
	local want=$1 part=$2 name=$3
	shift 3
	timed timeout $limit "$@"
	if [ "$rc" = "$want" ] && [[ $out == *"$part"* ]] && [ "$(wc -l <<<"$out")" = 1 ]; then
		ok "$name: $out"
	else
		not_ok "$name" "status $rc, want $want" "$out" "want: ...$part..."
	fi
}

# json EXPRESSION COMMAND...: the expression over d, what the command printed.
json() {
	local expression=$1
	shift
	"$@" 2>"$work/err" | "$python" -IS -c "import json, sys; d = json.load(sys.stdin); print($expression)"
}

# Names of what is not complete, on both sides.
left() { find "$mnt" "$ground" -name '.*.pml-*' | wc -l; }
is_growing() { [ "$(find "$1" -name '.*.pml-*' -size "+${2}k" -type f | wc -l)" -gt 0 ]; }

# stop_within DIR COMMAND...: starts a copy and stops it when a file in DIR has grown; sets copy.
stop_within() {
	local dir=$1
	shift
	# What the shell starts in the background ignores SIGINT otherwise.
	env --default-signal=INT "$@" >"$work/out" 2>&1 &
	copy=$!
	wait_for 20 is_growing "$dir" 300 || not_ok "the copy begins: $*" "$(cat "$work/out")"
	stop $copy
}
go_on() {
	kill -CONT $copy
	end_of $copy 20
	copy_out=$(cat "$work/out")
}

head -c 3000001 /dev/urandom >"$ground/a"
head -c 12M /dev/urandom >"$ground/big"
small=--lease-bytes=300000
slow="$small --limit=4M" # 3 s; a new size is seen here up to a second late
slower="$small --limit=2M" # for what does not go on
wide=--limit=10M # to begin another copy takes longer than 1 s in the guest
limit=30 # s, for what does not copy
[ "${PML_IN_GUEST:-}" != 1 ] || wide=--limit=2M limit=120

shape() { (cd "$1" && find . -printf '%p %y %m %s %Tc %l\n' | grep -v ' [dl] ' | sort &&
	find . -type d -printf '%p %m %Tc\n' | sort && find . -type l -printf '%p %l\n' | sort); }
die() {
	kill -KILL $copy
	wait $copy 2>/dev/null
	is "$(left)" "$1" "a copy was killed: what it has made is there"
}
resume() { json 'd["resumed_bytes"] > 0' pmemlease "$1" --resume --json $small "$2" "$3"; }
# The note is written once a second, and at the end.
pause_get() {
	stop_within "$ground" pmemlease get --resume $slower "$url/up" "$ground/down"
	kill -INT $copy
	go_on
	is "$client_status $(left)" "130 2" "get --resume: keeps what is there"
}
rewrite() { pmemlease put -q --in-place --wait=20 $small "$ground/same" "$url/up"; }

# ---- usage --------------------------------------------------------------------

part_usage() {
	fails 1 "--help" "no command" pmemlease
	fails 1 "no such command" "an unknown command" pmemlease copy "$url/"
	fails 1 "behind the command" "an option before the command" pmemlease -q ls "$url/"
	fails 1 "ls: --write is not an option" "an option of another command" pmemlease ls --write "$url/"
	fails 1 "ls: -x is not an option" "an unknown letter" pmemlease ls -x "$url/"
	fails 1 "--wait needs a value" "a value that is missing" pmemlease get --wait
	fails 1 "in octal" "a mode that is none" pmemlease mkdir -m 9 "$url/d"
	fails 1 "takes FILE... URL" "too few operands" pmemlease put "$ground/x"
	fails 1 "--resume" "options that exclude each other" pmemlease put --resume --in-place x "$url/x"
	fails 1 "standard output" "JSON into the file" pmemlease get --json "$url/x" -
	fails 2 "refused" "nobody listens" pmemlease df "${url%:*}:1/"
	for command in ls stat get put cat rm mkdir mv ln clone df bench; do
		contains "$(pmemlease $command --help)" "Usage: pmemlease $command" "$command --help"
	done
}

# ---- names --------------------------------------------------------------------

part_names() {
	check "put: a new file" pmemlease put "$ground/a" "$url/a"
	check "put: its bytes" cmp "$ground/a" "$mnt/a"
	check "mkdir" pmemlease mkdir "$url/d" "$url/d2"
	check "mkdir -p" pmemlease mkdir -p "$url/d/x/y/z" "$url/d"
	check "mkdir -m" pmemlease mkdir -m 1750 "$url/m"
	is "$(stat -c %a "$mnt/m" "$mnt/d" "$mnt/d/x" | paste -sd' ')" "1750 755 755" "mkdir: modes"
	fails 3 "File exists" "mkdir: is there" pmemlease mkdir "$url/d"
	fails 3 "No such file" "mkdir: below nothing" pmemlease mkdir "$url/none/x"
	fails 3 "no directory" "mkdir -p: a file is there" pmemlease mkdir -p "$url/a"
	check "ln" pmemlease ln "$url/a" "$url/d/hard"
	is "$(stat -c %h "$mnt/d/hard")" 2 "ln: two names"
	fails 3 "/d/hard: File exists" "ln: is there" pmemlease ln "$url/a" "$url/d/hard"
	check "ln -s" pmemlease ln -s ../a "$url/d/soft"
	is "$(readlink "$mnt/d/soft")" ../a "ln -s: its target"
	check "ln -s: into a directory" pmemlease ln -s /somewhere/else "$url/d2"
	is "$(readlink "$mnt/d2/else")" /somewhere/else "ln -s: has the target's name"
	check "clone" pmemlease clone "$url/a" "$url/d"
	check "clone: bytes" cmp "$ground/a" "$mnt/d/a"
	in_range "$(stat_of shared_blocks)" 732 740 "clone: shares blocks"
	fails 3 "the same file" "clone: onto itself" pmemlease clone "$url/a" "$url/d/hard"
	fails 3 "/d/a: File exists" "clone -n" pmemlease clone -n "$url/a" "$url/d"
	fails 3 "not a regular file" "clone: a directory" pmemlease clone "$url/d" "$url/d3"
	check "mv" pmemlease mv "$url/d/a" "$url/d/b"
	check "mv: into a directory" pmemlease mv "$url/d/b" "$url/d/hard" "$url/d2/"
	is "$(ls "$mnt/d2" | paste -sd' ')" "b else hard" "mv: there they are"
	fails 3 "/d2/b: File exists" "mv -n" pmemlease mv -n "$url/a" "$url/d2/b"
	fails 3 "No such file" "mv: nothing" pmemlease mv "$url/none" "$url/d2"
	fails 3 "Not a directory" "mv: several onto a file" pmemlease mv "$url/d" "$url/d2" "$url/a"
	fails 3 "is a directory: use rm -r" "rm: a directory" pmemlease rm "$url/d"
	fails 3 "No such file" "rm: nothing" pmemlease rm "$url/none"
	check "rm -f: nothing" pmemlease rm -f "$url/none"
	fails 3 "not removed" "rm -r: the root" pmemlease rm -r "$url/"
	ln -s ../d2 "$mnt/d/x/y/out"
	check "rm -r" pmemlease rm -r "$url/d"
	is "$(ls "$mnt" | paste -sd' ')" "a d2 m" "rm -r: that tree is gone, what a link in it pointed to is not"
	is "$(left)" 0 "nothing is left of any of them"
}

# ---- ls, stat, df, cat ---------------------------------------------------------

part_looks() {
	nasty=$'n\n\033[31m\\\302\233'
	echo nasty >"$mnt/d2/$nasty"
	mknod "$mnt/d2/null" c 1 3
	is "$(pmemlease ls "$url/d2")" "$(ls "$mnt/d2")" "ls: as the local ls, sorted"
	contains "$(pmemlease ls -l "$url/d2")" "else -> /somewhere/else" "ls -l: a link's target"
	contains "$(pmemlease ls -l "$url/d2")" "crw-r--r-- 1 0 0    1, 3 " "ls -l: a device"
	is "$(pmemlease ls -lR "$url" | grep -c '^-rw-r--r--')" 4 "ls -lR: files below"
	is "$(pmemlease ls -R "$url" | grep ':$' | paste -sd' ')" "/: /d2: /m:" "ls -R: directories"
	contains "$(script -qec "pmemlease ls $url/d2" /dev/null)" 'n\n\033[31m\\\302\233' \
		"ls: a name is escaped on a terminal"
	is "$(pmemlease cat "$url/d2/$nasty")" nasty "cat: such a name"
	fails 3 'none\n' "an error message is one line, too" pmemlease cat "$url/none"$'\n'
	is "$(json '[(e["type"], e["mode"], e["size"]) for e in d if e["name"] == "b"]' \
		pmemlease ls --json "$url/d2")" "[('regular file', '0644', 3000001)]" "ls --json"
	is "$(json 'd[1]["name"] == "n\n\033[31m\\\x9b"' pmemlease ls --json "$url/d2" "$url/d2/$nasty")" \
		False "ls --json: is JSON, with any name"
	is "$(json '(d[0]["ino"], d[0]["nlink"])' pmemlease stat --json "$url/a")" \
		"$(stat -c '(%i, %h)' "$mnt/a")" "stat --json"
	contains "$(pmemlease stat "$url/a")" "Size: 3000001" "stat"
	fails 3 "No such file" "stat: nothing" pmemlease stat "$url/none"
	is "$(pmemlease ls "$url/none" "$url/m/.." "$url/a" 2>/dev/null; echo $?)" $'/a\n3' \
		"ls: goes on after what is not there"
	is "$(json 'd[0]["size"] == d[0]["used"] + d[0]["free"] > 0' pmemlease df --json "$url")" True \
		"df --json"
	contains "$(pmemlease df "$url")" MiB "df"
	is "$(pmemlease cat "$url/a" "$url/d2/b" | sum_of /dev/stdin)" \
		"$(cat "$mnt/a" "$mnt/d2/b" | sum_of /dev/stdin)" "cat: of several"
	fails 3 "not a regular file" "cat: a directory" pmemlease cat "$url/d2"
	fails 1 "Broken pipe" "cat: nobody reads it" bash -c "pmemlease cat $url/a | :; exit \${PIPESTATUS[0]}"
}

# ---- trees --------------------------------------------------------------------

part_trees() {
	mkdir -p "$ground/tree/sub/empty"
	cp "$ground/a" "$ground/tree/sub/file"
	: >"$ground/tree/none" && echo text >"$ground/tree/x y"
	ln -s sub/file "$ground/tree/link" && ln -s /nowhere "$ground/tree/sub/dangling"
	chmod 640 "$ground/tree/none" && chmod 500 "$ground/tree/sub/empty"
	find "$ground/tree" -exec touch -h -d '2020-02-02 02:02:02.123456789' {} +
	mkdir "$ground/odd" && mkfifo "$ground/odd/fifo" && echo text >"$ground/odd/file"
	check "put -r -p" pmemlease put -r -p "$ground/tree" "$url/tree"
	is "$(shape "$mnt/tree")" "$(shape "$ground/tree")" "put -r -p: all as it was"
	check "get -r -p" pmemlease get -r -p "$url/tree" "$ground/back"
	is "$(shape "$ground/back")" "$(shape "$ground/tree")" "get -r -p: all as it was"
	check "get -r: the bytes" cmp "$ground/a" "$ground/back/sub/file"
	is "$(json '(d["files"], d["directories"], d["symlinks"], d["failed"], d["bytes"])' \
		pmemlease get -r --json "$url/tree" "$ground/back")" "(3, 3, 2, 0, 3000006)" \
		"get -r: into a directory that is there, counted"
	check "get -r: is below it" cmp "$ground/a" "$ground/back/tree/sub/file"
	fails 0 "left out" "put -r: a fifo" pmemlease put -r "$ground/odd" "$url/odd"
	is "$(ls "$mnt/odd")" file "put -r: and what lies beside it is there"
	rm -rf "$mnt/odd"
	fails 3 "get -r" "get: a directory" pmemlease get "$url/tree" "$ground/x"
	fails 1 "put -r" "put: a directory" pmemlease put "$ground/tree" "$url/x"
	fails 1 "Not a directory" "get: several onto a file" pmemlease get "$url/a" "$url/d2/b" "$ground/a"
	check "put: several into a directory" pmemlease put "$ground/a" "$ground/tree/x y" "$url/m"
	is "$(ls "$mnt/m" | paste -sd,)" "a,x y" "put: there they are"
	# A link that is here is not followed by what comes below it.
	mkdir "$ground/trap" "$ground/outside" && mkdir "$ground/trap/tree" &&
		ln -s ../../outside "$ground/trap/tree/sub"
	timed pmemlease get -q -r "$url/tree" "$ground/trap"
	is "$rc $(ls -A "$ground/outside")" "1 " "get -r: a link in the way is not followed: $out"
	chmod 700 "$mnt/tree/sub/empty" "$ground/tree/sub/empty" "$ground/back/sub/empty"
	rm -rf "$mnt/tree" "$ground/back" "$ground/trap"
}

# ---- holes --------------------------------------------------------------------

part_holes() {
	truncate -s 30M "$ground/holes"
	for at in 5 11; do dd if="$ground/a" of="$ground/holes" bs=1M seek=$at count=1 conv=notrunc status=none; done
	check "put: a file with holes" pmemlease put --verify "$ground/holes" "$url/holes"
	check "put: holes, bytes" cmp "$ground/holes" "$mnt/holes"
	in_range "$(du -k "$mnt/holes" | cut -f1)" 2048 2200 "put: holes stay holes, KiB"
	check "get: a file with holes" pmemlease get --verify "$url/holes" "$ground/holes2"
	check "get: holes, bytes" cmp "$ground/holes" "$ground/holes2"
	in_range "$(du -k "$ground/holes2" | cut -f1)" 2048 2200 "get: holes stay holes, KiB"
	: >"$ground/empty"
	check "put: no bytes" pmemlease put "$ground/empty" "$url/holes"
	is "$(stat -c %s "$mnt/holes")" 0 "put: in place of many"
}

# ---- what fails leaves the old file --------------------------------------------

part_kept() {
	echo old >"$mnt/target" && chmod 604 "$mnt/target"
	for signal in INT TERM; do
		stop_within "$mnt" pmemlease put $slower "$ground/big" "$url/target"
		kill -$signal $copy
		go_on
		is "$client_status" $((128 + $(kill -l $signal))) "put: ended by SIG$signal: $copy_out"
		is "$(head -c 3 "$mnt/target") $(left)" "old 0" "put: the old file is there, and nothing else"
	done
	cp "$ground/big" "$mnt/whole"
	stop_within "$ground" pmemlease get $slower "$url/whole" "$ground/empty"
	kill -INT $copy
	go_on
	is "$client_status $(stat -c %s "$ground/empty") $(left)" "130 0 0" "get: the same by SIGINT"
	stop_within "$mnt" pmemlease put $slow --progress "$ground/big" "$url/target"
	go_on
	is "$client_status" 0 "put: otherwise it goes on"
	check "put: then the new file is there" cmp "$ground/big" "$mnt/target"
	is "$(stat -c %a "$mnt/target") $(left)" "604 0" "put: with the mode of the old one"
	contains "$copy_out" "100 %" "--progress: to the end"
	contains "$copy_out" "/s " "--progress: a rate"
	contains "$copy_out" " left " "--progress: what remains"
}

# ---- resuming -----------------------------------------------------------------

part_resumed() {
	stop_within "$mnt" pmemlease put --resume $slower "$ground/big" "$url/up"
	die 1
	is "$(resume put "$ground/big" "$url/up")" True "put --resume: goes on"
	check "put --resume: bytes" cmp "$ground/big" "$mnt/up"
	is "$(left)" 0 "put --resume: nothing else is left"
	stop_within "$mnt" pmemlease put --resume $slower "$ground/big" "$url/up"
	die 1
	printf X | dd of="$ground/big" bs=1 conv=notrunc status=none
	is "$(resume put "$ground/big" "$url/up")" False "put --resume: begins anew: the source has changed"
	check "put --resume: bytes of the new one" cmp "$ground/big" "$mnt/up"
	rm -f "$mnt"/.up.pml-*

	pause_get
	is "$(resume get "$url/up" "$ground/down")" True "get --resume: goes on"
	check "get --resume: bytes" cmp "$mnt/up" "$ground/down"
	is "$(left)" 0 "get --resume: nothing else is left"
	pause_get
	printf Y | dd of="$mnt/up" bs=1 conv=notrunc status=none
	is "$(resume get "$url/up" "$ground/down")" False "get --resume: begins anew: the source has changed"
	check "get --resume: bytes of the new one" cmp "$mnt/up" "$ground/down"
	pause_get
	sed -i 's/pos=[0-9]*/pos=9999999/' "$ground/.down.pml-note"
	is "$(resume get "$url/up" "$ground/down")" False "get --resume: begins anew: the note is not right"
	check "get --resume: bytes in spite of it" cmp "$mnt/up" "$ground/down"
}

# ---- leases in the middle -------------------------------------------------------

part_leases() {
	# Somebody rewrites the file with the bytes that it has.  All of it is under one lease here, which
	# is in use to the end.
	cp "$mnt/up" "$ground/same"
	rm -f "$ground/down"
	pmemlease get --json $wide "$url/up" "$ground/down" >"$work/out" 2>/dev/null &
	copy=$!
	while ! is_gone $copy; do rewrite; done
	wait $copy
	is "$?" 0 "get: under a writer"
	is "$(json 'd["recalls"] > 0' cat "$work/out")" True "get: under a writer, recalled and taken again"
	check "get: under a writer, bytes" cmp "$ground/same" "$ground/down"

	# Who was stopped and goes on may read the recall before the revocation, and return what it has
	# no more: so one that answers no recall.  Its lease ends by a revocation alone, at any speed.
	rm -f "$ground/down" && echo old >"$ground/down"
	stop_within "$ground" pmemlease get --json --ignore-recall $wide "$url/up" "$ground/down"
	check "get: a writer does not wait for one that is stopped" rewrite
	go_on
	is "$client_status $(head -c 3 "$ground/down") $(left)" "5 old 0" "get: revoked: the old file is there"
	contains "$copy_out" "lease revoked" "get: revoked, in words"
	contains "$copy_out" '"revokes": 1' "get: a summary of what was done in spite of that"
	stop_within "$ground" pmemlease get --json --ignore-recall --retry=3 $wide "$url/up" "$ground/down"
	rewrite
	go_on
	is "$client_status" 0 "get --retry: goes on after that: $copy_out"
	contains "$copy_out" '"revokes": 1' "get --retry: which it was told"
	check "get --retry: bytes" cmp "$ground/same" "$ground/down"
	stat_becomes leases 0 6 "no lease is left"
}

# ---- a connection that breaks ---------------------------------------------------

part_broken() {
	rm -f "$ground/down"
	for verb in get put; do
		if [ $verb = get ]; then
			stop_within "$ground" pmemlease get --json --retry=1 $small --limit=10M "$url/up" "$ground/down"
		else
			stop_within "$mnt" pmemlease put --json --retry=1 $slow "$ground/big" "$url/new"
		fi
		remount "$listen,$base"
		go_on
		is "$client_status" 0 "$verb: the server was mounted again: $copy_out"
		contains "$copy_out" '"reconnects": 1' "$verb: connected again"
	done
	check "get: bytes" cmp "$mnt/up" "$ground/down"
	check "put: bytes" cmp "$ground/big" "$mnt/new"
	stop_within "$mnt" pmemlease put --timeout=1 $slow "$ground/big" "$url/new2"
	umount_fs
	go_on # waits for less than the 30 s that are the default
	is "$client_status" 2 "put: the server does not come back within --timeout: $copy_out"
}

# ---- refused --------------------------------------------------------------------

part_refused() {
	mount_fs "ro,$listen,$base"
	for command in "put $ground/a $url/x" "rm $url/up" "rm -r $url/d2" "mkdir $url/x" "mv $url/up $url/x" \
		"ln $url/up $url/x" "ln -s x $url/x" "clone $url/up $url/x"; do
		# shellcheck disable=SC2086 # words
		fails 3 "Read-only" "read-only: ${command%% *}" pmemlease $command
	done
	check "read-only: get" pmemlease get "$url/a" "$ground/got"
	remount "$listen,client_uid=1234,client_gid=1234"
	rm -f "$mnt"/.*.pml-*
	mkdir "$mnt/closed" && chmod 700 "$mnt/closed" && echo x >"$mnt/closed/x"
	for command in "put $ground/a $url/x" "rm $url/up" "mkdir $url/x" "mv $url/up $url/x" \
		"cat $url/closed/x" "ls $url/closed" "get -r $url/closed $ground/x" "rm -r $url/closed"; do
		# shellcheck disable=SC2086
		fails 3 "denied" "no permission: ${command%% *}" pmemlease $command
	done
	is "$(cat "$mnt/closed/x")" x "and nothing is gone"
}

# ---- the run ------------------------------------------------------------------

# What the parts before $part would have made, if they were left out.
make_ground() {
	case $part in
	usage | names) return ;;
	esac
	[ -e "$mnt/a" ] || cp "$ground/a" "$mnt/a"
	[ -e "$mnt/d2" ] || { mkdir "$mnt/d2" "$mnt/m" && cp "$ground/a" "$mnt/d2/b"; }
	case $part in
	leases | broken | refused) [ -e "$mnt/up" ] || cp "$ground/big" "$mnt/up" ;;
	esac
}

begin=$SECONDS
for part in ${PML_PARTS:-usage names looks trees holes kept resumed leases broken refused}; do
	make_ground
	"part_$part"
	note "$part: $((SECONDS - begin)) s"
	begin=$SECONDS
done
is_mounted || mount_fs "$listen,$base"
audit
finish
