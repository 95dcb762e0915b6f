#!/bin/bash
# The first program of a user-mode-linux guest: starts the file servers that SHARES names (nfs, smb), then runs the test files of TESTS with vitest.
# From the kernel's command line: PROJECT, OUT (a folder of the host, written to), NODE, SHARES, TESTS (separated by commas).
export PATH=$(dirname "$NODE"):/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/mnt LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sys /sys
for place in /run /mnt /var/lib/nfs /var/log; do mount -t tmpfs tmpfs $place; done
mkdir -p /dev/shm /mnt/out /mnt/tmp /mnt/srv/export /mnt/upper /mnt/work /mnt/modules/lib/modules /run/rpcbind /var/log/samba
mount -t tmpfs tmpfs /dev/shm
mount -t hostfs none /mnt/out -o "$OUT"
exec >/mnt/out/log 2>&1
up() { cut -d' ' -f1 /proc/uptime; }
release=$(uname -r)
ln -s "/usr/lib/uml/modules/$release" "/mnt/modules/lib/modules/$release"
load() { for module; do modprobe -q -d /mnt/modules "$module"; done; }
ip link set lo up
load fuse overlay

start_nfs() {
  load nfsv4 nfsv3 lockd nfsd
  mount -t nfsd nfsd /proc/fs/nfsd
  mkdir -p /var/lib/nfs/{sm,sm.bak,v4recovery,rpc_pipefs}
  touch /var/lib/nfs/{etab,rmtab,xtab,state}
  rpcbind -w
  exportfs -o rw,no_root_squash,fsid=0,insecure,async 127.0.0.1:/mnt/srv
  rpc.nfsd -G 10 -L 10 4
  rpc.mountd
  echo Y >/proc/fs/nfsd/v4_end_grace || true
}

start_smb() {
  load cifs ghash-generic seqiv echainiv cmac ccm gcm ctr sha512_generic sha256_generic md5 hmac ecb
  mkdir -p /mnt/smb/{priv,lock,state,cache,pid,ncalrpc}
  cat >/mnt/smb/smb.conf <<CONF
[global]
server role = standalone server
workgroup = CK
netbios name = CKTEST
interfaces = lo
bind interfaces only = yes
smb ports = 445
disable netbios = yes
map to guest = never
private dir = /mnt/smb/priv
lock directory = /mnt/smb/lock
state directory = /mnt/smb/state
cache directory = /mnt/smb/cache
pid directory = /mnt/smb/pid
ncalrpc dir = /mnt/smb/ncalrpc
log file = /mnt/smb/log
load printers = no
printing = bsd
disable spoolss = yes
passdb backend = tdbsam:/mnt/smb/priv/passdb.tdb
unix password sync = no
strict sync = yes
[bk]
path = /mnt/srv/export
read only = no
force user = root
# The guest's file system keeps no attributes of its own: read-only files are told by their mode.
store dos attributes = no
map readonly = yes
CONF
  printf 'a pass,word\na pass,word\n' | smbpasswd -c /mnt/smb/smb.conf -s -a root
  smbd -s /mnt/smb/smb.conf -D
  for _ in $(seq 100); do ss -ltn | grep -q :445 && break; sleep 0.1; done
}

echo "up $(up)"
for share in ${SHARES//,/ }; do "start_$share"; echo "$share is there $(up)"; done
# What tests write into the project (caches) stays in memory.
mount -t overlay overlay -o "lowerdir=$PROJECT,upperdir=/mnt/upper,workdir=/mnt/work" "$PROJECT"
cd "$PROJECT" || halt -f
export TMPDIR=/mnt/tmp CI=true
"$NODE" node_modules/vitest/vitest.mjs run --config test/uml/vitest.config.ts --reporter=default --reporter=json \
  --outputFile.json=/mnt/out/report.json ${TESTS//,/ }
echo "ended $? $(up)"
halt -f
