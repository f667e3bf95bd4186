#!/usr/bin/env bash
# An app by the lifecycle as a person would script it with the docker CLI, under the same rights and limits as the worker's.
#   phases.sh five|creator GIT_URL IMAGE CACHE_VOLUME
# Wants DOCKER (the client and its flags), BUILDER, LIFECYCLE, RUN_IMAGE, LOGIN (a config.json for the lifecycle).
set -euo pipefail
mode=$1 url=$2 image=$3 cache=$4
id=by-hand-$$
dir=$(mktemp -d)
docker() { $DOCKER "$@"; }
clean() { docker volume rm "$id-workspace" "$id-layers" >/dev/null 2>&1 || true; rm -rf "$dir"; }
trap clean EXIT
user=(--owner=1000 --group=1000 --numeric-owner)

git clone -q --depth 1 "$url" "$dir/workspace"
mkdir -p "$dir"/{layers,cache,in/platform/env,in/docker,out}
cp "$LOGIN" "$dir/in/docker/config.json"
printf 3000 >"$dir/in/platform/env/PORT"
for volume in "$cache" "$id-workspace" "$id-layers"; do docker volume create "$volume" >/dev/null; done
mount() { echo "--mount=type=volume,src=$1,dst=$2,volume-nocopy${3:-}"; }
workspace=$(mount "$id-workspace" /workspace) layers=$(mount "$id-layers" /layers) kept=$(mount "$cache" /cache)
read_only=$(mount "$id-workspace" /workspace ,readonly)

# A container that is never started: archives put into it land in its volumes.
fill() { # mounts… -- directories…
    local mounts=()
    while [[ $1 != -- ]]; do mounts+=("$1"); shift; done
    shift
    docker create --name "$id-fill" --network none "${mounts[@]}" "$LIFECYCLE" never-started >/dev/null
    tar -C "$dir" "${user[@]}" -cf - "$@" | docker cp - "$id-fill:/"
    docker rm "$id-fill" >/dev/null
}
fill "$layers" "$kept" -- layers cache
fill "$workspace" -- workspace

run() { # phase, image, files that come back, flags of docker create… -- command…
    local phase=$1 from=$2 back=$3 flags=()
    shift 3
    while [[ $1 != -- ]]; do flags+=("$1"); shift; done
    shift
    docker create --name "$id-$phase" --user 1000:1000 --cap-drop ALL --security-opt no-new-privileges --read-only --memory 2g --memory-swap 2g \
        --cpus 2 --pids-limit 512 --ulimit fsize=4294967296 --log-driver none -v /ctl -v /tmp -e CNB_PLATFORM_API=0.12 -e CNB_NO_COLOR=true \
        -e CNB_USER_ID=1000 -e CNB_GROUP_ID=1000 -e DOCKER_CONFIG=/ctl/in/docker "${flags[@]}" --entrypoint "$1" "$from" "${@:2}" >/dev/null
    tar -C "$dir" "${user[@]}" -cf - in out | docker cp - "$id-$phase:/ctl"
    docker start -a "$id-$phase"
    for file in $back; do docker cp "$id-$phase:/ctl/out/$file" "$dir/in/$file" >/dev/null; done
    docker rm -v "$id-$phase" >/dev/null
}
bin=/cnb/lifecycle app=(-app /workspace -platform /ctl/in/platform -layers /layers)
if [[ $mode = creator ]]; then
    run creator "$BUILDER" report.toml --network host -v /home/cnb "$workspace" "$layers" "$kept" -- $bin/creator "${app[@]}" -cache-dir /cache \
        -run-image "$RUN_IMAGE" -report /ctl/out/report.toml "$image"
    exit
fi
files=(-analyzed /ctl/in/analyzed.toml -group /ctl/in/group.toml)
run analyze "$LIFECYCLE" analyzed.toml --network host "$layers" -- $bin/analyzer -layers /layers -analyzed /ctl/out/analyzed.toml -run-image "$RUN_IMAGE" "$image"
run detect "$BUILDER" "group.toml plan.toml" --network "$NETWORK" -v /home/cnb "$read_only" -- $bin/detector "${app[@]}" -order /cnb/order.toml \
    -analyzed /ctl/in/analyzed.toml -group /ctl/out/group.toml -plan /ctl/out/plan.toml
cp "$dir/in/analyzed.toml" "$dir/out/"
run restore "$LIFECYCLE" "" --network none "$layers" "$kept" -- $bin/restorer -layers /layers -cache-dir /cache -group /ctl/in/group.toml -analyzed /ctl/out/analyzed.toml
run build "$BUILDER" "" --network "$NETWORK" -v /home/cnb "$workspace" "$layers" -- $bin/builder "${app[@]}" "${files[@]}" -plan /ctl/in/plan.toml
run export "$LIFECYCLE" report.toml --network host "$read_only" "$layers" "$kept" -- $bin/exporter -app /workspace -layers /layers -cache-dir /cache \
    "${files[@]}" -project-metadata /ctl/in/project-metadata.toml -extended /ctl/in/none -report /ctl/out/report.toml "$image"
