"""Everything is staged except what is ignored here, and what is left out is named."""

import os
import pathlib
import subprocess
import threading

import pytest

from tool.deploy import staging
from tool.deploy.app import Function

ODD = ('say "hi".txt', "a\ttab", "ümläut ñ.txt", "a 'quote'", "two  blanks", "-dash", "$HOME", "back\\slash", "новый")
FUNCTION = Function("x", "x", (), (), (), (), ())


@pytest.fixture
def app(tmp_path, monkeypatch):
    """A folder with one function."""
    for name in ("GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    folder = tmp_path / "outer" / "the clone"
    (folder / "functions/x").mkdir(parents=True)
    (folder / "shared").mkdir()
    (folder / ".gitignore").write_text(".env\n*.log\n")
    for name in ("functions/x/main.py", "functions/x/.env", "functions/x/big.log", "shared/all.py"):
        (folder / name).write_text("x")
    for name in ODD:
        (folder / "functions/x" / name).write_text(name)
    monkeypatch.chdir(folder)
    return folder


def git(folder, *words):
    settings = ("-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *settings, *words], cwd=folder, check=True, capture_output=True)


def a_repository(app):
    git(app, "init")


def ignored_by_one_around_it(app):
    git(app.parent, "init")
    (app.parent / ".gitignore").write_text("*clone/\n")


def untracked_in_one_around_it(app):
    git(app.parent, "init")


def tracked_in_one_around_it(app):
    git(app.parent, "init")
    git(app.parent, "add", "-A")


def a_submodule(app):
    git(app, "init")
    git(app, "add", "-A")
    git(app, "commit", "-m", "x")
    app.rename(app.parent / "origin")
    outer = app.parent / "another"
    outer.mkdir()
    git(outer, "init")
    git(outer, "submodule", "add", str(app.parent / "origin"), "clone")
    for name in (".env", "big.log"):
        (outer / "clone/functions/x" / name).write_text("x")
    os.chdir(outer / "clone")


def of_a_function_that_is_a_repository(app):
    git(app, "init")
    git(app / "functions/x", "init")
    (app / "functions/x/.gitignore").write_text(".env\n*.log\n")
    (app / "functions/x/big.log").unlink()  # the ignore rules of an inner repository are not read


@pytest.mark.parametrize(
    "make",
    [
        a_repository, ignored_by_one_around_it, untracked_in_one_around_it, tracked_in_one_around_it,
        a_submodule, of_a_function_that_is_a_repository,
    ],
)  # fmt: skip
def test_in_whatever_repository_the_clone_lies(app, tmp_path, make):
    make(app)
    assert staging.stage(FUNCTION, tmp_path / "staged") == []
    found = {str(p.relative_to(tmp_path / "staged")) for p in (tmp_path / "staged").rglob("*") if p.is_file()}
    assert found == {"main.py", "shared/all.py", "requirements.txt", ".gcloudignore", *ODD}
    for name in ODD:
        assert (tmp_path / "staged" / name).read_text() == name


def test_without_git_all_but_dotfiles_is_staged(app, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    staging.stage(FUNCTION, tmp_path / "staged")
    found = {path.name for path in (tmp_path / "staged").iterdir()}
    assert found == {"main.py", "shared", "requirements.txt", ".gcloudignore", "big.log", *ODD}


def test_in_no_repository_what_is_ignored_and_dotfiles_are_not_staged(app, tmp_path):
    (app / "functions/x/.netrc").write_text("x")
    staging.stage(FUNCTION, tmp_path / "staged")
    found = {path.name for path in (tmp_path / "staged").iterdir()}
    assert found == {"main.py", "shared", "requirements.txt", ".gcloudignore", *ODD}


@pytest.mark.parametrize("in_git", [True, False])
def test_a_virtual_environment_is_left_out_and_named(app, tmp_path, in_git):
    if in_git:
        a_repository(app)
    for venv in ("functions/x/venv", "functions/x/my env", "functions/x/.venv"):
        (app / venv / "lib").mkdir(parents=True)
        (app / venv / "pyvenv.cfg").touch()
        (app / venv / "lib" / "package.py").write_text("x")
    left = staging.stage(FUNCTION, tmp_path / "staged")
    assert sorted(str(one.path) for one in left) == ["functions/x/my env", "functions/x/venv"]
    assert "is a virtual environment, and is left out" in left[0].why
    assert not list((tmp_path / "staged").rglob("package.py"))


def test_what_is_no_file_is_left_out_and_named(app, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # without git, because git does not list pipes
    pipe = app / "functions/x/pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[b""])  # without a writer, a reader would wait forever
    writer.start()
    (app / "functions/x/link").symlink_to("nowhere")
    (app / "shared/link").symlink_to("link")
    try:
        left = staging.stage(FUNCTION, tmp_path / "staged")
    finally:
        os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
        writer.join(20)
    assert {(str(one.path), one.why) for one in left} == {
        ("functions/x/pipe", staging.NO_FILE), ("functions/x/link", staging.NOWHERE), ("shared/link", staging.NOWHERE),
    }  # fmt: skip


def test_what_editors_leave_is_not_staged(app, tmp_path):
    a_repository(app)
    names = (
        "#main.py#", "4913", "main.py___jb_tmp___", ".main.py.swp", ".main.py.swo", ".main.py.kate-swp", "main.py~",
        ".goutputstream-A1B2C3", ".~lock.data.csv#", ".DS_Store", ".nfs000000000123",
    )  # fmt: skip
    for name in names:
        (app / "functions/x" / name).write_bytes(b"\0")
    (app / "functions/x/.#main.py").symlink_to("you@host.1:2")
    staging.stage(FUNCTION, tmp_path / "staged")
    assert not {path.name for path in (tmp_path / "staged").iterdir()} & {*names, ".#main.py"}


@pytest.mark.parametrize(
    "root, own",
    [
        (b"a==1\nb==2\n", b"c==3\n"),
        (b"\xef\xbb\xbfa==1\r\nb==2", b"\xef\xbb\xbfc==3"),
        ("a==1\r\nb==2".encode("utf-16"), "c==3\r\n".encode("utf-16")),
        ("\ufeffa==1\r\nb==2".encode("utf-16-be"), "\ufeffc==3".encode("utf-16-le")),
        (b"a==1\rb==2\r", b"c==3\r"),
    ],
)
def test_requirements_are_read_however_they_were_written(app, tmp_path, root, own):
    (app / "requirements.txt").write_bytes(root)
    (app / "functions/x/requirements.txt").write_bytes(own)
    staging.stage(FUNCTION, tmp_path / "staged")
    assert (tmp_path / "staged/requirements.txt").read_bytes() == b"a==1\nb==2\nc==3\n"


def test_a_comment_in_another_encoding_stays_as_it_is(app, tmp_path):
    pathlib.Path("requirements.txt").write_bytes(b"a==1  # caf\xe9\n")
    staging.stage(FUNCTION, tmp_path / "staged")
    assert (tmp_path / "staged/requirements.txt").read_bytes() == b"a==1  # caf\xe9\n"


@pytest.mark.parametrize("words, threads", [([], "80"), (["--concurrency=default"], "80"), (["--concurrency=7"], "7")])
def test_threads_are_a_number(words, threads):
    from tool.deploy.app import App

    class Anywhere:
        project, builder = "p", "builder"

        def email(self, name):
            return f"{name}-sa@p"

    function = FUNCTION._replace(flags=tuple(words))
    [said] = [s for s in staging.settings(App("", (function,)), function, Anywhere()) if "THREADS" in s]
    assert said.endswith(f"THREADS={threads}")
