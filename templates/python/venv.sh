# Make the virtual environment $1 from the base image's own Python, or say why that cannot be.
# What the base has installed stays visible (a CUDA torch, say), and is not installed again.
set -eu

fail() {
    echo "cpr-kit: $1" >&2
    exit 1
}

venv=$1
python=$(command -v python3 || command -v python) || fail "the base image has no python on its PATH; choose one that has"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "the base image has $("$python" --version 2>&1); Python 3.10 or newer is needed"

# A base that was made from this very template has it already.
[ -x "$venv/bin/python" ] || "$python" -m venv --without-pip --system-site-packages "$venv" ||
    fail "the base image's python has no venv module; install python3-venv there"

# A virtual environment sees the Python below it. When the base's python is itself a virtual environment,
# its packages are one step to the side: name them.
"$python" - "$venv" <<'END' > /tmp/base.pth
import site, sys
if sys.prefix not in (sys.base_prefix, sys.argv[1]):
    for folder in site.getsitepackages([sys.prefix]):
        print(f"import site; site.addsitedir({folder!r})")
END
if [ -s /tmp/base.pth ]; then
    cp /tmp/base.pth "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/_base_image.pth"
fi

# The base's own pip installs into it. Where there is none, Python brings one.
"$venv/bin/python" -m pip --version || "$venv/bin/python" -m ensurepip ||
    fail "the base image's python has neither pip nor ensurepip; install python3-pip or python3-venv there"
