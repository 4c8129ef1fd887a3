"""Names that `extra` may not use, whoever is asked and however deep they stand: what multiplies the price, or sends
results and calls elsewhere.

A name counts whatever its spelling: `numOutputs`, `num_outputs` and `NUM-OUTPUTS` are one, as are the parts of
`input[duration]`. The list is a rule of thumb, made from the parameters of the providers' official clients of 2026-11
and of gateways in front of them. It rather refuses too much: a name that does no harm at a provider can be allowed.
"""

from __future__ import annotations

import re

_COUNT = "would change how many are made: one request makes and prices one video"
_LENGTH = "would change the length, and so the price: use parameters.duration"
_SIZE = "would change the size, and so the price: use parameters.resolution and parameters.aspectRatio"
_EFFORT = "would change the price: quality and effort cost more at most providers"
_SOUND = "would change the price: use parameters.audio"
_MODEL = "would change who is asked, and so the price: use model, provider and fallback"
_CALLBACK = "would change who is told of the work: Dailies asks for callbacks itself"
_PLACE = "would change where requests or results go"
_CHAIN = "would make it a part of other work, whose price nobody knows here"
_INPUT = "would give further inputs, which some providers charge for: use parameters.image and parameters.lastImage"

_MADE = "(outputs?|videos?|samples?|images?|generations?|variants?|results?|candidates?|clips?|sequences?)"
_RULES = (
    (_COUNT, rf"n|count|(n|num|number|numberof|max|total){_MADE}(per.*)?|{_MADE}count|batch(size|count)?"),
    (_LENGTH, ".*duration.*|.*seconds.*|(video|clip|output|total|max|min)?length"),
    (_LENGTH, "(n|num|numberof|total|video|output|max|num)?(interpolated)?frames|frames?(num|number|count|rate|per).*"),
    (_LENGTH, "(.*[a-z])?fps"),
    (_SIZE, ".*resolution.*|(video|output|image|target|frame|max)?(size|width|height|pixels|megapixels|dimensions)"),
    (_EFFORT, "(video|output|render)?quality|mode|servicetier|(num|n)?(inference|sampling|diffusion|denoising)?steps"),
    (_EFFORT, ".*upscal.*|superresolution.*|scalefactor"),
    (_SOUND, "(generate|enable|with)(audio|sound)"),
    (_MODEL, "models?|model(id|ids|name|version)|fallbacks?(models?)?|customllmprovider"),
    (_CALLBACK, ".*webhook.*|.*callback.*|notify.*|notifications?.*|pubsub.*"),
    (_PLACE, ".*(storage|gcs|s3)(uri|url|bucket|path)?|(output|result)(uri|url|bucket|path)|apibase|baseurl|apikey"),
    (_PLACE, "extra(body|headers|query|params)|syncmode"),
    (_CHAIN, "previous.*id|cachedcontent|continuation.*|environment|drafttaskid"),
    (_INPUT, "(input)?references|content|keyframes|promptvideos?|.*(videos?|audios?)ur[li]s?"),
    (_INPUT, ".*reference(image|audio|video)s?(ur[li]s?)?|multi(prompt|shot)s?.*|voiceids?|(image|video|audio)refs?"),
)
_WORDS = tuple((why, re.compile(names)) for why, names in _RULES)
_PARTS = re.compile(r"[\[\].:/]+")
_NOISE = re.compile(r"[^a-z0-9]+")


def plain(name: str) -> str:
    """A name, or a dotted path, without what spellings differ in: `Response_Format.uri` is `responseformat.uri`."""
    return ".".join(_NOISE.sub("", part) for part in _PARTS.split(name.casefold()))


def refused(name: str) -> str | None:
    """Why no provider's `extra` may have a member of that name, or None where it may."""
    parts = plain(name).split(".")
    return next((why for why, names in _WORDS if any(map(names.fullmatch, parts))), None)
