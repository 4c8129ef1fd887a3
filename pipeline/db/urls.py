"""DATABASE_URL as people write it: also with several hosts, as PostgreSQL's own programs take it."""

from __future__ import annotations

import re

from sqlalchemy.engine import URL, make_url

_HOSTS = re.compile(
    r"(?P<scheme>postgresql(?:\+psycopg)?)://(?P<login>[^/?]*@)?(?P<hosts>[^/?@]*,[^/?@]*)(?P<rest>[/?].*)?", re.DOTALL
)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?")


def parse_url(url: str) -> URL:
    """The URL of a database; `postgresql://user@h1:5432,h2/name` too, which SQLAlchemy takes only in another form.

    Raises sqlalchemy.exc.ArgumentError or ValueError for one that nobody could use.
    """
    several = _HOSTS.fullmatch(url)
    if several is None:
        return make_url(url)
    found = [_HOST.fullmatch(host) for host in several["hosts"].split(",")]
    if any(host is None for host in found):
        raise ValueError(f"{several['hosts']!r} are no hosts with their ports, such as db1:5432,db2:5432")
    hosts = [match for match in found if match is not None]
    one = make_url(f"{several['scheme']}://{several['login'] or ''}{several['rest'] or ''}")
    return one.update_query_dict(
        {
            "host": ",".join(match["host"].strip("[]") for match in hosts),
            "port": ",".join(match["port"] or "5432" for match in hosts),
        }
    )
