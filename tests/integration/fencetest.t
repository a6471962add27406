#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# fencetest.t -- pmemlease fencetest as an administrator uses it, over the software fabric
#
# usage: tests/integration/fencetest.t BUILD_DIR
#
# Real devices: tests/vm/guest-suite.
set -u
build=$(realpath -- "${1:?BUILD_DIR}")
tool=$build/tools/pmemlease
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
n=0 bad=0

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

# run ARGUMENT...: sets status, out, err
run() {
	"$tool" fencetest "$@" >"$work/out" 2>"$work/err"
	status=$?
	out=$(<"$work/out") err=$(<"$work/err")
}

run --soft --count 20 --no-record
is "$status" 0 "no violation: status 0"
is "${out##*$'\n'}" "violations 0 of 60" "last line: all three methods"
is "$err" "" "no progress without a terminal"

run --soft --count 10 --method region --state "$work/fences" --json
is "$status" 0 "one method"
is "$(head -n 1 "$work/out" | python3 -c 'import json, sys; d = json.load(sys.stdin)
print(d["method"], d["device"], d["trials"], d["violations"])')" "region soft 10 0" "one JSON object"
is "${out##*$'\n'}" "violations 0 of 10" "last line"
run --soft --count 5 --method region --state "$work/fences"
is "$(grep -c 'method=region trials=15 violations=0 unbounded=0 ' "$work/fences")" 1 "verdicts add up"

chmod 666 "$work/fences"
run --soft --count 1 --method region --state "$work/fences"
is "$status" 2 "a verdict that cannot be kept: status 2"
is "${err%%:*}" pmemlease "and said"

for wrong in --count=0 --count=x --method=prayer --nonsense operand "--soft --rdma=10.0.0.1"; do
	# shellcheck disable=SC2086 # several words
	run $wrong
	is "$status$([ -n "$err" ] && echo " said")" "2 said" "usage: $wrong"
done
run --rdma 192.0.2.77 --count 1 --no-record
is "$status" 2 "an address without a device: status 2"
is "${out##*$'\n'}" "violations 0 of 0" "and still the last line"

echo "1..$n"
exit $bad
