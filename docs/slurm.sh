#!/bin/bash
# A scheduler, a worker for each task of the job, and a run that they compute:
#     sbatch slurm.sh pipeline data.image=... hydra.run.dir=...
#SBATCH --ntasks=16
#SBATCH --cpus-per-task=4
#SBATCH --mem-per-cpu=2G
#SBATCH --time=04:00:00
set -euo pipefail

here=$(mktemp -d "$PWD/dask.XXXXXX")   # on a disk that all nodes see
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$here"' EXIT
export QHRTEM_CACHE="${QHRTEM_CACHE:-$PWD/.compiled}"   # what one worker compiled, all have
export DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=10

dask scheduler --scheduler-file "$here/scheduler.json" --no-dashboard --port 0 &
scheduler=$!
until [ -s "$here/scheduler.json" ]; do
    kill -0 $scheduler   # ends the job where it could not start
    sleep 1
done
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" dask worker --scheduler-file "$here/scheduler.json" --no-dashboard \
    --nthreads 1 --memory-limit 0 --local-directory "$here" &
address=$(python -c "import json, sys; print(json.load(open(sys.argv[1]))['address'])" \
    "$here/scheduler.json")
qhrtem "$@" engine=dask engine.address="$address"
