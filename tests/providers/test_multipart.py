"""Forms: what our calls write, the mock's parser reads, and nothing else."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.mock.multipart import MAX_PARTS, Form, parse
from providers.mock.order import Refusal
from providers.wire import Call

pytestmark = pytest.mark.anyio

TYPE = "multipart/form-data; boundary=xyz"
NAMES = st.text(st.characters(codec="ascii", exclude_characters='"\\\r\n', min_codepoint=32), min_size=1).filter(
    lambda name: name == name.strip()
)


async def written(**call):
    async with httpx.AsyncClient() as client:
        request = Call("POST", "http://mock.test/", **call).request(client)
        return request.headers["content-type"], await request.aread()


@pytest.fixture
def parts():
    return b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--xyz--\r\n'


async def test_what_a_call_writes_is_read_again():
    picture = bytes(range(256)) + b"\r\n--x\r\n\n\r"
    form = {"prompt": "a fox é\r\n--", "seed[]": ["1", "2"], "empty": ""}
    read = parse(*await written(form=form, files={"input_reference": ("a.png", picture, "image/png")}))
    assert read.texts == {"prompt": ["a fox é\r\n--"], "seed[]": ["1", "2"], "empty": [""]}
    assert read.files == {"input_reference": ("image/png", picture)}


@given(st.binary(max_size=200), NAMES, st.text(max_size=50))
def test_any_bytes_survive(content, name, text):
    boundary = "q" * 60
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
        + text.encode()
        + f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="f"; filename="b"\r\n\r\n'.encode()
        + content
        + f"\r\n--{boundary}--\r\n".encode()
    )
    read = parse(f'multipart/form-data; boundary="{boundary}"', body)
    assert (read.texts[name], read.files["f"]) == ([text], ("text/plain", content))


def test_the_small_form_is_a_form(parts):
    assert parse(TYPE, parts) == Form({"a": ["1"]}, {})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda kind, body: ("", body),
        lambda kind, body: ("application/json", body),
        lambda kind, body: ("multipart/form-data", body),
        lambda kind, body: ("multipart/form-data; boundary=é", body),
        lambda kind, body: (kind, b""),
        lambda kind, body: (kind, b"hello" + body),
        lambda kind, body: (kind, body[:-6]),
        lambda kind, body: (kind, body.replace(b'; name="a"', b"")),
        lambda kind, body: (kind, body.replace(b'"a"', b'""')),
        lambda kind, body: (kind, body.replace(b"\r\n\r\n", b"\r\n")),
        lambda kind, body: (kind, body.replace(b"1", b"\xff")),
        lambda kind, body: (kind, body[: body.index(b"--xyz--")] * (MAX_PARTS + 1) + b"--xyz--"),
    ],
)
def test_anything_else_is_400(parts, spoil):
    with pytest.raises(Refusal) as caught:
        parse(*spoil(TYPE, parts))
    assert caught.value.status == 400
