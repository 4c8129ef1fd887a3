"""Is this really a playable video? `probe` reads the headers of a file: `Video`, or `InvalidMedia` with the reason."""

from pipeline.media.faults import InvalidMedia, MediaFault
from pipeline.media.probe import Video, probe

__all__ = ["InvalidMedia", "MediaFault", "Video", "probe"]
