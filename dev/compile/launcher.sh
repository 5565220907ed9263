#!/bin/sh
# llmts, as one file: this script, then a gzipped tar archive of Deno, the program, its kernel libraries and assets.
# The archive is unpacked once into the user's cache folder, under the hash of its content, and run from there.
# Written by `deno task compile`, which fills in the values between at signs.
set -u
hash='@hash@'
sizes='@sizes@'
names='@names@'
payload_start=@payload_start@
file_size=@file_size@
machine='@machine@'
failed='this step failed' # among what tar and gzip say

die() {
  printf 'llmts: %s\n' "$*" >&2
  exit 1
}

# A closed standard stream would lend its number to the next file opened.
true 2>/dev/null <&0 || exec 0</dev/null
true 2>/dev/null >&1 || exec 1>/dev/null
true 2>/dev/null >&2 || exec 2>/dev/null

# Whether folder $1 holds every file with its size: a cleaner of old files may have been at work in a cache.
whole() {
  # shellcheck disable=SC2046,SC2086 # split into words; names hold no spaces
  set -- $(cd "$1" 2>/dev/null && LC_ALL=C wc -c $names 2>/dev/null)
  [ "$*" = "$sizes" ]
}

# Whether folder $1, open to all users' eyes at a known name, belongs to this user alone.
private() {
  # shellcheck disable=SC3067 # -O is not in POSIX, but in every sh; without it the folder is refused
  [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ] && chmod 700 "$1" 2>/dev/null
}

# Unpacks into a new folder beside $2 = $1/hash and renames it, so that $2 is never there half filled.
unpack() {
  part=$(mktemp -d "$1/.part.XXXXXX" 2>/dev/null) || return 1
  trap 'rm -rf "$part"' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  find "$1" -maxdepth 1 -name '.part.*' -mtime +0 -exec rm -rf {} + 2>/dev/null # of starts that were killed
  # tar: -o own the files, -m with the time of now. What any of the three says comes into the variable.
  errors=$({
    tail -c "+$payload_start" "$self" | { gzip -dc || echo "$failed" >&2; } | tar -xomf - -C "$part" || echo "$failed" >&2
  } 2>&1)
  case $errors in
    *"$failed"*) die "unpacking into \"$1\" failed: $(printf '%s\n' "$errors" | grep -v "$failed" | tr -s '\n' ' ')" ;;
  esac
  whole "$part" || die "what was unpacked into \"$1\" is not complete"
  errors=$("$part/deno" --version 2>&1 >/dev/null) ||
    die "programs cannot be run from \"$1\" (${errors:-no reason given}): set XDG_CACHE_HOME to another folder"
  if ! whole "$2"; then
    [ ! -e "$2" ] || mv "$2" "$part.old"
    mv "$part" "$2" 2>/dev/null
  fi
  # Where another start was quicker, mv moved the folder into the other's or failed.
  rm -rf "$part" "$part.old" "${2:?}/${part##*/}"
  trap - EXIT HUP INT TERM
  whole "$2" || die "\"$2\" is not complete: remove it and start again"
}

# Sets $home to the complete unpacked folder.
find_home() {
  case ${XDG_CACHE_HOME:-} in
    /*) cache=$XDG_CACHE_HOME/llmts ;;
    *) cache=${HOME:+$HOME/.cache/llmts} ;;
  esac
  home=$cache/$hash
  [ -z "$cache" ] || ! whole "$home" || return 0
  temporary=${TMPDIR:-/tmp}/llmts-$(id -u)
  home=$temporary/$hash
  ! private "$temporary" || ! whole "$home" || return 0

  self=$0
  [ -r "$self" ] || self=$(command -v -- "$0")
  size=$(wc -c <"$self") || die "\"$self\" cannot be read"
  [ "$size" -eq "$file_size" ] || die "\"$self\" has $size bytes of $file_size: copy it or make it again"
  [ "$(uname -s)-$(uname -m)" = "$machine" ] ||
    die "this file is for $machine, and this machine is $(uname -s)-$(uname -m): run \`deno task compile\` here"
  home=$cache/$hash
  [ -n "$cache" ] && mkdir -p "$cache" 2>/dev/null && unpack "$cache" "$home" && return 0
  mkdir -m 700 "$temporary" 2>/dev/null
  reason=${cache:+"\"$cache\" cannot be written"}
  reason=${reason:-neither HOME nor XDG_CACHE_HOME is set}
  private "$temporary" || die "$reason, and \"$temporary\" cannot be made or is not this user's alone:" \
    "set XDG_CACHE_HOME to a folder of yours"
  printf 'llmts: %s: unpacking into "%s"\n' "$reason" "$temporary" >&2
  home=$temporary/$hash
  unpack "$temporary" "$home" || die "\"$temporary\" cannot be written: set XDG_CACHE_HOME to a folder of yours"
}

start() {
  find_home
  # HOME, so that Deno reads no .npmrc of the user's; the program asks for none of these but LLMTS_HOME.
  export LLMTS_HOME="$home" HOME="$home" DENO_DIR="$home/cache" DENO_NO_UPDATE_CHECK=1 DENO_NO_PACKAGE_JSON=1
  exec "$home/deno" run --quiet --no-prompt --no-config --no-lock --no-npm --no-remote \
    @permissions@ "$home/llmts.js" "$@"
}

start "$@"
exit
