"""Chains of candidates for generations that tests write by themselves."""

from pipeline.chain import Chain, settle
from providers.base import VideoRequest
from providers.catalogue import load_catalogue

MOCK_CHAIN = Chain([settle(VideoRequest("a fox"), "mock", load_catalogue("mock"))])
