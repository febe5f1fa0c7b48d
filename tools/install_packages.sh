#!/bin/sh
# Installs what Llama3 TG is built from, on Debian 12 and its relatives. Quiet, and does nothing when
# everything is there. Works as root and with sudo.
#
#   tools/install_packages.sh [build] [mpi] [test] [lint]     default: build
# mpi: what several ranks need (the program builds without).
set -eu

build="g++ cmake ninja-build pkg-config ca-certificates python3 python3-pip
  libfmt-dev libspdlog-dev libcli11-dev nlohmann-json3-dev libexpected-dev libpcre2-dev
  libcurl4-openssl-dev zlib1g-dev libboost1.81-dev libssl-dev libxxhash-dev prometheus-cpp-dev"
mpi="libopenmpi-dev openmpi-bin"
test="$mpi iproute2 procps libgtest-dev libgmock-dev librapidcheck-dev libbenchmark-dev util-linux
  systemd"
lint="clang-19 clang-tidy-19 clang-format-19 libclang-rt-19-dev"

wanted=
for group in "${@:-build}"; do
  case "$group" in
    build) wanted="$wanted $build" ;;
    mpi) wanted="$wanted $mpi" ;;
    test) wanted="$wanted $test" ;;
    lint) wanted="$wanted $lint" ;;
    *)
      echo "usage: tools/install_packages.sh [build] [mpi] [test] [lint]" >&2
      exit 2
      ;;
  esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "This system has no apt-get; install these packages or their like yourself:" $wanted >&2
  echo "(A system that already has them builds with: make SKIP_PACKAGES=1)" >&2
  exit 1
fi

missing=
for package in $wanted; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || {
    echo "These packages are missing and this user is not root, nor is sudo there:$missing" >&2
    exit 1
  }
  as_root="sudo"
fi

echo "Installing packages:$missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A failing update (a mirror that is down) is no reason to stop: the lists may be good enough.
$as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >"$log" 2>&1 || true
if ! $as_root env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends $missing >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "tools/install_packages.sh: apt-get could not install:$missing" >&2
  exit 1
fi
