#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# remotefs.t -- a server's filesystem mounted on a client's machine
#
# usage: remotefs.t BUILD_DIR
#
# Both mounts are on this machine: what is done through one is looked at through the other.
# Over verbs with PML_TEST_TRANSPORT=rdma in the guest.
. "$(dirname "$0")/lib.sh"
start "$@"
choose_fabric 256M
mount_fs "$listen,client_uid=0,client_gid=0,$clocks"
keep_port
# How much of everything: less where it is slow.
names=1500 mib=20 rounds=40
[ "${PML_IN_GUEST:-}" != 1 ] || names=60 mib=4 rounds=3
far=$work/far
mkdir "$far"

# mount_far [OPTIONS]: the server's filesystem at $far.
mount_far() {
	mount.pmemleasefs "$url/" "$far" ${1:+-o "$1"} >"$work/far.log" 2>&1
}

# ---- mount --------------------------------------------------------------------

mount_far nonsense
is $? 1 "an unknown option is refused"
contains "$(cat "$work/far.log")" "nonsense" "by name"
mount.pmemleasefs "${url%:*}:1/" "$far" >"$work/far.log" 2>&1
is $? 32 "a server that is not there is refused"
mount.pmemleasefs "$url/nowhere" "$far" >"$work/far.log" 2>&1
is $? 32 "a directory that is not there is refused"
contains "$(cat "$work/far.log")" "No such file" "in words"
check "the server's filesystem is mounted" mount_far
contains "$(findmnt -n -o FSTYPE,SOURCE "$far")" "fuse.pmemleasefs $url/" "with its URL"
is "$(df -B1 --output=size "$far" | tail -n 1)" "$(df -B1 --output=size "$mnt" | tail -n 1)" \
	"df shows the server's size"

# ---- names and attributes ---------------------------------------------------------

mkdir "$far/dir" && echo text >"$far/dir/file" && ln "$far/dir/file" "$far/dir/hard" &&
	ln -s file "$far/dir/soft" && mkfifo "$far/dir/fifo" 2>"$work/fifo.err"
is "$(cd "$mnt/dir" && ls)" $'file\nhard\nsoft' "made names are on the server, and no others"
contains "$(cat "$work/fifo.err")" "not supported" "a fifo is refused in words"
is "$(readlink "$far/dir/soft")" file "a link's target"
is "$(stat -c %h "$far/dir/file")" 2 "two names"
chmod 640 "$far/dir/file" && chown 12:34 "$far/dir/file" && touch -d @1000000 "$far/dir/file"
is "$(stat -c '%a %u %g %Y' "$mnt/dir/file")" "640 12 34 1000000" "changed attributes are on the server"
mv "$far/dir/file" "$far/dir/other" && mv -n "$far/dir/hard" "$far/dir/other" 2>/dev/null
is "$(cd "$mnt/dir" && ls)" $'hard\nother\nsoft' "a rename, and one that replaces nothing"
setfattr -n user.colour -v blue "$mnt/dir/other"
is "$(getfattr --only-values -n user.colour "$far/dir/other" 2>/dev/null)" blue \
	"an extended attribute can be read"
rm "$far/dir/hard" && rmdir "$far/dir" 2>/dev/null
is $? 1 "a directory that is not empty stays"
mkdir "$far/many" && (cd "$far/many" && seq $names | xargs touch)
is "$(find "$far/many" -type f | wc -l)" $names "a large directory is listed whole"
is "$(find "$mnt/many" -type f | wc -l)" $names "as on the server"
check "a tree is removed" rm -r "$far/many"

# ---- contents -----------------------------------------------------------------------

head -c ${mib}M /dev/urandom >"$work/random"
cp "$work/random" "$far/big"
check "what was written and closed is on the server" cmp "$work/random" "$mnt/big"
check "and is read back" cmp "$work/random" "$far/big"
dd if="$far/big" of="$work/direct" bs=64k iflag=direct status=none
check "also past the page cache" cmp "$work/random" "$work/direct"
printf tail >>"$far/big"
is "$(tail -c 4 "$mnt/big")" tail "bytes are appended"
truncate -s $((mib / 2))M "$far/big"
is "$(stat -c %s "$mnt/big")" $((mib << 19)) "a file is cut"
truncate -s $((mib / 2 + 2))M "$far/big"
is "$(tail -c 2M "$far/big" | tr -d '\0' | wc -c)" 0 "and filled with zeros"
dd if=/dev/zero of="$far/sparse" bs=4k count=1 seek=1000 status=none
is "$(head -c 4M "$far/sparse" | tr -d '\0' | wc -c)" 0 "holes are zeros"
cp --reflink=auto "$far/big" "$far/copy"
check "a copy has the same bytes" cmp "$mnt/big" "$mnt/copy"
check "stores through a mapping arrive" python3 -IS - "$far/map" "$mnt/map" <<-'END'
	import mmap, sys
	f = open(sys.argv[1], "w+b")
	f.truncate(8192)
	m = mmap.mmap(f.fileno(), 8192)
	m[4090:4100] = b"0123456789"
	m.flush()
	f.close()
	assert open(sys.argv[2], "rb").read()[4090:4100] == b"0123456789"
END
check "what was written and not committed stays when the file is made longer" python3 -IS - \
	"$far/longer" "$mnt/longer" <<-'END'
	import os, sys
	f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
	os.pwrite(f, b"x" * 131072, 0)
	os.ftruncate(f, 1 << 18)
	os.close(f)
	assert open(sys.argv[2], "rb").read() == b"x" * 131072 + bytes(131072)
END
check "a file that was deleted while open lives until it is closed" python3 -IS - "$far/gone" "$mnt" <<-'END'
	import os, sys
	f = open(sys.argv[1], "w+b")
	f.write(b"x" * 5000)
	f.flush()
	os.unlink(sys.argv[1])
	g = open(sys.argv[1], "w+b")
	os.rename(sys.argv[1], sys.argv[1] + "2")
	f.seek(0)
	assert f.read() == b"x" * 5000
	f.close()
	g.close()
END
is "$(find "$mnt" -name '.pmemleasefs.*')" "" "and leaves no name behind"
printf new >"$mnt/fresh"
is "$(cat "$far/fresh")" new "what is made on the server is seen"
printf newer >"$mnt/fresh"
is "$(cat "$far/fresh")" newer "and what is written there, at the next open"

# ---- leases under way -----------------------------------------------------------------

exec 7<>"$far/big"
head -c 8k "$work/random" >&7
truncate -s 4k "$mnt/big"
is $? 0 "a local truncate takes the lease back"
exec 7>&-
is "$(stat -c %s "$mnt/big")" 4096 "and cuts what was written before"
check "the client goes on" cp "$work/random" "$far/big"
check "with the same bytes" cmp "$work/random" "$mnt/big"

# Reads on the client, layout changes on the server, all the time.
(for _ in $(seq $rounds); do cat "$far/big" >/dev/null || exit 1; done) &
reader=$!
for i in $(seq $rounds); do
	truncate -s $((mib << 20)) "$mnt/big"
	fallocate -p -o $((i * 4096)) -l 4096 "$mnt/big"
done
wait $reader
is $? 0 "reads survive layout changes"

# ---- the server goes and comes -------------------------------------------------------------

exec 8<"$far/dir/other"
umount_fs
is $umount_status 0 "the server is unmounted while the client has it mounted"
mount_fs "$listen,client_uid=0,client_gid=0,$clocks"
is "$(cat "$far/dir/other")" text "the client finds its way after the server was mounted again"
is "$(cat <&8)" text "with a file that it had open, too"
exec 8<&-
cat >"$work/writer.py" <<-'END'
	import os, sys
	fd = os.open(sys.argv[1], os.O_RDWR)
	os.pwrite(fd, b"lost", 0)
	print("written", flush=True)
	sys.stdin.readline()
	try:
	    os.fsync(fd)
	    print("durable", flush=True)
	except OSError as e:
	    print(e.strerror, flush=True)
END
coproc writer { python3 -IS "$work/writer.py" "$far/dir/other"; }
read -r line <&"${writer[0]}"
is "$line" written "a program writes and does not close"
kill_daemon
umount -l "$mnt"
mount_fs "$listen,client_uid=0,client_gid=0,$clocks"
echo go >&"${writer[1]}"
read -r line <&"${writer[0]}"
is "$line" "Input/output error" "what was not committed when the server died is told to fsync"
wait "$writer_PID"
check "and the client goes on" cp "$work/random" "$far/after"
check "with the same bytes as before" cmp "$work/random" "$mnt/after"

# ---- the end ----------------------------------------------------------------------------------

check "it is unmounted" wait_for 5 umount "$far"
check "its leases are gone" wait_for 10 bash -c "! pmemleasectl '$mnt' leases | grep -q '[0-9]\.[0-9]'"
mount.pmemleasefs "$url/dir" "$far" -o ro || bail_out "no mount of a directory"
is "$(cat "$far/other")" "$(cat "$mnt/dir/other")" "a directory of the server alone, for reading"
touch "$far/no" 2>/dev/null
is $? 1 "and nothing is made there"
wait_for 5 umount "$far"
umount_fs
finish
