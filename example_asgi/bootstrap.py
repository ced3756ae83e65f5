"""Make the project's own environment, with nothing but a Python and its standard library.

``python3 example_asgi`` and ``python3 tests`` come through here. What may live here: creating
``.venv`` at the root of the repository, installing into it, and going on with its Python. What
may not: an import from outside the standard library, and syntax newer than Python 3.7, because
an older Python has to get far enough to be told that it is too old.

* An existing ``.venv`` is adopted and completed; it is laid anew only if its Python does not run
  or is too old. The variable ``HOOKFLOW_VENV`` names another folder.
* ``uv`` installs if there is one, else pip; pip is upgraded only if it is older than dependency
  groups (25.1).
* A stamp (a hash of ``pyproject.toml``, the Python's version and where the tree lies) makes the
  second start cost nothing. Deleting ``.venv`` is always safe.
* Two starts at once take turns: a file lock in ``.venv``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / os.environ.get("HOOKFLOW_VENV", ".venv")
OLDEST = (3, 10)
PIP_WITH_GROUPS = (25, 1)
WINDOWS = os.name == "nt"
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")
LOCK = VENV / ".hookflow-lock"
STAMP = VENV / ".hookflow-installed.json"

NO_PIP = """\
This Python cannot put pip into a virtual environment, and there is no uv either.
Install one of them and start again:
    Debian, Ubuntu:  apt install python3-venv
    Fedora:          dnf install python3-pip
    anywhere:        a uv on the PATH
"""


def say(text):
    # stderr: what the command itself prints stays clean.
    print("hookflow: " + text, file=sys.stderr, flush=True)


def enter(extras=(), groups=()):
    """Come back under the environment's Python with these extras and groups installed.

    Returns only when this process already is that Python; otherwise the same command line is
    started again under it (the process is replaced; on Windows a child runs and its exit code
    is passed on).
    """
    python = ensure(extras, groups)
    if Path(sys.prefix).resolve() != VENV.resolve():
        run([str(python), *sys.orig_argv[1:]])


def run(command):
    """Go on as ``command``: never returns, and its exit code is ours."""
    sys.stdout.flush()
    sys.stderr.flush()
    if WINDOWS:
        # os.execv on Windows lets go of the terminal before the new program has ended.
        sys.exit(subprocess.call(command))
    os.execv(command[0], command)


def ensure(extras=(), groups=()):
    """The path of a Python that has the project and these extras and groups."""
    if sys.version_info < OLDEST:
        have = "%d.%d" % sys.version_info[:2]  # noqa: UP031 - this line runs on old Pythons
        sys.exit("hookflow: needs Python 3.10 or newer, and this one is " + have)
    needs = sorted(["extra:" + e for e in extras] + ["group:" + g for g in groups])
    if not missing(needs):
        return PYTHON
    VENV.mkdir(exist_ok=True)
    with lock():
        wanted = missing(needs)  # another start may have done the work meanwhile
        if wanted:
            create()
            install(wanted)
    return PYTHON


def missing(needs):
    """Which of ``needs`` are not installed yet; all of them if anything they rest on changed."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return needs
    if stamp.get("of") != fingerprint() or not PYTHON.exists():
        return needs
    return [need for need in needs if need not in stamp["has"]]


def fingerprint():
    parts = [(ROOT / "pyproject.toml").read_bytes(), str(ROOT).encode(), repr(version()).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def version():
    """What ``pyvenv.cfg`` says of the environment's Python, as a tuple; () if it says nothing."""
    try:
        text = (VENV / "pyvenv.cfg").read_text()
    except OSError:
        return ()
    found = re.search(r"^version(?:_info)?\s*=\s*(\d+)\.(\d+)(?:\.(\d+))?", text, re.MULTILINE)
    return tuple(int(part) for part in found.groups("0")) if found else ()


@contextlib.contextmanager
def lock():
    """One start at a time, over all processes; ended by the system if the holder dies."""
    with LOCK.open("a+") as file:
        waiting = False
        while not grab(file):
            if not waiting:
                say("another start is preparing .venv, waiting for it ...")
            waiting = True
            time.sleep(0.2)
        yield


def grab(file):
    try:
        if WINDOWS:
            import msvcrt  # exists only there

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # does not exist on Windows

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def create():
    """A ``.venv`` whose Python runs; without pip, which is added only if it is needed."""
    if version() >= OLDEST and runs([str(PYTHON), "-c", "pass"]):
        if sys.version_info[:2] != version()[:2]:
            say("using {} with its Python {}.{}".format(VENV.name, *version()))
        return
    if (VENV / "pyvenv.cfg").exists():
        say(VENV.name + " is not usable any more, laying it anew")
        clear()
    say("creating {} (Python {}.{}.{})".format(VENV.name, *sys.version_info))
    command = [sys.executable, "-m", "venv", "--without-pip", str(VENV)]
    if not runs(command):
        say("'{}' failed".format(" ".join(command)))
        sys.exit(NO_PIP)


def clear():
    for entry in VENV.iterdir():
        if entry == LOCK:
            continue  # held, right now
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def install(needs):
    started = time.monotonic()
    extras = [need[6:] for need in needs if need.startswith("extra:")]
    groups = [need[6:] for need in needs if need.startswith("group:")]
    target = ".[{}]".format(",".join(extras)) if extras else "."
    what = ["-e", target]
    for group in groups:
        what += ["--group", group]
    say("installing {} (up to a minute the first time) ...".format(", ".join(needs)))
    tool = with_uv(what) or with_pip(what)
    has = set(needs)
    with contextlib.suppress(OSError, ValueError):
        old = json.loads(STAMP.read_text())
        if old.get("of") == fingerprint():
            has |= set(old["has"])
    draft = STAMP.with_suffix(".tmp")
    draft.write_text(json.dumps({"of": fingerprint(), "has": sorted(has)}))
    draft.replace(STAMP)
    say(f"ready after {time.monotonic() - started:.1f} s (by {tool})")


def with_uv(what):
    uv = shutil.which("uv") or shutil.which("uv", path=str(PYTHON.parent))
    if not uv:
        return None
    command = [uv, "pip", "install", "--quiet", "--python", str(PYTHON), *what]
    if subprocess.call(command, cwd=str(ROOT)) == 0:
        return "uv"
    say("uv could not install it, trying pip")
    return None


def with_pip(what):
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check"]
    if not runs([*pip, "--version"]) and not runs([str(PYTHON), "-m", "ensurepip"]):
        sys.exit(NO_PIP)
    shown = subprocess.check_output([*pip, "--version"], text=True).split()[1]
    if tuple(int(part) for part in re.findall(r"\d+", shown)[:2]) < PIP_WITH_GROUPS:
        say("upgrading pip " + shown)
        checked([*pip, "install", "--quiet", "--upgrade", "pip>=25.1"])
    checked([*pip, "install", "--quiet", *what])
    return "pip"


def runs(command):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        return subprocess.call(command, **quiet) == 0
    except OSError:
        return False


def checked(command):
    code = subprocess.call(command, cwd=str(ROOT))
    if code:
        say("this failed (see above): " + " ".join(command))
        sys.exit(code)


def main():
    parser = argparse.ArgumentParser(description="Prepare .venv and print the path of its Python.")
    parser.add_argument("--extra", action="append", default=[], metavar="NAME")
    parser.add_argument("--group", action="append", default=[], metavar="NAME")
    options = parser.parse_args()
    print(ensure(options.extra, options.group))


if __name__ == "__main__":
    main()
