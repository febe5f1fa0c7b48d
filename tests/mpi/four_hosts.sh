#!/bin/bash
# Four hosts on one machine: network namespaces with an address each, joined by veth pairs to a
# bridge, with host names and process numbers of their own. All of it is in namespaces that end with
# this script; the machine's own network is not touched and nothing leaves it.
#   four_hosts.sh PROGRAM MODEL      status 77: such namespaces are not permitted here
# What is checked there is in four_hosts.py.
set -eu

if [ "${1:-}" != --inside ]; then
  for tool in mpirun ip unshare python3; do
    command -v $tool >/dev/null || { echo "skipped: no $tool"; exit 77; }
  done
  spaces="--net --mount --pid --fork --kill-child --mount-proc --propagation private"
  [ "$(id -u)" = 0 ] || spaces="--user --map-root-user $spaces"
  # shellcheck disable=SC2086
  unshare $spaces true || { echo "skipped: no namespaces"; exit 77; }
  folder=$(mktemp -d)
  inside=
  trap 'rm -rf "$folder"' EXIT
  trap '[ -z "$inside" ] || kill -KILL $inside; exit 1' INT TERM HUP
  # shellcheck disable=SC2086
  unshare $spaces bash "$0" --inside "$folder" "$@" &
  inside=$!
  wait $inside
  exit
fi

folder=$2
program=$3
model=$4
mount -t tmpfs tmpfs /run && mkdir /run/netns || { echo "skipped: no mounts"; exit 77; }
ip link set lo up
ip link add hub type bridge && ip link set hub up || { echo "skipped: no bridges"; exit 77; }
for n in 1 2 3 4; do
  if ! { ip netns add host$n && ip link add port$n type veth peer name eth0 netns host$n; }; then
    echo "skipped: no network namespaces"
    exit 77
  fi
  ip link set port$n master hub up
  ip -n host$n address add 10.77.0.$n/24 dev eth0
  ip -n host$n link set lo up
  ip -n host$n link set eth0 up
done

# What ssh would be: AGENT ADDRESS COMMAND... runs the command on the host with that address.
cat >"$folder/agent" <<'AGENT'
#!/bin/sh
host=host${1##*.}
shift
exec ip netns exec "$host" unshare --uts --pid --fork --kill-child --mount-proc \
  sh -c "hostname $host; $*"
AGENT
chmod +x "$folder/agent"
export TMPDIR=$folder
python3 "$(dirname "$0")/four_hosts.py" "$program" "$model" "$folder/agent"
