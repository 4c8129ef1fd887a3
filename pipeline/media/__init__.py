"""Is this really a playable video? `probe` reads only headers of a file on disk and answers with `Video` or `InvalidMedia`."""

from pipeline.media.faults import InvalidMedia, MediaFault
from pipeline.media.probe import Video, probe

__all__ = ["InvalidMedia", "MediaFault", "Video", "probe"]
