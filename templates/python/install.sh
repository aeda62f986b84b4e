# install.sh STEP VENV: one step of what a serving image needs, into the virtual environment VENV.
#
#   dependencies  the kit's and the user's requirements, or the lock instead
#   packages      the user's extra packages; then everything is finished: no tests or sources, bytecode, one time
#   kit FOLDER    the kit's wheel, unpacked into FOLDER, which VENV sees before all others
#   code ROOT     bytecode for the user's code in ROOT/usr/app, and a home; a predictor may write into both
#
# and then `install.sh keep FOLDER`: the folder goes below /image.
set -eu

step=$1
venv=$2
# Where caches cannot: a file of this time is the same file in every build. 1980 is as early as a zip can tell.
epoch=@315532800
PYTHONHASHSEED=0
SOURCE_DATE_EPOCH=315532800
export PYTHONHASHSEED SOURCE_DATE_EPOCH

site() {
    "$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

# What the base has installed, apart from what installs: pip counts it as there, uv does not.
base_brings_packages() {
    "$venv/bin/python" - <<'END'
import importlib.metadata, sys
tools = {"pip", "setuptools", "wheel", "pkg_resources", "distribute", "uv", ""}
base = {(each.name or "").lower() for each in importlib.metadata.distributions() if not str(each.locate_file("")).startswith(sys.prefix)}
sys.exit(not base - tools)
END
}

install() {
    if [ -x /opt/uv/bin/uv ] && ! base_brings_packages; then
        . /index/uv.sh
        UV_CONFIG_FILE=/index/uv.toml /opt/uv/bin/uv pip install --python "$venv/bin/python" --no-cache "$@"
    elif [ -x /opt/pip/bin/python ]; then
        /opt/pip/bin/python -m pip --python "$venv/bin/python" install --no-compile "$@"
    else
        "$venv/bin/python" -m pip install --no-compile "$@"
    fi
}

# compile FOLDER MODE [ROOT]: bytecode that does not depend on its source's time, and knows its source from ROOT on.
compile() {
    find "$1" -name __pycache__ -prune -exec rm -rf {} +
    # A source for another Python (PyTorch has some) is no reason to compile all others once more, one by one: what
    # calls for that is a place where no processes can be made. -c: from Python 3.12 on, those processes would run a
    # script once more. -B: what the compiler itself imports must not leave bytecode of its own.
    "$venv/bin/python" -B -c '
import compileall, functools, py_compile, sys
folder, mode, *root = sys.argv[1:]
mode = py_compile.PycInvalidationMode[mode.replace("-", "_").upper()]
paths = {"stripdir": root[0], "prependdir": "/"} if root else {}
compiled = functools.partial(compileall.compile_dir, folder, quiet=1, invalidation_mode=mode, **paths)
try:
    compiled(workers=0)
except Exception:
    compiled(workers=1)
' "$@" >/dev/null || true
}

has_compiler() {
    command -v "${CXX:-c++}" || command -v g++ || command -v clang++
} >/dev/null

date_all() {
    find "$1" -depth -exec touch -h -d "$epoch" {} +
}

case $step in
dependencies)
    if [ -f requirements/requirements.lock ]; then
        has=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        grep -q "^# for: Python $has," requirements/requirements.lock || {
            echo "cpr-kit: requirements.lock is for another Python than the base's $has; run: cpr lock --python $has" >&2
            exit 1
        }
        install --require-hashes -r requirements/options.txt -r requirements/requirements.lock
    elif grep -q -e '--hash' requirements/requirements.txt; then
        install -r requirements/kit.txt
        install --require-hashes -r requirements/requirements.txt
    else
        install -r requirements/kit.txt -r requirements/requirements.txt
    fi
    ;;
packages)
    set -- packages/*
    if [ -e "$1" ]; then
        for package; do set -- "$@" "./$package"; shift; done
        if [ -f requirements/requirements.lock ]; then install --no-deps "$@"; else install -r requirements/kit.txt "$@"; fi
    fi
    for package in numpy scipy sklearn pandas pyarrow joblib skops xgboost lightgbm networkx statsmodels sympy mpmath; do
        if [ -d "$(site)/$package" ]; then
            find "$(site)/$package" -type d -name tests -prune -exec rm -rf {} +
        fi
    done
    # PyTorch's wheel brings the programs of its own C++ tests, 140 MB, and 9 400 headers, which serve a compiler alone.
    rm -rf "$(site)"/torch/test "$(site)"/torch/bin/test_* "$(site)"/torch/bin/*Test "$(site)"/torch/bin/protoc*
    has_compiler || rm -rf "$(site)"/torch/include
    "$venv/bin/python" template/strip.py "$(site)" uvloop csimdjson.abi3.so httptools scipy wcwidth
    # Sources in C++ beside the library that was made of them.
    rm -f "$(site)"/simdjson/simdjson.h "$(site)"/simdjson/simdjson.cpp "$venv/.lock"
    # When and where from something was installed differs from build to build.
    find "$(site)" -maxdepth 2 -name uv_cache.json -delete
    compile "$venv" unchecked-hash
    ;;
kit)
    "$venv/bin/python" -m zipfile -e kit/*.whl "$3"
    compile "$3" unchecked-hash
    ;;
code)
    mkdir -p "$3/home"
    compile "$3/usr/app" checked-hash "$3" # what is mounted over it may be newer
    chmod 1777 "$3/home" "$3/usr/app"
    date_all "$3"
    ;;
keep)
    mkdir -p "/image/$(dirname "$venv")"
    # A folder from the step before cannot be moved on overlayfs: each file in it would be written once more.
    cp -al "$venv" "/image/$venv" 2>/dev/null || { rm -rf "/image/$venv" && mv "$venv" "/image/$venv"; }
    date_all /image
    ;;
esac
