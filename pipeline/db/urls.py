"""DATABASE_URL as people write it: also with several hosts, as PostgreSQL's own programs take it.

No error repeats what it was given: what cannot be read may be a password.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

_HOSTS = re.compile(
    r"(?P<scheme>postgresql(?:\+psycopg)?)://(?P<login>[^/?]*@)?(?P<hosts>[^/?@]*,[^/?@]*)"
    r"(?P<rest>/[^@?]*(?:\?.*)?|\?.*)?",
    re.DOTALL,
)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?")


def parse_url(url: str) -> URL:
    """The URL of a database; `postgresql://user@h1:5432,h2/name` too, which SQLAlchemy takes only in another form.

    Raises ValueError for one that nobody could use.
    """
    if url.partition("?")[0].count("@") > 1:
        raise ValueError("it has more than one @: in a name or a password write %40 (and %2F for /, %3F for ?)")
    several = _HOSTS.fullmatch(url)
    if several is None:
        return _with_socket(_made(url))
    found = [_HOST.fullmatch(host) for host in several["hosts"].split(",")]
    if any(host is None for host in found):
        raise ValueError("its hosts are no hosts with their ports, such as db1:5432,db2:5432")
    hosts = [match for match in found if match is not None]
    one = _made(f"{several['scheme']}://{several['login'] or ''}{several['rest'] or ''}")
    return one.update_query_dict(
        {
            "host": ",".join(match["host"].strip("[]") for match in hosts),
            "port": ",".join(match["port"] or "5432" for match in hosts),
        }
    )


def _made(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(
            "it should look like postgresql://user:password@host:5432/name; in a name or a password write %40 for @,"
            " %2F for /, %3A for :, %23 for # and %3F for ?"
        ) from None


def _with_socket(url: URL) -> URL:
    """A folder of sockets in the host's place, `%2Fvar%2Frun%2Fpostgresql`, which SQLAlchemy takes only as `?host=`."""
    folder = unquote(url.host or "")
    if not folder.startswith("/"):
        return url
    port = {} if url.port is None else {"port": str(url.port)}
    return url._replace(host=None, port=None).update_query_dict({"host": folder} | port)
