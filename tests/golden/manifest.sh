# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# manifest.sh -- what lies below a directory, as sorted lines: names, attributes, contents

# manifest DIRECTORY: type|mode|owner|links|size|blocks|mtime|name, then the targets of links,
# numbers of devices, checksums of files, extended attributes.
manifest() (
	cd "$1" || exit
	export LC_ALL=C TZ=UTC
	# Links and size of a directory are how a version counts, not what is stored.
	{
		find . -type d -printf '%y|%m|%U:%G|-|-|-|%t|%p\n'
		find . ! -type d -printf '%y|%m|%U:%G|%n|%s|%b|%t|%p\n'
	} | sort
	find . -type l -printf 'target|%p|%l\n' | sort
	find . \( -type b -o -type c \) -exec stat --printf='device|%n|%t,%T\n' {} + | sort
	find . -type f -size -1G -print0 | sort -z | xargs -0 sha256sum
	find . -type f ! -size -1G -print0 | sort -z | while IFS= read -r -d '' path; do
		echo "$(tail -c 4096 "$path" | sha256sum | cut -c1-64)  the end of $path"
	done
	getfattr -R -h -d -m - -e hex . 2>/dev/null |
		awk '/^# file: / { file = $0; next } NF { print file "|" $0 }' | sort
)
