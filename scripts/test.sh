#!/bin/sh
# Runs the tests under the right Node, and first installs what they need: test.sh [--all] [vitest options].
# Must work on a bare machine; what cannot be installed is said, and the tests that need it are left out by name.
set -u
root=$(cd "$(dirname "$0")/.." && pwd -P) || exit 1
cd "$root" || exit 1

packages='qemu-utils qemu-system-x86 libvirt-daemon-system libvirt-clients nbdkit libnbd-bin openssl strace e2fsprogs xfsprogs mariadb-server faketime'
# File servers and their clients; the guest of user-mode-linux uses what is installed here.
packages="$packages samba smbnetfs fuse3 cifs-utils user-mode-linux nbd-client nfs-common nfs-kernel-server rpcbind kmod iproute2 procps gcc libc6-dev"
# A server for S3.
packages="$packages radosgw ceph-mon ceph-osd ceph-common"
tools='qemu-img qemu-io qemu-nbd qemu-system-x86_64 libvirtd virsh nbdkit nbdcopy nbdinfo openssl strace mkfs.ext4 mkfs.xfs mariadbd mariadb-install-db faketime'
tools="$tools smbd smbnetfs linux.uml nbd-client rpc.nfsd mount.nfs mount.cifs radosgw ceph-mon ceph-osd"
PATH=$PATH:/usr/sbin:/sbin

missing_tools() {
  for tool in $tools; do command -v "$tool" >/dev/null || printf '%s ' "$tool"; done
}

install_packages() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 0
  echo "installing the tests' Debian packages: $packages" >&2
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  # Servers are installed for the tests to start; the system is to start none of them.
  policy=/usr/sbin/policy-rc.d
  mark='# of the tests of chainkeep'
  # What a run left that was killed is ours, too; another belongs to the administrator.
  [ -e "$policy" ] && ! grep -qxF "$mark" "$policy" && policy=
  # Also when it is interrupted: this system is not to be left without its servers.
  [ -z "$policy" ] || { trap 'rm -f "$policy"' EXIT && trap 'exit 130' HUP INT TERM; }
  [ -z "$policy" ] || { printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy" && chmod 755 "$policy"; }
  # Package lists are fetched only when the installation does not work without.
  apt-get install -o DPkg::Lock::Timeout=120 -y --no-install-recommends $packages >"$log" 2>&1 </dev/null ||
    { apt-get update && apt-get install -o DPkg::Lock::Timeout=120 -y --no-install-recommends $packages; } >"$log" 2>&1 </dev/null ||
    { echo 'apt-get failed:' >&2 && tail -5 "$log" >&2; }
  [ -z "$policy" ] || { rm -f "$policy" && trap - EXIT HUP INT TERM; }
  rm -f "$log"
}

[ "${1:-}" = --all ] && shift && export CHAINKEEP_TEST_ALL=1
node=$(sh scripts/install.sh --dev) || exit 1
PATH=$(dirname "$node"):$PATH
export PATH

[ -z "$(missing_tools)" ] || install_packages
missing=$(missing_tools)
[ -z "$missing" ] || echo "not installed: ${missing}(Debian packages: $packages; as root this script installs them)" >&2
node scripts/list-left-out.ts

exec node node_modules/vitest/vitest.mjs run "$@"
