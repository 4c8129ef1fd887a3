"""Who of those that are asked can do what is asked, and for how much: the chain of a request, or what is wrong with it.

Pure: from what the providers declare, before anything is paid. A provider that a request names has to be able to do
it; one that only FALLBACK names is left out where it cannot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.api.service import Service
from pipeline.chain import Candidate, Chain, settle
from pipeline.schemas import GenerationCreate
from providers.base import VideoRequest
from providers.checks import Problem as Refused
from providers.checks import check


@dataclass(frozen=True, slots=True)
class Finding:
    """A member of the body that cannot be taken, under the code of the problem that it is."""

    code: str
    pointer: str
    detail: str
    allowed: list[Any] | None = None

    def entry(self) -> dict[str, Any]:
        """As problems list it."""
        entry: dict[str, Any] = {"pointer": self.pointer, "detail": self.detail}
        return entry if self.allowed is None else entry | {"allowed": self.allowed}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One that is asked for: by the members at `at`, or by FALLBACK."""

    provider: str
    model: str | None
    extra: Mapping[str, Any]
    at: str = ""
    by_default: bool = False


@dataclass(slots=True)
class _Found:
    candidates: list[Candidate] = field(default_factory=list)
    wrong: list[Finding] = field(default_factory=list)
    lacking: list[Finding] = field(default_factory=list)
    unable: list[Finding] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def leave_out(self, wanted: _Wanted, reason: str) -> None:
        self.left_out.append((wanted.provider, reason))


def chain_for(service: Service, body: GenerationCreate, request: VideoRequest) -> tuple[Chain | None, list[Finding]]:
    """The candidates that can be asked, or None and what is wrong. `request` is the body in the providers' words."""
    found = _Found()
    for wanted in _wanted(service, body):
        _look(service, wanted, request, found)
    if not found.wrong and not found.candidates:
        return None, found.unable or found.lacking
    return (None if found.wrong else Chain(found.candidates, found.left_out)), found.wrong


def _wanted(service: Service, body: GenerationCreate) -> Iterator[_Wanted]:
    yield _Wanted(body.provider or service.default_provider, body.model, body.extra)
    for index, other in enumerate(body.fallback or ()):
        yield _Wanted(other.provider, other.model, other.extra, f"/fallback/{index}")
    if body.provider is None and body.model is None and body.fallback is None:
        for name, model in service.fallback:
            yield _Wanted(name, model, {}, by_default=True)


def _look(service: Service, wanted: _Wanted, request: VideoRequest, found: _Found) -> None:
    """Put one that is asked for where it belongs."""
    provider = service.providers.get(wanted.provider)
    if provider is None:
        finding = _not_served(service, wanted)
        (found.lacking if finding.code == "provider_not_configured" else found.wrong).append(finding)
        found.leave_out(wanted, finding.detail)
        return
    asked = replace(request, model=wanted.model, extra=wanted.extra)
    allowed = service.extra_allowed.get(wanted.provider, frozenset())
    problems = [_placed(problem, wanted) for problem in check(asked, provider.capabilities, allowed)]
    if problems:
        (found.unable if wanted.by_default else found.wrong).extend(problems)
        found.leave_out(wanted, problems[0].detail)
        return
    candidate = settle(asked, wanted.provider, provider.capabilities.catalogue)
    if not _is_new(candidate, found.candidates):
        if not wanted.by_default:
            detail = f"{candidate.provider!r} with the model {candidate.model!r} comes before it already"
            found.wrong.append(Finding("invalid_request", wanted.at, detail))
        return
    found.candidates.append(candidate)


def _is_new(candidate: Candidate, known: Sequence[Candidate]) -> bool:
    return all((each.provider, each.model) != (candidate.provider, candidate.model) for each in known)


def _placed(problem: Refused, wanted: _Wanted) -> Finding:
    """A fallback's own members are pointed at; of the shared ones it says which it does not take."""
    allowed = None if problem.allowed is None else list(problem.allowed)
    if not wanted.at or problem.pointer.startswith(("/model", "/extra")):
        return Finding("unsupported_parameters", wanted.at + problem.pointer, problem.detail, allowed)
    words = f"{problem.pointer.removeprefix('/')}: {problem.detail}"
    listed = "" if allowed is None else f"; taken would be {', '.join(map(str, allowed))}"
    return Finding("unsupported_parameters", wanted.at, words + listed, allowed)


def _not_served(service: Service, wanted: _Wanted) -> Finding:
    known: list[Any] = sorted(service.providers)
    pointer, name = f"{wanted.at}/provider", wanted.provider
    if name in service.lacking:
        needed = " and ".join(service.lacking[name])
        detail = f"{name!r} needs {needed} to be set by the operator of this service"
        return Finding("provider_not_configured", pointer, detail, known)
    return Finding("unknown_provider", pointer, f"{name!r} is no provider", known)
