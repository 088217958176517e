"""Where downloaded files may land, and what is there already."""

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from cli.client import Client
from cli.errors import CommandError
from cli.main import main
from cli.pull import fetch, here, inside
from cli.verify import MANIFEST

ID = f"adapter-{'0' * 26}"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def adapters(reference: str, files: dict[str, bytes]) -> Callable[[httpx.Request], httpx.Response]:
    """A service with one adapter."""
    listed = [{"path": path, "sha256": sha256(told), "size_bytes": len(told)} for path, told in files.items()]
    payload = base64.b64encode(json.dumps({"reference": reference}).encode()).decode()
    name = reference.rpartition("/")[0]
    row: dict[str, Any] = {"id": ID, "reference": reference, "name": name, "files": listed}

    def answer(request: httpx.Request) -> httpx.Response:
        _, _, path = request.url.path.partition("/files/")
        if not path:
            return httpx.Response(200, json=row | {"signed": {"payload": payload}})
        begin = int(request.headers.get("range", "bytes=0-")[6:-1])
        return httpx.Response(206 if begin else 200, content=files[path][begin:])

    return answer


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have so many bytes be free on every disk."""
    return lambda free_bytes: monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=free_bytes))


def test_a_file_in_a_subfolder_is_fine(tmp_path: Path) -> None:
    assert inside(tmp_path, "state/rng.json") == tmp_path.resolve() / "state" / "rng.json"


@pytest.mark.parametrize("name", ["../key", "/etc/passwd", "a/../../key", "", ".", "a/.."])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandError, match="leads out of"):
        inside(tmp_path, name)


def test_a_folder_gets_the_name_that_the_service_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert here("bot") == Path("bot")


def test_a_folder_may_be_a_link_to_one_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve) -> None:
    for name in ("here", "large disk"):
        (tmp_path / name).mkdir()
    (tmp_path / "here" / "bot").symlink_to(tmp_path / "large disk")
    monkeypatch.chdir(tmp_path / "here")
    serve(adapters("bot/1", {"a.json": b"{}"}))
    assert main(["adapters", "pull", "bot/1"]) == 0
    assert (tmp_path / "large disk" / "a.json").read_bytes() == b"{}"


@pytest.mark.parametrize("name", ["../bot", "/tmp/bot", ".", "..", "", "a/..", "a/b"])
def test_an_adapter_whose_name_is_none_of_a_folder_here_is_not_pulled(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], serve
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    serve(adapters(f"{name}/1", {"a.json": b"{}"}))
    assert main(["adapters", "pull", "bot"]) == 1
    assert "cannot be used as a folder here" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]


def test_another_version_is_not_pulled_beside_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], serve
) -> None:
    serve(adapters("bot/1", {"a.json": b"{}", "old.json": b"{}"}))
    assert main(["adapters", "pull", "bot/1", "-o", str(tmp_path)]) == 0
    there = {path: path.read_bytes() for path in tmp_path.iterdir()}
    serve(adapters("bot/2", {"a.json": b"[]"}))
    assert main(["adapters", "pull", "bot/2", "-o", str(tmp_path)]) == 65
    told = capsys.readouterr().err
    assert f"{tmp_path} holds bot/1, not bot/2." in told
    assert "-o" in told
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == there


def test_a_folder_whose_manifest_cannot_be_read_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], serve
) -> None:
    (tmp_path / MANIFEST).write_text("{")
    serve(adapters("bot/2", {"a.json": b"[]"}))
    assert main(["adapters", "pull", "bot/2", "-o", str(tmp_path)]) == 65
    assert "is not a signed manifest" in capsys.readouterr().err


def test_a_pull_that_is_cut_has_told_whose_files_they_are_and_goes_on(tmp_path: Path, serve) -> None:
    files = {"a.json": b"{}", "b.bin": b"weights"}
    whole = adapters("bot/1", files)
    serve(lambda request: httpx.Response(500) if request.url.path.endswith("b.bin") else whole(request))
    assert main(["adapters", "pull", "bot/1", "-o", str(tmp_path)]) == 1
    serve(adapters("bot/2", files))
    assert main(["adapters", "pull", "bot/2", "-o", str(tmp_path)]) == 65
    serve(whole)
    assert main(["adapters", "pull", "bot/1", "-o", str(tmp_path)]) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != MANIFEST} == files


def test_nothing_is_fetched_that_the_disk_has_no_room_for(
    tmp_path: Path, free: Callable[[int], None], capsys: pytest.CaptureFixture[str], serve
) -> None:
    serve(adapters("bot/1", {"a.bin": b"12345", "b.bin": b"12345"}))
    free(9)
    assert main(["adapters", "pull", "bot/1", "-o", str(tmp_path)]) == 1
    assert "needs 10 B; 9 B are free there" in capsys.readouterr().err
    assert not (tmp_path / "a.bin").exists()


def test_a_cut_pull_needs_room_for_the_rest_alone(tmp_path: Path, free: Callable[[int], None], serve) -> None:
    serve(adapters("bot/1", {"a.bin": b"12345", "b.bin": b"12345"}))
    (tmp_path / "a.bin").write_bytes(b"12345")
    (tmp_path / "b.bin.part").write_bytes(b"123")
    free(2)
    assert main(["adapters", "pull", "bot/1", "-o", str(tmp_path)]) == 0
    assert (tmp_path / "b.bin").read_bytes() == b"12345"


@pytest.mark.parametrize(("free_bytes", "code"), [(1, 1), (2, 0)])
def test_a_cut_download_needs_room_for_the_rest_alone(
    free_bytes: int, code: int, tmp_path: Path, free: Callable[[int], None], serve
) -> None:
    row = {"id": f"file-{'0' * 26}", "filename": "a", "bytes": 5, "sha256": sha256(b"12345"), "purpose": "pretrain"}

    def answer(request: httpx.Request) -> httpx.Response:
        is_content = request.url.path.endswith("content")
        return httpx.Response(206, content=b"45") if is_content else httpx.Response(200, json=row)

    serve(answer)
    (tmp_path / "a.part").write_bytes(b"123")
    free(free_bytes)
    assert main(["files", "download", row["id"], "-o", str(tmp_path / "a")]) == code


def test_a_disk_that_is_full_is_told_with_the_file(tmp_path: Path, serve) -> None:
    (tmp_path / "a.part").symlink_to("/dev/full")
    serve(lambda request: httpx.Response(200, content=b"12345"))
    with pytest.raises(CommandError, match=r"a\.part cannot be written \(No space left on device\)"):
        fetch(Client(), "files/a/content", tmp_path / "a", 5, sha256(b"12345"))


def test_a_folder_that_cannot_be_made_is_named(capsys: pytest.CaptureFixture[str], serve) -> None:
    serve(adapters("bot/1", {"a.json": b"{}"}))
    assert main(["adapters", "pull", "bot/1", "-o", "/proc/bot"]) == 1
    assert capsys.readouterr().err == "trainyard: /proc/bot: No such file or directory\n"
