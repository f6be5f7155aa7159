#!/bin/bash
#SBATCH --job-name=smoke-0123456789ab
#SBATCH --output=smoke-0123456789ab-%A_%a.out
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --array=0-2
#SBATCH --signal=B:USR1@120
#SBATCH --requeue

folder=/shared/project
bin=''
name=smoke
out=runs
nodes=1
cpus=8
gpus=1
patience=300
seeds=(0 1 2)
metrics=
options=(--workers 1 --threads 8)
sweep='name: smoke
models:
- tiny-llama
editors:
- none
- name: ft
  steps: 3
- name: rome
  moment: identity
  contexts: 2
  steps: 3
- name: ike
  demonstrations: 0
- name: mend
  network:
    blocks: 1
    rank: 4
  training:
    steps: 2
    every: 2
    models: 2
    validate: 4
    observe: 4
    records: 60
datasets:
- name: world
  split: test
  limit: 8
metrics:
  max_new_tokens: 4
unit_size: 4
'

set -euo pipefail

fail() {
  printf 'editsweep: %s\n' "$1" >&2
  exit 1
}

[ -z "$bin" ] || PATH=$bin:$PATH
cd -- "$folder" || fail "there is no folder $folder on this node: submit from one that all nodes have"
command -v editsweep >/dev/null || fail "no editsweep on PATH: name its folder, --with bin=FOLDER"

# Short, because the path of a socket has 107 characters; new, so that nobody else can be in it.
tmp=/tmp
scratch=$tmp/es-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}
steps=()
tidy() {
  for step in ${steps[@]+"${steps[@]}"}; do kill "$step" 2>/dev/null || true; done
  for step in ${steps[@]+"${steps[@]}"}; do wait "$step" 2>/dev/null || true; done
  rm -rf -- "$scratch"
}
# Slurm's warning (USR1) and its end (TERM) go to the driver, which keeps what is in flight and ends
# with 75: to be continued. Set before anything is started, because both would end this shell.
asked=
interrupted=
driver=
forward() {
  asked=yes
  interrupted=yes
  [ -z "$driver" ] || kill "-$1" "$driver" 2>/dev/null || true
}
trap 'forward USR1' USR1
trap 'forward TERM' TERM
again() { # queue the job again if it was asked to end, unless it was cancelled: then it is not running
  [ -n "$asked" ] || return 0
  if [ "$(squeue --noheader --job="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
    echo "editsweep: interrupted in time; queued again"
    tidy
    scontrol requeue "$SLURM_JOB_ID"
  fi
  exit 75
}
mkdir -m 700 -- "$scratch" || fail "cannot make $scratch"
trap tidy EXIT
printf '%s' "$sweep" >"$scratch/sweep.yaml"

run=(editsweep run "$scratch/sweep.yaml" --out "$out" ${options[@]+"${options[@]}"})
if [ "${#seeds[@]}" -gt 0 ]; then
  seed=${seeds[$SLURM_ARRAY_TASK_ID]}
  run+=(--set "seeds=[$seed]" --set "name=$name-seed-$seed")
fi

# What a node does: the token comes by the standard input, never by a command line or a variable.
on_node='
set -euo pipefail
scratch=$1
shift
[ -d "$scratch" ] || mkdir -m 700 -- "$scratch"
[ -O "$scratch" ] && [ ! -L "$scratch" ] || { echo "editsweep: $scratch is not ours" >&2; exit 1; }
trap "rm -rf -- \"$scratch\"" EXIT
umask 077
cat >"$scratch/token.$$"
mv -f -- "$scratch/token.$$" "$scratch/token"
umask 022
trap : TERM
RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$scratch/token RAY_USAGE_STATS_ENABLED=0 ray start "$@"
'
# A node's address as Slurm knows it; where its own name is a loopback address, its first other one.
address_of() {
  local host ip
  host=$(scontrol show node "$1" | grep -o 'NodeAddr=[^ ]*' | head -n 1)
  host=${host#NodeAddr=}
  ip=$(getent ahostsv4 "$host" | awk 'NR == 1 { print $1 }')
  if [[ $ip == 127.* && $host != 127.* ]]; then ip=$(hostname -I | awk '{ print $1 }'); fi
  printf '%s' "$ip"
}
start_ray() { # NODE OPTION...: Ray on one node, as a step of this job
  local node=$1
  shift
  srun --nodes=1 --ntasks=1 --nodelist="$node" --cpus-per-task="$cpus" --overlap \
    bash -c "$on_node" editsweep "$scratch" --block --disable-usage-stats --log-color=false \
    --num-cpus="$cpus" --num-gpus="$gpus" --min-worker-port=0 --max-worker-port=0 \
    ${metrics:+--metrics-export-port="$metrics"} "$@" <"$scratch/secret" &
  steps+=("$!")
}
alive() { # how many nodes the cluster has
  python -c 'import ray, sys
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error")
print(sum(node["Alive"] for node in ray.nodes()))' "$address" 2>/dev/null || echo 0
}
none_ended() {
  local step
  for step in "${steps[@]}"; do kill -0 "$step" 2>/dev/null || return 1; done
}

if [ "$nodes" -gt 1 ]; then
  mapfile -t names < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
  head=${names[0]}
  port=$((10000 + SLURM_JOB_ID % 2200 * 10))
  (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$scratch/secret")
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$scratch/secret RAY_USAGE_STATS_ENABLED=0
  ip=$(address_of "$head")
  [ -n "$ip" ] || fail "node $head has no address"
  address=$ip:$port
  start_ray "$head" --head --node-ip-address="$ip" --port="$port" --temp-dir="$scratch" \
    --include-dashboard=false --ray-client-server-port=$((port + 1)) \
    --dashboard-agent-listen-port=$((port + 2))
  deadline=$((SECONDS + patience))
  until (: <"/dev/tcp/$ip/$port") 2>/dev/null; do
    again
    none_ended || fail "Ray's head did not start on $head, see above"
    [ "$SECONDS" -lt "$deadline" ] || fail "Ray's head on $head does not answer at $address"
    sleep 1
  done
  for ((i = 1; i < ${#names[@]}; i++)); do
    start_ray "${names[i]}" --address="$address" --node-ip-address="$(address_of "${names[i]}")" \
      --dashboard-agent-listen-port=$((port + 2 + i % 8))
  done
  until [ "$(alive)" -ge "${#names[@]}" ]; do
    again
    none_ended || fail "Ray did not start on every node, see above"
    [ "$SECONDS" -lt "$deadline" ] || fail "not every node joined Ray in $patience seconds"
    sleep 1
  done
  run+=(--address "$address")
fi

again # a warning while Ray started: nothing is in flight
"${run[@]}" &
driver=$!
[ -z "$asked" ] || kill -USR1 "$driver" 2>/dev/null || true # one that came between these lines
code=0
wait "$driver" || code=$?
while [ -n "$interrupted" ]; do # a signal ends `wait`; asked again it tells the same or the end
  interrupted=
  code=0
  wait "$driver" || code=$?
done
# 138 and 143: the signal came before the driver could take it, so nothing was in flight.
case $code in 75 | 138 | 143) again ;; esac
exit "$code"
