"""The address of the desk's socket."""

import os
import socket
from pathlib import Path

import pytest

from db.desk_socket import short_address

_MOST_ADDRESS_BYTES = 107


def test_a_socket_below_a_long_path_is_bound_and_reached(tmp_path: Path):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    path = folder / "desk.sock"
    assert len(os.fsencode(path)) > _MOST_ADDRESS_BYTES
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        with short_address(path) as address:
            server.bind(address)
            server.listen()
        assert path.is_socket()
        with short_address(path) as address:
            assert len(os.fsencode(address)) <= _MOST_ADDRESS_BYTES
            client.connect(address)


def test_no_descriptor_is_left_open(tmp_path: Path):
    with short_address(tmp_path / "desk.sock") as address:
        folder = Path(address).parent
        assert folder.readlink() == tmp_path
    assert not os.path.lexists(folder) or folder.readlink() != tmp_path


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError), short_address(tmp_path / "absent" / "desk.sock"):
        pass
