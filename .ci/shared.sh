# Functions that the scripts in this directory share.

PYTHON=${PYTHON:-python3}

say() { printf '== %s\n' "$*"; }

# Installs Debian packages, as root or with sudo.
apt_install() {
  local as_root=()
  if ((EUID)); then as_root=(sudo); fi
  if ! command -v apt-get >/dev/null || { ((EUID)) && ! command -v sudo >/dev/null; }; then
    echo "missing: $*; install these packages and run this script again" >&2
    return 1
  fi
  say "installing $*"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}
