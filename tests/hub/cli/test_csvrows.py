"""hub.cli.csvrows: messages as rows; the whole command is in test_export.py."""

from hub.cli.csvrows import CsvRows
from hub.message import Home, Message, Peer


def test_rows() -> None:
    """Unit and host are there, keys that are no texts too, and each row has as many cells as the header."""
    peer = Peer(1, 2, 3, "x,y", cgroup="/system.slice/nginx.service")
    message = Message("t", 0, {"m": "ä", b"k": 1}, 7, 0, peer, Home("far", b"", 1, 1))
    rows = CsvRows()
    shown = rows.show([message])
    time = "1970-01-01T00:00:00.000000000Z"
    front = f'7,{time},{time},t,1,2,3,"x,y",nginx.service,,far,,,'
    assert (shown.lines, shown.data.decode().startswith(front)) == (1, True)
    assert rows.header == b"sequence,time,received,tag,pid,uid,gid,comm,unit,container,host,level,message,record\r\n"
    assert CsvRows(["m"]).show([message]).data.endswith(",far,ä\r\n".encode())
