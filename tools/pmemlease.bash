# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# pmemlease.bash -- completion for bash: commands and options, as --help has them

_pmemlease() {
	local word=${COMP_WORDS[COMP_CWORD]} words=
	if [ "$COMP_CWORD" = 1 ]; then
		words="--help --version $("${COMP_WORDS[0]}" --help 2>/dev/null |
			sed -n 's/^  \([a-z][a-z]*\) .*/\1/p')"
	elif [[ $word == -* ]]; then
		words=$("${COMP_WORDS[0]}" "${COMP_WORDS[1]}" --help 2>/dev/null |
			sed -n 's/^  [ -].*\(--[a-z-]*=\{0,1\}\).*/\1/p')
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
	# A value follows; URLs have none.
	[[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace
}
complete -o default -F _pmemlease pmemlease
