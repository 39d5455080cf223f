#!/usr/bin/env bash
# Runs `pdesurrogate ARGUMENTS`, as one process or as one of many.
#
#   srun ... IMAGE train ...      SLURM starts one process a task: its rank variables become PyTorch's
#   NPROC=4 ... IMAGE train ...   torchrun starts 4 processes on this machine; with NNODES, NODE_RANK and
#                                 MASTER_ADDR it joins other machines
#   ... IMAGE train ...           one process
#   ... IMAGE -- COMMAND ...      any other command, such as bash or python
set -euo pipefail

if [[ ${1:-} == -- ]]; then
  shift
  exec "$@"
fi

# A batch script itself has SLURM_PROCID too; only a step that srun started has several tasks.
if [[ -n ${SLURM_PROCID:-} && ${SLURM_STEP_NUM_TASKS:-1} -gt 1 ]]; then
  export RANK=$SLURM_PROCID
  export WORLD_SIZE=$SLURM_STEP_NUM_TASKS
  export LOCAL_RANK=${SLURM_LOCALID:-0}
  if [[ -z ${MASTER_ADDR:-} ]]; then
    # The first host of the job: "node[03-05,9]" begins with node03, "a1,b2" with a1.
    nodes=${SLURM_STEP_NODELIST:-${SLURM_JOB_NODELIST:-${SLURM_NODELIST:-localhost}}}
    first=${nodes%%,*}
    if [[ $first == *\[* ]]; then
      range=${first#*\[}
      range=${range%%-*}
      first=${first%%\[*}${range%%\]*}
    fi
    export MASTER_ADDR=$first
  fi
  # One port for all tasks of a job, and another for another job on the same machine.
  export MASTER_PORT=${MASTER_PORT:-$((20000 + ${SLURM_JOB_ID:-0} % 20000))}
  exec pdesurrogate "$@"
fi

if [[ ${1:-} == train && ${NPROC:-1} != 1 ]]; then
  options=(--nproc-per-node "$NPROC" --no-python)
  if [[ ${NNODES:-1} != 1 ]]; then
    if [[ -z ${MASTER_ADDR:-} ]]; then
      echo "error: NNODES=$NNODES needs MASTER_ADDR, the name of the first machine." >&2
      exit 2
    fi
    options+=(--nnodes "$NNODES" --node-rank "${NODE_RANK:-0}"
      --master-addr "$MASTER_ADDR" --master-port "${MASTER_PORT:-29500}")
  else
    options+=(--standalone)
  fi
  exec torchrun "${options[@]}" pdesurrogate "$@"
fi

exec pdesurrogate "$@"
