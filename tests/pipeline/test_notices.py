"""What an operator is told at the start."""

from __future__ import annotations

from pathlib import Path

from pipeline.notices import notices
from pipeline.roster import Providers
from tests.house import make_settings

LACKING = Providers({}, {"luma": ("LUMA_API_KEY",), "google_veo": ("GOOGLE_VEO_PROJECT", "GOOGLE_VEO_CREDENTIALS")})


def test_who_is_asked_by_default_and_lacks_something_is_named_with_it(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, fallback="runway,luma,luma:ray-3.2")
    told = notices(settings, LACKING, secrets_in=None, anyone=False)
    assert [line for line in told if "needs" in line] == [
        "FALLBACK=luma needs LUMA_API_KEY: until then it is not asked"
    ]


def test_all_there_is_to_know(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, webhook_url="http://localhost:3000/hook", allowed_networks="10.0.0.0/8")
    told = " / ".join(notices(settings, LACKING, secrets_in=tmp_path, anyone=True))
    for word in ("there is no key", str(tmp_path), "10.0.0.0/8", "PROVIDER=mock", "no webhook will be sent"):
        assert word in told
