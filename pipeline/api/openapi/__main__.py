"""Print the OpenAPI document: `python -m pipeline.api.openapi`."""

import json
import sys

from pipeline.api.openapi import document

json.dump(document(), sys.stdout, indent=1)
