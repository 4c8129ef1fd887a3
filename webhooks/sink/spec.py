"""`slow-body,status=503:0.3` as a value: behaviours in their order, each with its probability. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from webhooks.sink.answer import Answer
from webhooks.sink.behaviours import BEHAVIOURS, Behaviour


class BadBehaviour(ValueError):
    """What was asked for cannot be done; the message says why, and what can."""


@dataclass(frozen=True, slots=True)
class Item:
    """One behaviour as it was asked for; `probability` is 0 to 1."""

    name: str
    argument: str
    probability: float

    @property
    def label(self) -> str:
        """As it is written, without the probability."""
        return f"{self.name}={self.argument}" if BEHAVIOURS[self.name].argument else self.name


@dataclass(frozen=True, slots=True)
class Spec:
    """What a sink was asked to do."""

    items: tuple[Item, ...]

    def draw(self, uniform: Callable[[], float], now: float) -> tuple[Answer, tuple[str, ...]]:
        """The answer to one request, and which behaviours made it; each is drawn by itself, later ones win."""
        answer, labels = Answer(), []
        for item in self.items:
            if item.probability >= 1 or uniform() < item.probability:
                answer = BEHAVIOURS[item.name].change(answer, item.argument, now)
                labels.append(item.label)
        return answer, tuple(labels)


def parse_spec(texts: Sequence[str]) -> Spec:
    """`NAME[=ARGUMENT][:PROBABILITY]`, several with commas. Raises BadBehaviour."""
    parts = [part.strip() for text in texts for part in text.split(",")]
    spec = Spec(tuple(_item(part) for part in parts if part))
    alone = [item for item in spec.items if item.name == "no-accept"]
    if alone and (len(spec.items) > 1 or alone[0].probability < 1):
        raise BadBehaviour("no-accept is of the whole sink: it goes with no other behaviour and no probability")
    return spec


def _item(text: str) -> Item:
    name, _, rest = text.partition("=")
    argument: str | None = rest
    if "=" not in text:
        name, argument = text, None
        name, chance = _chance(name)
    else:
        argument, chance = _chance(rest)
    behaviour = BEHAVIOURS.get(name)
    if behaviour is None:
        near = get_close_matches(name, BEHAVIOURS, n=1)
        raise BadBehaviour(f"there is no behaviour {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
    return Item(name, _argument(name, behaviour, argument), chance)


def _chance(text: str) -> tuple[str, float]:
    """What stands before the last colon, if what stands behind it is a number; a URL's port is none below 1."""
    head, colon, tail = text.rpartition(":")
    if not colon:
        return text, 1.0
    try:
        chance = float(tail)
    except ValueError:
        return text, 1.0
    if not 0 <= chance <= 1:
        if "//" in head:
            return text, 1.0
        raise BadBehaviour(f"{text}: a probability is between 0 and 1, not {tail}")
    return head, chance


def _argument(name: str, behaviour: Behaviour, given: str | None) -> str:
    wanted = behaviour.argument
    if wanted is None:
        if given is not None:
            raise BadBehaviour(f"{name} takes no value")
        return ""
    value = wanted.default if given is None else given
    if value is None:
        raise BadBehaviour(f"{name} needs a value: {name}={wanted.name}")
    if not wanted.check(value):
        raise BadBehaviour(f"{name}={value} cannot be: {wanted.name} is expected")
    return value
