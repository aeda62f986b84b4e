# Make the virtual environment $1 from the base image's own Python, and have uv ready, or say why that cannot be.
# It will see what is in the folder $2, the kit, before all else.
set -eu

fail() {
    echo "cpr-kit: $1" >&2
    exit 1
}

venv=$1
kit=$2
# Of a base that was made from this very template, the kit goes: this one has its own.
rm -rf "$kit"
# The first that is new enough: the one on the PATH, or where images keep theirs.
python= old=
for candidate in python3 python /opt/conda/bin/python /opt/*/bin/python3 /usr/local/bin/python3 /usr/bin/python3; do
    found=$(command -v "$candidate") || continue
    if "$found" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        python=$found
        break
    fi
    old=${old:-$found}
done
if [ -z "$python" ]; then
    [ -n "$old" ] || fail "the base image has no python on its PATH; choose one that has"
    fail "the base image has $("$old" --version 2>&1); Python 3.10 or newer is needed"
fi
[ -z "$old" ] ||
    echo "cpr-kit: $old is $("$old" --version 2>&1), so $python is used; what the first has installed is not seen"

# A base that was made from this very template has it already. What a base has installed stays visible.
[ -x "$venv/bin/python" ] || "$python" -m venv --without-pip --system-site-packages "$venv" ||
    fail "the base image's python has no venv module; install python3-venv there"

# A virtual environment sees the Python below it. When the base's python is itself a virtual environment,
# its packages are one step to the side: name them.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$python" - "$venv" <<'END' > /tmp/base.pth
import site, sys
if sys.prefix not in (sys.base_prefix, sys.argv[1]):
    for folder in site.getsitepackages([sys.prefix]):
        print(f"import site; site.addsitedir({folder!r})")
END
if [ -s /tmp/base.pth ]; then
    cp /tmp/base.pth "$site/_base_image.pth"
fi
# Its name sorts before the one above: a base may bring a kit of its own.
echo "import site; site.addsitedir('$kit')" > "$site/__cpr_kit.pth"

# The base's own pip brings uv. Where there is none, Python brings one.
if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    pip="$venv/bin/python"
else
    "$python" -m venv /opt/pip ||
        fail "the base image's python has neither pip nor ensurepip; install python3-pip or python3-venv there"
    pip=/opt/pip/bin/python
    # Older ones have no --python.
    "$pip" -m pip install --upgrade 'pip>=22.3' || fail "the package index has no pip 22.3 or newer; install python3-pip there"
fi
"$pip" -m pip install --target /opt/uv 'uv>=0.8,<1' ||
    echo "cpr-kit: the package index has no uv; pip installs instead, which takes longer"
