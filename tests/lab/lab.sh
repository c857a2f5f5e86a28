#!/bin/bash
# Disposable hosts h1..hN on one machine: systemd-nspawn guests with systemd as PID 1, an sshd, an address, cgroups and a
# clock of their own. Run as root. docs/lab.md tells more.
#
#   lab.sh up [N]             bring up h1..hN (2 unless told) and wait until SSH answers
#   lab.sh down               remove every trace of this lab (KEEP_CACHE=1: all but its cache)
#   lab.sh status             one line per host: name, address, up | no-ssh | down
#   lab.sh ssh hN [COMMAND]   as root (ssh ops@hN is the ordinary user with sudo)
#   lab.sh stop hN            orderly power-off         lab.sh start hN           power-on
#   lab.sh crash hN           power cut
#   lab.sh remove hN          the host and all that is on it
#   lab.sh cut hN             cut the host off          lab.sh heal hN            plug it in again
#   lab.sh full hN DIR MIB    a full file system of that size over DIR            lab.sh unfull hN DIR
#
# Settings, from the environment; a lab remembers those it was made with:
#   LAB_DIR     where it lives (/var/tmp/rayrack-lab)
#   LAB_CACHE   what outlives a lab: base system, packages, wheelhouse, models (LAB_DIR/cache)
#   LAB_NET     its /24 (10.77.0): .1 is the bridge, .11 is h1, .12 is h2, ...
#   LAB_BRIDGE  the bridge's name (lab0)
#   LAB_MEM     memory limit of each host (10G)
#   LAB_BINDS   more systemd-nspawn options, e.g. --bind-ro=/data:/data
#   LAB_DEBIAN  what the hosts are: bookworm (unless told) or trixie
#   LAB_LOOP    1: the hosts have this machine's loop devices, so that they can mount image files
#   LAB_MIRROR  Debian mirror (the one this machine uses)
#   LAB_ALLOW   regular expression of host names the guests may reach (this machine's package hosts)
set -euo pipefail

LAB_DIR=${LAB_DIR:-/var/tmp/rayrack-lab}
# shellcheck source=/dev/null
[ ! -e "$LAB_DIR/settings" ] || . "$LAB_DIR/settings"
: "${LAB_CACHE:=$LAB_DIR/cache}" "${LAB_NET:=10.77.0}" "${LAB_BRIDGE:=lab0}" "${LAB_MEM:=10G}" "${LAB_BINDS:=}" "${LAB_LOOP:=}"
: "${LAB_DEBIAN:=bookworm}"

SELF=$(readlink -f "$0")
HOSTS=$LAB_DIR/hosts
# The lower layer of every host's overlay, never written by a host. Bookworm's has the name it had when it was alone.
BASE=$LAB_CACHE/base
[ "$LAB_DEBIAN" = bookworm ] || BASE=$BASE-$LAB_DEBIAN
PROXY_PORT=3128
DEBOOTSTRAP_SCRIPTS=/usr/share/debootstrap/scripts
SSH_WAIT_SECONDS=60
STOP_WAIT_SECONDS=90
# Names in cgroups carry the lab's own number, so that two labs never take each other's for their own.
ID=rayrack-lab-$(printf %s "$LAB_DIR" | cksum | cut -d' ' -f1)
CGROUP=/sys/fs/cgroup

die() {
  echo "lab: $*" >&2
  exit 1
}

# --- names and questions ---------------------------------------------------------------------------------------------

address() { echo "$LAB_NET.$((10 + ${1#h}))"; }
veth() { echo "vb-$LAB_BRIDGE-$1"; } # what systemd-nspawn calls the bridge's end: vb- and the machine's name

hosts() {
  local dir
  for dir in "$HOSTS"/h[0-9]*/; do
    [ ! -d "$dir" ] || basename "$dir"
  done
}

# Hosts with a directory and hosts of which only the cgroup is left.
hosts_and_leftovers() {
  {
    hosts
    find "$CGROUP" -maxdepth 5 -type d -name "$ID-h*" 2>/dev/null | sed 's/.*-h/h/'
  } | sort -u
}

known() { [ -d "$HOSTS/${1:-none}" ] || die "no host ${1:-(none named)} here; lab.sh status lists them"; }

# Locks are held as long as the process lives and by nothing else: no stale pid files.
alive() { [ -e "$HOSTS/$1/lock" ] && ! flock -n "$HOSTS/$1/lock" true; }
proxy_alive() { [ -e "$LAB_DIR/proxy.lock" ] && ! flock -n "$LAB_DIR/proxy.lock" true; }
ssh_answers() { timeout 1 bash -c "exec 3<>/dev/tcp/$(address "$1")/22 && head -c4 <&3" 2>/dev/null | grep -q SSH-; }

state() {
  if ! alive "$1"; then
    echo down
  elif ssh_answers "$1"; then
    echo up
  else
    echo no-ssh
  fi
}

in_host() {
  local host=$1
  shift
  ssh -F "$LAB_DIR/ssh_config" "$host" "$@"
}

# --- what this machine must have -------------------------------------------------------------------------------------

check_machine() {
  local program
  for program in debootstrap systemd-nspawn systemd-id128 unshare flock ip ssh ssh-keygen python3; do
    command -v "$program" >/dev/null || die "no program '$program' here; 'make lab-up' installs what the lab needs"
  done
  [ -e /proc/self/ns/time ] || die "this kernel has no time namespaces (CONFIG_TIME_NS, Linux 5.6), without which a host cannot reboot"
  [ ${#LAB_DIR} -le 40 ] || die "LAB_DIR=$LAB_DIR is too long for the path of an SSH socket: at most 40 characters"
  [ ${#LAB_BRIDGE} -le 8 ] || die "LAB_BRIDGE=$LAB_BRIDGE is too long for interface names: at most 8 characters"
  [ -e "$DEBOOTSTRAP_SCRIPTS/$LAB_DEBIAN" ] ||
    die "LAB_DEBIAN=$LAB_DEBIAN: this machine's debootstrap cannot make it (no $DEBOOTSTRAP_SCRIPTS/$LAB_DEBIAN)"
  check_overlay
  check_network
  if [ -e "$CGROUP/cgroup.controllers" ]; then
    echo "+cpu +memory +pids" 2>/dev/null >"$CGROUP/cgroup.subtree_control" ||
      die "cgroup v2 does not hand out cpu, memory and pids here ($CGROUP/cgroup.subtree_control); run the lab on the machine itself, not in a container"
  elif [ ! -d "$CGROUP/memory" ] || [ ! -d "$CGROUP/systemd" ]; then
    die "no cgroups: $CGROUP has neither cgroup v2 nor the v1 hierarchies memory and systemd"
  fi
}

# Inside many containers the root is an overlay itself, on which no other overlay can be written.
check_overlay() {
  local try=$LAB_DIR/overlay-check
  mkdir -p "$try"/{lower,upper,work,root}
  unshare --mount mount -t overlay check -o "lowerdir=$try/lower,upperdir=$try/upper,workdir=$try/work" "$try/root" 2>/dev/null ||
    die "overlayfs cannot be used in $LAB_DIR; set LAB_DIR to a directory on ext4, xfs, btrfs or tmpfs"
  rm -rf "$try"
}

check_network() {
  local owner
  if ip link show "$LAB_BRIDGE" &>/dev/null; then
    owner=$(cat "/sys/class/net/$LAB_BRIDGE/ifalias")
    [ "$owner" = "$ID $LAB_DIR" ] ||
      die "the bridge $LAB_BRIDGE belongs to ${owner:-something else}; take that down ('LAB_DIR=${owner#* } $0 down') or set LAB_BRIDGE and LAB_NET"
  elif ip -4 -o addr | grep -q " inet $LAB_NET\."; then
    die "this machine has an address in $LAB_NET.0/24 already; set LAB_NET to another /24"
  fi
}

# --- the base system -------------------------------------------------------------------------------------------------

machine_mirror() {
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
    sed -nE 's#^(URIs:|deb) +(http://[^ ]+/debian)/?( .*)?$#\2#p' | head -1
}

# What a freshly installed Debian server has, and nothing that a role of ours brings.
build_base() {
  local packages=systemd,systemd-sysv,dbus,openssh-server,python3,cron,sudo,iproute2,iputils-ping,logrotate,ca-certificates,procps
  [ ! -e "$BASE.ok" ] || return 0
  echo "lab: building the base system of $LAB_DEBIAN, about 90 s, once"
  rm -rf "$BASE" "$BASE.partial"
  # Without a mirror debootstrap takes Debian's own.
  # shellcheck disable=SC2046,SC2086
  debootstrap --variant=minbase --include="$packages" "$LAB_DEBIAN" "$BASE.partial" ${LAB_MIRROR:-$(machine_mirror)} |
    tee "$LAB_CACHE/debootstrap.log" | show_debootstrap_progress
  # Each host gets an identity of its own.
  rm -f "$BASE.partial"/etc/ssh/ssh_host_* "$BASE.partial"/var/lib/dbus/machine-id "$BASE.partial"/etc/hostname
  : >"$BASE.partial/etc/machine-id"
  systemctl --root="$BASE.partial" -q enable systemd-networkd systemd-networkd-wait-online ssh cron
  systemctl --root="$BASE.partial" -q mask systemd-resolved console-getty.service getty.target 2>/dev/null
  # The machine's own trust store, for sites with certificates of their own.
  cp /etc/ssl/certs/ca-certificates.crt "$BASE.partial/etc/ssl/certs/ca-certificates.crt"
  chroot "$BASE.partial" useradd --create-home --shell /bin/bash ops
  echo 'ops ALL=(ALL) NOPASSWD: ALL' >"$BASE.partial/etc/sudoers.d/ops"
  chmod 440 "$BASE.partial/etc/sudoers.d/ops"
  mv "$BASE.partial" "$BASE"
  : >"$BASE.ok"
}

# debootstrap prints hundreds of lines; one every five seconds is enough to see that it lives.
show_debootstrap_progress() {
  local line last=-5
  while read -r line; do
    if [ $((SECONDS - last)) -ge 5 ]; then
      printf 'lab:   %3d s  %.80s\n' "$SECONDS" "$line"
      last=$SECONDS
    fi
  done
}

# --- a host ----------------------------------------------------------------------------------------------------------

# Write the host's identity into the upper layer of its overlay, before that is ever mounted.
prepare() {
  local host=$1 dir=$HOSTS/$1 upper=$HOSTS/$1/upper i
  [ ! -e "$dir/prepared" ] || return 0
  rm -rf "$dir"
  mkdir -p "$dir"/{work,root} "$upper"/etc/{ssh,systemd/network,apt/apt.conf.d,dpkg/dpkg.cfg.d} "$upper/home"
  chmod 755 "$dir" "$upper"
  echo "$host" >"$upper/etc/hostname"
  systemd-id128 new >"$upper/etc/machine-id"
  authorize "$upper/root" 0
  cp -a "$BASE/home/ops" "$upper/home/ops"
  authorize "$upper/home/ops" 1000
  # Only this type: making all of them (ssh-keygen -A) costs seconds of RSA per host.
  ssh-keygen -q -t ed25519 -N "" -C "$host" -f "$upper/etc/ssh/ssh_host_ed25519_key"
  # IgnoreCarrierLoss: a host that is cut off keeps its address, as with a broken switch.
  printf '%s\n' '[Match]' 'Name=host0' '[Network]' "Address=$(address "$host")/24" "Gateway=$LAB_NET.1" \
    'IPv6AcceptRA=no' 'LinkLocalAddressing=no' 'IgnoreCarrierLoss=yes' >"$upper/etc/systemd/network/10-host0.network"
  {
    echo "127.0.0.1 localhost"
    for i in 1 2 3 4 5 6 7 8 9; do echo "$(address "h$i") h$i"; done
  } >"$upper/etc/hosts"
  printf 'Acquire::%s::Proxy "http://'"$LAB_NET.1:$PROXY_PORT"'";\n' http https >"$upper/etc/apt/apt.conf.d/90lab"
  printf '[global]\nproxy = http://%s\ncert = /etc/ssl/certs/ca-certificates.crt\n' "$LAB_NET.1:$PROXY_PORT" >"$upper/etc/pip.conf"
  write_init "$upper/lab-init"
  : >"$dir/prepared"
}

# authorize HOME UID
authorize() {
  install -d -m 700 -o "$2" -g "$2" "$1" "$1/.ssh"
  install -m 600 -o "$2" -g "$2" "$LAB_DIR/id.pub" "$1/.ssh/authorized_keys"
}

# cgroup v1: systemd-nspawn mounts the controllers read-only, and systemd decides at its start which it may use, so that
# MemoryMax= and the like would be ignored in silence. They are the host's own subtree: make them writable before.
write_init() {
  cat >"$1" <<'INIT'
#!/bin/sh
for controller in memory pids cpu cpuacct cpu,cpuacct blkio; do
  [ ! -d "/sys/fs/cgroup/$controller" ] || mount -o remount,bind,rw "/sys/fs/cgroup/$controller"
done 2>/dev/null
exec /lib/systemd/systemd "$@"
INIT
  chmod 755 "$1"
}

# The directory of host $1's cgroup in each hierarchy. Without one of its own in all of them the guests would share the
# caller's, and their systemds would fight over it.
cgroups_of() {
  local controllers path root
  if [ -e "$CGROUP/cgroup.controllers" ]; then
    # v2: below the root, the only cgroup that may hold processes and hand out controllers at once
    echo "$CGROUP/$ID-$1"
    return
  fi
  while IFS=: read -r _ controllers path; do
    case $controllers in
      "") root=$CGROUP/unified ;;
      *) root=$CGROUP/${controllers#name=} ;;
    esac
    # v1: below the caller's own, so that its limits hold for the guests, too
    path=${path%/}
    [ -d "$root$path" ] || path=
    [ ! -d "$root" ] || echo "$root$path/$ID-$1"
  done </proc/self/cgroup
}

make_cgroups() {
  local cgroup file
  while read -r cgroup; do
    mkdir -p "$cgroup"
    case $cgroup in
      */cpuset/*) for file in cpuset.cpus cpuset.mems; do cat "${cgroup%/*}/$file" >"$cgroup/$file"; done ;;
      */memory/*) echo "$LAB_MEM" >"$cgroup/memory.limit_in_bytes" ;;
      */devices/*) deny_disks "$cgroup" ;;
    esac
    if [ -e "$CGROUP/cgroup.controllers" ]; then
      echo "$LAB_MEM" >"$cgroup/memory.max"
      echo "+cpu +memory +pids" >"$cgroup/cgroup.subtree_control"
    fi
  done
}

# Keeps guests off the machine's disks.
deny_disks() {
  if [ -z "$LAB_LOOP" ]; then
    echo "b *:* rwm" >"$1/devices.deny"
    return
  fi
  # A rule cannot be taken out of a wider one: deny all, then name what is allowed. Block devices 7: loop (devices.txt).
  echo a >"$1/devices.deny"
  echo "c *:* rwm" >"$1/devices.allow"
  echo "b 7:* rwm" >"$1/devices.allow"
}

loop_binds() {
  local device
  [ -n "$LAB_LOOP" ] || return 0
  for device in /dev/loop-control /dev/loop[0-9]*; do
    [ ! -e "$device" ] || echo "--bind=$device"
  done
}

# enter_cgroups PID BOOT_NUMBER, with the host's cgroups on standard input. In v2 a cgroup that hands out controllers may
# hold no process, so each boot gets a child of its own.
enter_cgroups() {
  local cgroup
  while read -r cgroup; do
    if [ -e "$CGROUP/cgroup.controllers" ]; then
      cgroup=$cgroup/boot-$2
      mkdir -p "$cgroup"
    fi
    echo "$1" >"$cgroup/cgroup.procs"
  done
}

# Runs as PID 1 of a pid and mount namespace: when it dies, nspawn, guest, interface and mounts vanish with it.
supervise() {
  local host=$1 dir=$HOSTS/$1 code=0 boot=0 monotonic boottime
  make_cgroups <"$dir/cgroups"
  rm -rf "$dir/work"/*/incompat # left by `volatile` after a power cut; it would forbid the next mount
  # volatile: no fsync reaches the disk, which makes dpkg several times faster; a power cut of the machine ends the lab anyway
  mount -t overlay "lab-$host" -o "lowerdir=$(cat "$dir/base"),upperdir=$dir/upper,workdir=$dir/work,volatile" "$dir/root"
  while :; do
    boot=$((boot + 1))
    read -r monotonic boottime < <(python3 -c 'import time as t; print(int(t.monotonic()), int(t.clock_gettime(t.CLOCK_BOOTTIME)))')
    (
      enter_cgroups "$BASHPID" "$boot" <"$dir/cgroups"
      export SYSTEMD_NSPAWN_TMPFS_TMP=0 # /tmp as on a real host: on disk in Debian 12, a tmpfs of systemd's in Debian 13
      # A new time namespace per boot: the guest's uptime starts at 0, which is how a reboot is noticed.
      # CAP_MKNOD: with devices.deny above, block devices cannot be made nor opened.
      # shellcheck disable=SC2046,SC2086
      exec unshare --time --monotonic "-$monotonic" --boottime "-$boottime" \
        systemd-nspawn --quiet --directory="$dir/root" --machine="$LAB_BRIDGE-$host" --hostname="$host" \
        --network-bridge="$LAB_BRIDGE" --kill-signal=SIGRTMIN+3 --register=no --keep-unit --console=pipe \
        --resolv-conf=off --timezone=off --link-journal=no --drop-capability=CAP_MKNOD \
        --bind-ro="$LAB_CACHE/wheelhouse:/srv/wheelhouse" --bind-ro="$LAB_CACHE/models:/srv/models" \
        $(loop_binds) $LAB_BINDS /lab-init </dev/null >>"$dir/console.log" 2>&1 9>&- 8>&-
    ) && code=0 || code=$?
    echo "systemd-nspawn ended with $code" >>"$dir/console.log"
    [ "$code" = 133 ] || exit "$code" # 133: the guest asked for a reboot
  done
}

start() {
  local host=$1 dir=$HOSTS/$1
  known "$host"
  ! alive "$host" || return 0
  remove_leftovers "$host"
  cgroups_of "$host" >"$dir/cgroups"
  # What a host is made of is settled at its first start: its own layer fits on no other.
  [ -e "$dir/base" ] || echo "$BASE" >"$dir/base"
  (
    # Held until the supervisor ends: 9 says that the host is alive, 8 that the cache is in use.
    exec 9>"$dir/lock" 8>>"$LAB_CACHE/lock"
    flock -n 9 && flock -s -n 8 || exit 0
    exec setsid unshare --mount --propagation private --pid --mount-proc --fork --kill-child \
      "$SELF" supervise "$host" </dev/null >>"$dir/supervisor.log" 2>&1
  ) &
  echo $! >"$dir/pid"
}

wait_for_ssh() {
  local host=$1 started=$SECONDS
  until ssh_answers "$host"; do
    if [ $((SECONDS - started)) -ge $SSH_WAIT_SECONDS ]; then
      tail -n 15 "$HOSTS/$host/supervisor.log" "$HOSTS/$host/console.log" >&2
      die "$host does not answer on SSH after $SSH_WAIT_SECONDS s; its console is above"
    fi
    sleep 0.1
  done
}

child_of() { cat "/proc/$1/task/$1/children" 2>/dev/null || true; }

stop() {
  local host=$1 supervisor nspawn tenths=0
  known "$host"
  if alive "$host"; then
    supervisor=$(child_of "$(cat "$HOSTS/$host/pid")")
    nspawn=$(child_of "${supervisor// /}")
    # shellcheck disable=SC2086
    [ -z "$nspawn" ] || kill -TERM $nspawn 2>/dev/null || true # nspawn asks the guest's systemd to power off
    while alive "$host" && [ "$tenths" -lt $((STOP_WAIT_SECONDS * 10)) ]; do
      sleep 0.1
      tenths=$((tenths + 1))
    done
  fi
  crash "$host"
}

crash() {
  local host=$1
  if alive "$host"; then
    kill -KILL "$(cat "$HOSTS/$host/pid")" 2>/dev/null || true
    while alive "$host"; do sleep 0.05; done
  fi
  ssh -F "$LAB_DIR/ssh_config" -O exit "$host" &>/dev/null || true
  remove_leftovers "$host"
}

remove() {
  known "${1:-}"
  crash "$1"
  rm -rf "${HOSTS:?}/$1"
}

# Whatever an ended or killed host left: processes (found by cgroup, never by name), its interface, its cgroups.
remove_leftovers() {
  local host=$1 cgroup pids
  while read -r cgroup; do
    [ -d "$cgroup" ] || continue
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      pids=$(find "$cgroup" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -un)
      [ -n "$pids" ] || break
      # shellcheck disable=SC2086
      kill -KILL $pids 2>/dev/null || true
      sleep 0.2
    done
    # A frozen cgroup takes the signal only when it is thawed, which is for whoever froze it to do.
    if [ -n "$pids" ]; then
      echo "lab: $host: processes of $cgroup do not end (is it frozen?); when they have, 'lab.sh down' removes the rest" >&2
      break
    fi
    find "$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  done < <({
    cat "$HOSTS/$host/cgroups" 2>/dev/null || true
    cgroups_of "$host"
    find "$CGROUP" -maxdepth 5 -type d -name "$ID-$host" 2>/dev/null
  } | sort -u)
  ip link del "$(veth "$host")" 2>/dev/null || true
  rm -rf "/run/systemd/nspawn/propagate/$LAB_BRIDGE-$host"
}

# --- the lab ---------------------------------------------------------------------------------------------------------

# Values are kept as defaults, so that a later `LAB_DIR=... lab.sh down` needs nothing else.
remember_settings() {
  local name
  for name in LAB_CACHE LAB_NET LAB_BRIDGE LAB_MEM LAB_BINDS LAB_LOOP LAB_DEBIAN; do
    # shellcheck disable=SC2016
    printf ': "${%s:=%s}"\n' "$name" "${!name}"
  done >"$LAB_DIR/settings"
}

write_ssh_config() {
  local host
  for host in $(hosts); do
    sed "s/^/$host,$(address "$host") /; s/ h[0-9]*$//" "$HOSTS/$host"/upper/etc/ssh/ssh_host_ed25519_key.pub
  done >"$LAB_DIR/known_hosts"
  {
    for host in $(hosts); do printf 'Host %s %s\n  HostName %s\n' "$host" "$(address "$host")" "$(address "$host")"; done
    printf '%s\n' 'Host *' '  User root' "  IdentityFile $LAB_DIR/id" '  IdentitiesOnly yes' \
      "  UserKnownHostsFile $LAB_DIR/known_hosts" '  StrictHostKeyChecking yes' '  LogLevel ERROR' \
      '  ConnectTimeout 10' '  ServerAliveInterval 5' \
      '  ControlMaster auto' "  ControlPath $LAB_DIR/cm-%C" '  ControlPersist 30'
  } >"$LAB_DIR/ssh_config"
}

up() {
  local count=${1:-2} host i
  [[ $count =~ ^[1-9]$ ]] || die "up: a number of hosts from 1 to 9, not '$count'"
  mkdir -p "$HOSTS" "$LAB_CACHE"/{wheelhouse,models,packages}
  check_machine
  (
    flock -w 600 7 || die "another lab has been building the base system for 10 minutes"
    build_base 7>&-
  ) 7>>"$LAB_CACHE/base.lock"
  remember_settings
  [ -e "$LAB_DIR/id" ] || ssh-keygen -q -t ed25519 -N '' -C lab -f "$LAB_DIR/id"
  bridge_up
  proxy_up
  for ((i = 1; i <= count; i++)); do prepare "h$i"; done
  write_ssh_config
  for ((i = 1; i <= count; i++)); do start "h$i"; done
  for ((i = 1; i <= count; i++)); do
    host=h$i
    wait_for_ssh "$host"
    echo "lab: $host $(address "$host") answers on SSH after $SECONDS s"
  done
}

bridge_up() {
  # A fixed address: else the bridge takes its newest member's, and the guests' neighbour tables go stale.
  ip link show "$LAB_BRIDGE" &>/dev/null || ip link add "$LAB_BRIDGE" address 02:77:00:00:00:01 type bridge
  ip link set "$LAB_BRIDGE" alias "$ID $LAB_DIR" up
  ip addr replace "$LAB_NET.1/24" dev "$LAB_BRIDGE"
}

# The hosts this machine itself gets packages from: apt's sources, and pip's index and files.
package_hosts() {
  {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -nE 's#^[^\#].*https?://([^/ ]+).*#\1#p'
    [ -z "${LAB_MIRROR:-}" ] || sed -E 's#https?://([^/]+).*#\1#' <<<"$LAB_MIRROR"
    "$(pip_python)" -c 'from pip._internal.models.index import PyPI as p; print(p.netloc, p.file_storage_domain, sep="\n")' 2>/dev/null || true
  } | sort -u | sed 's/\./\\./g' | paste -sd'|'
}

pip_python() {
  local ours
  ours=$(dirname "$SELF")/../../.venv/bin/python
  if [ -x "$ours" ]; then echo "$ours"; else echo python3; fi
}

proxy_up() {
  ! proxy_alive || return 0
  (
    exec 9>"$LAB_DIR/proxy.lock"
    flock -n 9 || exit 0
    LAB_ALLOW=${LAB_ALLOW:-$(package_hosts)} exec setsid python3 "$(dirname "$SELF")/proxy.py" \
      "$LAB_NET.1" $PROXY_PORT "$LAB_CACHE/packages" </dev/null >>"$LAB_DIR/proxy.log" 2>&1
  ) &
  echo $! >"$LAB_DIR/proxy.pid"
}

proxy_down() {
  ! proxy_alive || kill "$(cat "$LAB_DIR/proxy.pid")" 2>/dev/null || true
}

down() {
  local host
  for host in $(hosts_and_leftovers); do crash "$host" & done
  wait
  proxy_down
  # Only a bridge of ours: this lab may never have come up because somebody else's has that name.
  if [ "$(cat "/sys/class/net/$LAB_BRIDGE/ifalias" 2>/dev/null)" = "$ID $LAB_DIR" ]; then ip link del "$LAB_BRIDGE"; fi
  [ -n "${KEEP_CACHE:-}" ] || remove_cache
  # All but the cache, where that is inside.
  [ ! -d "$LAB_DIR" ] || find "$LAB_DIR" -mindepth 1 -maxdepth 1 ! -path "$LAB_CACHE" -exec rm -rf {} +
  rmdir "$LAB_DIR" 2>/dev/null || true
}

remove_cache() {
  [ -e "$LAB_CACHE/lock" ] || [ -e "$LAB_CACHE/base.lock" ] || return 0
  if [ -e "$LAB_CACHE/lock" ] && ! flock -n "$LAB_CACHE/lock" true; then
    echo "lab: $LAB_CACHE stays: hosts of another lab use it"
    return 0
  fi
  rm -rf "${LAB_CACHE:?}"
}

status() {
  local host
  for host in $(hosts); do echo "$host $(address "$host") $(state "$host")"; done
}

# A small file system over DIR: filling the real one would fill this machine's.
full() {
  known "$1"
  in_host "$1" "mkdir -p '$2' && mount -t tmpfs -o size=${3}m,mode=1777 lab-full '$2' && (head -c ${3}M /dev/zero >'$2/.fill' 2>/dev/null || true)"
}

unfull() {
  known "$1"
  in_host "$1" "umount '$2'"
}

usage() {
  sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$SELF" >&2
  exit 2
}

case ${1:-} in
  up | down | start | stop | crash | remove | full | unfull | supervise | cut | heal | ssh | status) ;;
  *) usage ;;
esac
[ "$(id -u)" = 0 ] || die "needs root"
case $1 in
  up | down | stop | crash | remove | full | unfull | status | supervise) "$@" ;;
  start)
    start "${2:-}"
    wait_for_ssh "$2"
    ;;
  ssh)
    known "${2:-}"
    shift
    in_host "$@"
    ;;
  cut | heal)
    known "${2:-}"
    ip link set "$(veth "$2")" "$([ "$1" = cut ] && echo down || echo up)"
    ;;
esac
