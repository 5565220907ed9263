#!/usr/bin/env bash
# Installs what llmts needs; --help says more. What the build prints goes to build/setup.log.
set -euo pipefail
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly deno_version=2.9.6 # the oldest that will do; a newer 2.x is used as it is
readonly log=build/setup.log
readonly needed="needed are GCC 12 or Clang 14, CMake 3.20, Ninja and Eigen 3.4, or later ones"
CXX=${CXX:-}

readonly usage="usage: ./setup.sh [--help]"

step() { printf '==> %s\n' "$*"; }

fail() {
  printf 'setup.sh: %s\n' "$*" >&2
  exit 1
}

# Runs a command with its output in the log; shows the log's end and stops with the message if the command fails.
logged() {
  local message=$1
  shift
  if ! "$@" >>"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    fail "$message (the whole log: $log)"
  fi
}

have() { command -v "$1" >/dev/null 2>&1; }

# Whether a compiler can compile the kernels: GCC before 12 lacks the function.
can_compile() {
  "$@" -std=c++17 -fsyntax-only -x c++ - >/dev/null 2>&1 <<'END'
#include <atomic>
typedef int Ints __attribute__((vector_size(16)));
Ints reversed(Ints x) { return __builtin_shufflevector(x, x, 3, 2, 1, 0); }
END
}

# Prints CXX, which may have arguments, or else the first compiler that will do; fails where it will not.
compiler() {
  local name
  if [ -n "$CXX" ]; then
    # shellcheck disable=SC2086 # words
    can_compile $CXX && echo "$CXX"
    return
  fi
  for name in c++ g++ g++-12 g++-13 g++-14 g++-15 clang++; do
    if have "$name" && can_compile "$name"; then
      echo "$name"
      return
    fi
  done
  return 1
}

# Sets CXX for CMake, which keeps the compiler of a build folder whatever CXX says.
choose_compiler() {
  local cxx cached=build/cmake/CMakeCache.txt
  cxx=$(compiler) || fail "${CXX:-the C++ compiler} can't compile the kernels: $needed; CXX may name a compiler"
  export CXX=$cxx
  [ -f "$cached" ] || return 0
  # shellcheck disable=SC2046 # words
  can_compile $(sed -n 's/^CMAKE_CXX_COMPILER\(_ARG1\)\{0,1\}:[A-Z]*=//p' "$cached") || rm -rf build/cmake
}

# Eigen is headers only, so the preprocessor tells. Where these variables are set, CMake looks there instead.
have_eigen() {
  local cxx
  [ -z "${Eigen3_DIR:-}${Eigen3_ROOT:-}${CMAKE_PREFIX_PATH:-}" ] || return 0
  cxx=$(compiler) || cxx=c++
  # shellcheck disable=SC2086 # words
  $cxx -E -x c++ -I/usr/include/eigen3 -I/usr/local/include/eigen3 -I/opt/homebrew/include/eigen3 - \
    <<<'#include <Eigen/Core>' >/dev/null 2>&1
}

# Prints the package, as the package manager $1 calls it, of each build tool that is missing.
missing_packages() {
  local manager=$1 gxx=g++ ninja=ninja-build eigen=libeigen3-dev
  case $manager in
    apt) ! have g++ || gxx=g++-12 ;; # where one is wanted all the same, that is too old
    dnf) gxx=gcc-c++ eigen=eigen3-devel ;;
    brew) gxx='llvm libomp' ninja=ninja eigen=eigen ;;
  esac
  local packages=()
  compiler >/dev/null || packages+=("$gxx")
  have cmake || packages+=(cmake)
  have ninja || packages+=("$ninja")
  have_eigen || packages+=("$eigen")
  if ! deno_suits && ! have npm; then # the official installer's own needs
    have curl || packages+=(curl ca-certificates)
    have unzip || packages+=(unzip)
  fi
  echo "${packages[*]-}"
}

install_build_tools() {
  local packages
  packages=$(missing_packages apt)
  if [ -z "$packages" ]; then
    step "C++ compiler, CMake, Ninja and Eigen: there"
    return
  fi
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    as_root=(sudo)
    [ -t 0 ] || as_root=(sudo -n) # nobody to type a password
  fi
  if ! have apt-get || { [ "${#as_root[@]}" -gt 0 ] && ! "${as_root[@]}" true 2>/dev/null; }; then
    fail "please install, then run ./setup.sh again: apt-get install $packages (Debian, Ubuntu)," \
      "dnf install $(missing_packages dnf) (Fedora) or brew install $(missing_packages brew) (macOS); $needed"
  fi
  step "installing with apt-get: $packages"
  # A stale list of one source must not stop an installation that the others can serve.
  "${as_root[@]}" apt-get update >>"$log" 2>&1 </dev/null || true
  # shellcheck disable=SC2086 # one word a package
  logged "apt-get could not install $packages; $needed" \
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages
}

# Whether the deno on the PATH is of the same major version and not older than deno_version.
deno_suits() {
  local found
  found=$(deno --version 2>/dev/null | sed -n '1s/^deno \([0-9][0-9.]*\).*/\1/p') || return 1
  [ "${found%%.*}" = "${deno_version%%.*}" ] &&
    [ "$(printf '%s\n' "$deno_version" "$found" | sort -V | head -n 1)" = "$deno_version" ]
}

install_deno() {
  if deno_suits; then
    step "Deno: $(deno --version | head -n 1)"
    return
  fi
  local home=${HOME:-~} bin
  if have npm; then
    local prefix
    prefix=$(npm prefix -g) || fail "npm does not work: \"npm prefix -g\" failed"
    [ -w "$prefix/lib/node_modules" ] || [ -w "$prefix/lib" ] || [ -w "$prefix" ] || prefix=$home/.local
    step "installing Deno $deno_version with npm in $prefix"
    logged "npm could not install deno@$deno_version" npm install -g --prefix "$prefix" "deno@$deno_version"
    bin=$prefix/bin
  else
    step "installing Deno $deno_version with its installer in $home/.deno"
    logged "https://deno.land/install.sh could not be fetched; with Deno or npm there it is not needed" \
      curl -fsSL --connect-timeout 20 -o build/install-deno.sh https://deno.land/install.sh
    logged "Deno's installer failed" \
      env DENO_INSTALL="$home/.deno" sh build/install-deno.sh -y --no-modify-path "v$deno_version"
    bin=$home/.deno/bin
  fi
  hash -r
  deno_suits || link_deno "$bin" "$home"
  step "Deno: $(deno --version | head -n 1)"
}

# Links the new deno into a writable folder of the PATH, so that this shell finds it without being set up anew.
link_deno() {
  local bin=$1 home=$2 folder folders
  [ -x "$bin/deno" ] || fail "Deno was installed, but \"$bin/deno\" is not there"
  IFS=: read -r -a folders <<<"$PATH"
  for folder in /usr/local/bin "$home/.local/bin" "$home/bin" "${folders[@]}"; do
    case ":$PATH:" in *":$folder:"*) ;; *) continue ;; esac
    case $folder in /*) ;; *) continue ;; esac
    if [ ! -w "$folder" ] || [ -e "$folder/deno" ]; then continue; fi # another deno is the user's: not replaced
    ln -sf "$bin/deno" "$folder/deno"
    hash -r
    deno_suits && return
  done
  fail "Deno $deno_version is in \"$bin\", but the PATH leads to another deno or to none:" \
    "run export PATH=\"$bin:\$PATH\" and ./setup.sh again"
}

case $#:${1:-} in
  0:) ;;
  1:--help | 1:-h)
    cat <<END
$usage

Installs what llmts needs and is not there yet (build tools, Deno), builds the kernels and the text assets, and
makes ./llmts. Safe to run again: what is there is left alone.
END
    exit
    ;;
  *)
    printf 'setup.sh: it takes no arguments, and was given: %s\n%s\n' "$*" "$usage" >&2
    exit 2
    ;;
esac

mkdir -p build
: >"$log"

! have "${CXX%% *}" || choose_compiler # a compiler that is named and there: no other is installed
install_build_tools
compiler >/dev/null || install_build_tools # the g++ of Ubuntu 22.04 is too old
choose_compiler
install_deno

step "fetching the npm packages that deno.lock names"
logged "the npm packages could not be fetched (does registry.npmjs.org answer?)" deno install --frozen

step "building the kernels and the text assets (the first time takes some minutes)"
logged "the build failed" deno task build
step "built: $(cd build/lib && echo *)"

step "making ./llmts"
deno task --quiet compile </dev/null || fail "./llmts could not be made"

step "ready: ./llmts train"
